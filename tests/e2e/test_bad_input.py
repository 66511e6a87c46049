"""What a user can get wrong: one line that names thing and remedy, exit code 2, nothing half-written."""

import json
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tests.e2e import COLUMNS, QA, SCRIPT, SPLITS, TEXTS, files, muse, process, write_data, write_task

Command = list[object]
ERROR = "muse-eval: error: "
LONG = "owl " * 2000


class World:
    """A folder with the small task, its data and a model, any of which a case may spoil."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        self.task = write_task(root / "village.yaml")
        self.data = write_data(root / "data")
        self.results, self.out = root / "results", root / "out"

    def copy(self) -> Path:
        """Copy the model, to be spoiled."""
        return shutil.copytree(self.model, self.root / "model")

    def generation(self, text: str) -> Path:
        """Copy the model with another generation_config.json."""
        copy = self.copy()
        (copy / "generation_config.json").write_text(text)
        return copy

    def without(self, pattern: str) -> Path:
        """Copy the model without some of its files."""
        copy = self.copy()
        for path in list(copy.glob(pattern)):
            path.unlink()
        return copy

    def config(self, **changes: Any) -> Path:
        """Copy the model with other values in its config.json; None removes a key."""
        copy = self.copy()
        config = json.loads((copy / "config.json").read_text(encoding="utf-8")) | changes
        kept = {key: value for key, value in config.items() if value is not None}
        (copy / "config.json").write_text(json.dumps(kept), encoding="utf-8")
        return copy

    def weights(self, change: Callable[[dict[str, Any]], object]) -> Path:
        """Copy the model with other weights."""
        copy = self.copy()
        weights = load_file(copy / "model.safetensors")
        change(weights)
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        return copy

    def bytes_of_weights(self, change: Callable[[bytes], bytes]) -> Path:
        """Copy the model with other bytes in its weights file."""
        copy = self.copy()
        path = copy / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))
        return copy

    def sharded(self) -> Path:
        """Copy the model as two shards with an index, of which the second is then lost."""
        copy = self.copy()
        path = copy / "model.safetensors"
        weights = load_file(path)
        names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        where = {key: names[place % 2] for place, key in enumerate(weights)}
        for name in names:
            part = {key: weights[key] for key in weights if where[key] == name}
            save_file(part, copy / name, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": where}
        (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        path.unlink()
        (copy / names[1]).unlink()
        return copy

    def pickled(self) -> Path:
        """Copy the model with its weights pickled."""
        import torch
        from safetensors.torch import load_file as load_tensors

        copy = self.copy()
        torch.save(load_tensors(copy / "model.safetensors"), copy / "pytorch_model.bin")
        (copy / "model.safetensors").unlink()
        return copy

    def tokenizer(self, **vocabulary: int) -> Path:
        """Make a tokenizer of words; what it does not know is the word ``unknown``."""
        from transformers import PreTrainedTokenizerFast

        words = Tokenizer(WordLevel(vocabulary, unk_token="unknown"))
        words.pre_tokenizer = Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(self.root / "words")
        return self.root / "words"

    def split(self, name: str, rows: object) -> Path:
        """Write other rows, or other text, in the place of a split's."""
        text = rows if isinstance(rows, str) else json.dumps(rows)
        (self.data / f"{name}.json").write_text(text, encoding="utf-8")
        return self.data

    def without_split(self, name: str) -> Path:
        (self.data / f"{name}.json").unlink()
        return self.data

    def spoiled_task(self, **changes: Any) -> Path:
        return write_task(self.task, **changes)

    def column(self, name: str, **changes: Any) -> Path:
        """Write the task with other values in one column."""
        return self.spoiled_task(columns={**COLUMNS, name: {**COLUMNS[name], **changes}})

    def file(self, name: str, text: str = "") -> Path:
        (self.root / name).write_text(text, encoding="utf-8")
        return self.root / name

    def folder(self, name: str) -> Path:
        (self.root / name).mkdir(parents=True, exist_ok=True)
        return self.root / name

    def run(self, *more: object, **options: object) -> Command:
        """Return the command that scores the model, with other options; None leaves one out."""
        given = {"model": self.model, "task": self.task, "data_dir": self.data, "results": self.results}
        return ["run", *flags({**given, **options}), *more]

    def unlearn(self, *more: object, **options: object) -> Command:
        """Return the command that unlearns."""
        given = {"method": "simnpo_gdr", "model": self.model, "task": self.task, "data_dir": self.data}
        return ["unlearn", *flags({**given, "out": self.out, **options}), *more]

    def pipeline(self, **options: object) -> Command:
        """Return the command that does all."""
        given = {"task": self.task, "target": self.model, "retrain": self.model, "data_dir": self.data}
        return ["pipeline", *flags({**given, "methods": "ga", "results": self.results, **options}), "-q"]


def flags(options: dict[str, object]) -> Command:
    given = {name: value for name, value in options.items() if value is not None}
    return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]


@pytest.fixture
def world(tmp_path: Path, tiny_model: Path) -> World:
    return World(tmp_path, tiny_model)


Case = tuple[Callable[[World], Command], tuple[str, ...]]
NAMES: dict[str, Case] = {
    "task": (
        lambda w: w.run(task="muse_boks"),
        ("no task 'muse_boks'", "did you mean 'muse_books'?", "muse_mini"),
    ),
    "task file": (lambda w: w.run(task="no/such.yaml"), ("task file no/such.yaml does not exist",)),
    "task of a model": (
        lambda w: w.run(task=None, data_dir=None),
        ("cannot tell the task of", "tiny", "--task", "muse_books, muse_mini, muse_news"),
    ),
    "task in data show": (lambda _: ["data", "show", "--task", "muse_new"], ("did you mean 'muse_news'?",)),
    "task seed": (
        lambda _: ["data", "show", "--task", "muse_news-seed3"],
        ("task muse_news has no seed", "use muse_news"),
    ),
    "split": (
        lambda _: ["data", "show", "--task", "muse_mini", "--split", "raw/forgot"],
        ("no split 'raw/forgot'", "did you mean 'raw/forget'?"),
    ),
    "column": (
        lambda w: w.run(metrics="verbmem_f,knowmen_f"),
        ("no column 'knowmen_f'", "did you mean 'knowmem_f'?"),
    ),
    "no column": (lambda w: w.run(metrics=""), ("--metrics",)),
    "only commas": (lambda w: w.run(metrics=" , "), ("--metrics",)),
    "metric": (
        lambda w: w.run(task=w.column("verbmem_f", metric="verbmen")),
        ("no metric 'verbmen'", "did you mean 'verbmem'?"),
    ),
    "metric's split": (
        lambda w: w.run(task=w.column("verbmem_f", splits={"forgotten": "verbmem/forget"})),
        ("verbmem_f", "forget"),
    ),
    "method": (
        lambda w: w.unlearn(method="simpno_gdr"),
        ("no method 'simpno_gdr'", "did you mean 'simnpo_gdr'?"),
    ),
    "pipeline's method": (
        lambda w: w.pipeline(methods="ga,npo_grd"),
        ("no method 'npo_grd'", "did you mean 'npo_gdr'?"),
    ),
    "no method": (lambda w: w.pipeline(methods=","), ("--methods",)),
    "no seed": (lambda w: w.pipeline(seeds=""), ("--seeds",)),
    "seed that is no number": (lambda w: w.pipeline(seeds="1,x"), ("--seeds 1,x", "whole numbers")),
    "engine": (lambda w: w.run(engine="hff"), ("no engine 'hff'", "did you mean 'hf'?")),
    "dtype": (lambda w: w.run(dtype="float8"), ("dtype", "'bfloat16'", "float8")),
    "training dtype": (lambda w: w.unlearn(dtype="float16"), ("dtype", "'mixed'", "float16")),
    "device": (lambda w: w.run(set="engine.device=gpu"), ("engine.device", "gpu", "cuda")),
    "absent device": (lambda w: w.run(set="engine.device=cuda:77"), ("engine.device", "cuda:77")),
    "a pin that nothing heeds": (
        lambda w: w.run(model_revision="main"),
        ("--model-revision goes with --engine server, not hf", "NAME@REVISION pins a hub model"),
    ),
    "a key that nothing heeds": (lambda w: w.run(api_key_env="KEY"), ("--api-key-env", "--engine server")),
    "a retrain server without its model": (
        lambda w: w.run(engine="server", base_url="http://localhost:1", retrain_revision="r1"),
        ("--retrain-revision needs --retrain",),
    ),
    "list": (lambda _: ["list", "task"], ("no list 'task'", "did you mean 'tasks'?")),
    "format": (
        lambda _: ["leaderboard", "--format", "docx"],
        ("no format 'docx'", "csv, html, json, latex, md"),
    ),
    "run's name": (lambda w: w.run(name="a/b"), ("'a/b'", "letters, digits")),
    "empty name": (lambda w: w.run(name=""), ("name",)),
}
MODELS: dict[str, Case] = {
    "missing folder": (lambda w: w.run(model="./nowhere"), ("model folder ./nowhere does not exist",)),
    "missing deep folder": (lambda w: w.run(model="a/b/c"), ("model folder a/b/c does not exist",)),
    "neither folder nor id": (lambda w: w.run(model="my model"), ("'my model'", "owner/name")),
    "empty": (lambda w: w.run(model=""), ("'' is neither a folder nor a hub id",)),
    "a file": (lambda w: w.run(model=w.file("weights.pt")), ("weights.pt", "folder")),
    "no config": (lambda w: w.run(model=w.without("config.json")), ("model has no config.json",)),
    "no weights": (lambda w: w.run(model=w.without("*.safetensors")), ("model has no weights",)),
    "empty folder": (lambda w: w.run(model=w.folder("void")), ("void has no config.json",)),
    "truncated weights": (
        lambda w: w.run(model=w.bytes_of_weights(lambda whole: whole[:-100])),
        ("model.safetensors is truncated or corrupt", "fetch or save it again"),
    ),
    "empty weights": (
        lambda w: w.run(model=w.bytes_of_weights(lambda _: b"")),
        ("model.safetensors is truncated or corrupt", "fetch or save it again"),
    ),
    "corrupt header": (
        lambda w: w.run(model=w.bytes_of_weights(lambda whole: b"\xff" * 8 + whole[8:])),
        ("model.safetensors is truncated or corrupt", "fetch or save it again"),
    ),
    "corrupt generation configuration": (
        lambda w: w.run(model=w.generation("{")),
        ("generation_config.json:1: not valid JSON", "where answers end is unknown; mend or remove it"),
    ),
    "lost shard": (
        lambda w: w.run(model=w.sharded()),
        ("model-00002-of-00002.safetensors", "its index names", "fetch it again"),
    ),
    "lacking parameters": (
        lambda w: w.run(model=w.weights(lambda all_: all_.pop("model.norm.weight"))),
        ("model.norm.weight", "stay random", "again"),
    ),
    "misshapen parameters": (
        lambda w: w.run(
            model=w.weights(lambda all_: all_.update({"model.norm.weight": all_["model.norm.weight"][:-1]}))
        ),
        ("model.norm.weight",),
    ),
    "fewer layers than configured": (
        lambda w: w.run(model=w.config(num_hidden_layers=3)),
        ("model.layers.2.", "stay random"),
    ),
    "lacking parameters, unlearned": (
        lambda w: w.unlearn(model=w.weights(lambda all_: all_.pop("model.norm.weight"))),
        ("model.norm.weight", "stay random"),
    ),
    "config not JSON": (
        lambda w: w.run(model=_written(w.copy() / "config.json", "{model: llama")),
        ("config.json:1: not valid JSON", "not a valid model configuration"),
    ),
    "config a list": (
        lambda w: w.run(model=_written(w.copy() / "config.json", "[]")),
        ("config.json must be a mapping", "not a valid model configuration"),
    ),
    "unknown architecture": (
        lambda w: w.run(model=w.config(model_type="nonesuch", architectures=["NonesuchForCausalLM"])),
        ("config.json: transformers", "knows no model_type 'nonesuch'", "upgrade"),
    ),
    "no architecture": (lambda w: w.run(model=w.config(model_type=None)), ("model_type",)),
    "no language model": (
        lambda w: w.run(model=w.config(model_type="vit", architectures=["ViTModel"])),
        ("model", "ViT"),
    ),
    "impossible config": (
        lambda w: w.run(model=w.config(hidden_size="big")),
        ("config.json is not a valid llama configuration", "hidden_size"),
    ),
    "no attention head": (
        lambda w: w.run(model=w.config(num_attention_heads=0)),
        ("config.json is not a valid llama configuration", "zero"),
    ),
    "pickled weights": (
        lambda w: w.run(model=w.pickled()),
        ("only pickled weights (pytorch_model.bin)", "can run code", "--allow-pickle"),
    ),
    "corrupt pickle": (
        lambda w: w.run(
            "--allow-pickle", model=_written(w.without("*.safetensors") / "pytorch_model.bin", "x")
        ),
        ("model",),
    ),
    "retrain missing": (lambda w: w.run(retrain="./nowhere"), ("model folder ./nowhere does not exist",)),
    "target missing": (lambda w: w.unlearn(model="./nowhere"), ("model folder ./nowhere does not exist",)),
    "pipeline without a target": (
        lambda w: w.pipeline(target=None),
        ("task village names no target model", "--target"),
    ),
}
TOKENIZERS: dict[str, Case] = {
    "none anywhere": (
        lambda w: w.run(model=w.without("tokenizer*")),
        ("model carries no tokenizer", "--tokenizer"),
    ),
    "none anywhere, unlearned": (
        lambda w: w.unlearn(model=w.without("tokenizer*")),
        ("model carries no tokenizer", "--tokenizer"),
    ),
    "folder without": (
        lambda w: w.run(tokenizer=w.folder("void")),
        ("void holds no tokenizer", "tokenizer.json"),
    ),
    "missing folder": (lambda w: w.run(tokenizer="./nowhere"), ("./nowhere", "tokenizer")),
    "neither folder nor id": (lambda w: w.run(tokenizer="my words"), ("'my words'", "owner/name")),
    "corrupt": (
        lambda w: w.run(model=_written(w.copy() / "tokenizer.json", "{")),
        ("cannot load the tokenizer of model",),
    ),
    "of a larger vocabulary": (
        lambda w: w.run(tokenizer=w.tokenizer(unknown=5000, mill=1)),
        ("does not fit", "5000", "320", "--tokenizer"),
    ),
    "of a larger vocabulary, unlearned": (
        lambda w: w.unlearn(tokenizer=w.tokenizer(unknown=5000, mill=1)),
        ("5000", "320", "--tokenizer"),
    ),
}
DATA: dict[str, Case] = {
    "missing folder": (lambda w: w.run(data_dir="nowhere"), ("--data-dir nowhere", "folder")),
    "a file": (lambda w: w.run(data_dir=w.file("rows.json")), ("rows.json is not a folder",)),
    "missing file": (
        lambda w: w.run(data_dir=w.without_split("knowmem/retain_qa")),
        ("knowmem/retain_qa.json does not exist", "the folder has", "knowmem/forget_qa"),
    ),
    "empty folder": (lambda w: w.run(data_dir=w.folder("void")), ("does not exist", "no split at all")),
    "missing file, unlearned": (
        lambda w: w.unlearn(data_dir=w.without_split("raw/forget")),
        ("raw/forget.json does not exist",),
    ),
    "not JSON": (
        lambda w: w.run(data_dir=w.split("verbmem/forget", '[\n{"prompt": "a",\n"gt": }]')),
        ("verbmem/forget.json:3: not valid JSON",),
    ),
    "not UTF-8": (
        lambda w: w.run(data_dir=_latin(w.data / "verbmem" / "forget.json").parents[1]),
        ("verbmem/forget.json cannot be read",),
    ),
    "not a list": (
        lambda w: w.run(data_dir=w.split("privleak/forget", {"text": ["a"]})),
        ("privleak/forget.json must be a list, got dict",),
    ),
    "empty list": (
        lambda w: w.run(data_dir=w.split("knowmem/forget_qa", [])),
        ("knowmem/forget_qa.json is empty", "question, answer"),
    ),
    "wrong keys": (
        lambda w: w.run(data_dir=w.split("knowmem/forget_qa", [{"query": "a", "answer": "b"}])),
        ("knowmem/forget_qa.json: row 0 has no 'question'", "query, answer"),
    ),
    "questions without answers": (
        lambda w: w.run(data_dir=w.split("knowmem/forget_qa", [QA[0], {"question": "Who?", "answer": ""}])),
        ("knowmem/forget_qa.json: row 1: 'answer' is empty",),
    ),
    "answer missing": (
        lambda w: w.run(data_dir=w.split("knowmem/retain_qa", [{"question": "Who?"}])),
        ("knowmem/retain_qa.json: row 0 has no 'answer'",),
    ),
    "null answer": (
        lambda w: w.run(data_dir=w.split("knowmem/forget_qa", [{"question": "Who?", "answer": None}])),
        ("knowmem/forget_qa.json: row 0: 'answer' must be text, got None",),
    ),
    "a number": (
        lambda w: w.run(data_dir=w.split("privleak/holdout", ["a", 7])),
        ("privleak/holdout.json: row 1", "7"),
    ),
    "text for a pair": (
        lambda w: w.run(data_dir=w.split("verbmem/forget", ["a"])),
        ("verbmem/forget.json: row 0 must have the keys prompt, gt",),
    ),
    "too few shots": (
        lambda w: w.run(data_dir=w.split("knowmem/forget_qa_icl", QA[:1])),
        ("2 in-context pairs", "1", "shots"),
    ),
    "longer prompt than the context": (
        lambda w: w.run(
            data_dir=w.split("verbmem/forget", [*SPLITS["verbmem/forget"], {"prompt": LONG, "gt": "x"}])
        ),
        ("verbmem_f forget[3]", "context of 1024", "--truncate"),
    ),
    "longer text than the context": (
        lambda w: w.run(data_dir=w.split("privleak/holdout", [*TEXTS, LONG])),
        ("privleak holdout[6]", "context of 1024", "--truncate"),
    ),
    "no room for new tokens": (
        lambda w: w.run("--truncate", set="verbmem_f.max_tokens=1024"),
        ("verbmem_f forget[0]", "1024"),
    ),
    "longer rows than the context": (
        lambda w: w.unlearn(data_dir=w.split("raw/forget", [LONG]), max_len=2000),
        ("context of 1024", "--max-len"),
    ),
    "show of an empty folder": (
        lambda w: ["data", "show", "--task", w.task, "--data-dir", w.folder("void")],
        ("--data-dir", "void has no split at all", "MUSE's loader"),
    ),
    "export of an empty folder": (
        lambda w: ["data", "export", "--task", w.task, "--data-dir", w.folder("void"), "--out", w.out],
        ("--data-dir", "void has no split at all"),
    ),
    "source that is no text": (
        lambda w: w.run(data_dir=w.split("knowmem/forget_qa", [{**QA[0], "source": ["a"]}])),
        ("knowmem/forget_qa.json: row 0: 'source' must be text",),
    ),
    "export where a file is": (
        lambda w: ["data", "export", "--task", w.task, "--data-dir", w.data, "--out", w.file("taken")],
        ("taken", "cannot write to", "move away what is in its place"),
    ),
}
TASKS: dict[str, Case] = {
    "unknown key": (
        lambda w: w.run(task=w.spoiled_task(colums={})),
        ("village.yaml: no key 'colums'", "did you mean 'columns'?"),
    ),
    "unknown key in a column": (
        lambda w: w.run(task=w.column("verbmem_f", gaol="lower")),
        ("village.yaml: columns.verbmem_f: no key 'gaol'", "did you mean 'goal'?"),
    ),
    "wrong type": (
        lambda w: w.run(task=w.spoiled_task(title=["Village"])),
        ("village.yaml: title: ", "string"),
    ),
    "wrong choice": (
        lambda w: w.run(task=w.column("verbmem_f", goal="low")),
        ("village.yaml: columns.verbmem_f.goal", "'lower'", "low"),
    ),
    "missing key": (
        lambda w: w.run(task=w.file("t.yaml", yaml.safe_dump({"name": "t"}))),
        ("t.yaml: title", "required"),
    ),
    "broken YAML": (
        lambda w: w.run(task=w.file("t.yaml", "name: t\ncolumns: {a: b\nsource: x: y\n")),
        ("t.yaml:3: not valid YAML",),
    ),
    "empty file": (lambda w: w.run(task=w.file("t.yaml")), ("t.yaml", "mapping")),
    "a folder": (lambda w: w.run(task=w.folder("t.yaml")), ("t.yaml", "cannot be read")),
    "no column": (lambda w: w.run(task=w.spoiled_task(columns={})), ("village.yaml", "columns")),
    "wrong parameter": (
        lambda w: w.run(task=w.column("privleak", params={"kk": 0.4})),
        ("column privleak: no parameter 'kk'", "did you mean 'k'?"),
    ),
    "retrain AUC out of bounds": (
        lambda w: w.run(task=w.spoiled_task(retrain_auc={"Min-40%": 1.5})),
        ("village.yaml: retrain_auc.Min-40%", "1.5"),
    ),
    "hub task without a repository": (
        lambda w: w.run(task=w.spoiled_task(data={"source": "hub"}), data_dir=None),
        ("village", "repo"),
    ),
    "name that is no folder": (lambda w: w.run(task=w.spoiled_task(name="a/b")), ("'a/b'",)),
}
SETTINGS: dict[str, Case] = {
    "no equals sign": (lambda w: w.run(set="privleak.k"), ("--set privleak.k", "COLUMN.PARAMETER=VALUE")),
    "no group": (lambda w: w.run(set="k=0.4"), ("--set k=0.4", "COLUMN.PARAMETER=VALUE")),
    "unknown group": (
        lambda w: w.run(set="privleek.k=0.4"),
        ("no group 'privleek'", "did you mean 'privleak'?"),
    ),
    "unknown parameter": (
        lambda w: w.run(set="knowmem_f.shot=1"),
        ("column knowmem_f: no parameter 'shot'", "did you mean 'shots'?"),
    ),
    "unknown engine setting": (
        lambda w: w.run(set="engine.devise=cpu"),
        ("--set engine: no parameter 'devise'", "did you mean 'device'?"),
    ),
    "given twice": (
        lambda w: w.run("--set", "privleak.k=0.3", set="privleak.k=0.2"),
        ("--set privleak.k is given twice",),
    ),
    "wrong kind": (lambda w: w.run(set="privleak.k=half"), ("column privleak: k", "half")),
    "list for a number": (lambda w: w.run(set="privleak.k=[0.1]"), ("column privleak: k",)),
    "nothing for a number": (lambda w: w.run(set="privleak.k="), ("column privleak: k",)),
    "fraction of a token": (lambda w: w.run(set="verbmem_f.max_tokens=1.5"), ("max_tokens", "1.5")),
    "wrong kind for the engine": (
        lambda w: w.run(set="engine.batch_tokens=many"),
        ("--set engine: batch_tokens", "many"),
    ),
    "column that is not scored": (
        lambda w: w.run(set="privleak.k=0.3", metrics="verbmem_f"),
        ("privleak", "--metrics"),
    ),
    "pipeline": (lambda w: w.pipeline(set="privleek.k=1"), ("no group 'privleek'",)),
}
NUMBERS: dict[str, Case] = {
    "limit 0": (lambda w: w.run(limit=0), ("limit", "greater than 0")),
    "limit -1": (lambda w: w.run(limit=-1), ("limit", "greater than 0")),
    "seed -1": (lambda w: w.run(seed=-1), ("seed", "greater than or equal to 0")),
    "seed 2**32": (lambda w: w.run(seed=2**32), ("seed", "less than")),
    "k 0": (lambda w: w.run(set="privleak.k=0"), ("column privleak: k", "greater than 0")),
    "k 1.5": (lambda w: w.run(set="privleak.k=1.5"), ("column privleak: k", "less than or equal to 1")),
    "k nan": (
        lambda w: w.run(set="privleak.k=.nan"),
        ("--set privleak.k: not valid YAML: a number must be finite",),
    ),
    "max_tokens 0": (lambda w: w.run(set="verbmem_f.max_tokens=0"), ("max_tokens", "greater than 0")),
    "shots -1": (lambda w: w.run(set="knowmem_f.shots=-1"), ("shots", "greater than or equal to 0")),
    "batch_tokens 0": (
        lambda w: w.run(set="engine.batch_tokens=0"),
        ("--set engine: batch_tokens", "greater than 0"),
    ),
    "lr 0": (lambda w: w.unlearn(lr=0), ("lr", "greater than 0")),
    "lr nan": (lambda w: w.unlearn(lr="nan"), ("lr",)),
    "lr inf": (lambda w: w.unlearn(lr="inf"), ("lr", "finite")),
    "epochs 0": (lambda w: w.unlearn(epochs=0), ("epochs", "greater than 0")),
    "batch size 0": (lambda w: w.unlearn(batch_size=0), ("batch_size", "greater than 0")),
    "micro-batch size 0": (lambda w: w.unlearn(micro_batch_size=0), ("micro_batch_size", "greater than 0")),
    "micro-batch size that does not divide": (
        lambda w: w.unlearn(micro_batch_size=3),
        ("--micro-batch-size 3", "divide"),
    ),
    "max len 1": (lambda w: w.unlearn(max_len=1), ("max_len", "greater than 1")),
    "beta 0": (lambda w: w.unlearn(beta=0), ("beta", "greater than 0")),
    "beta -1": (lambda w: w.unlearn(beta=-1), ("beta", "greater than 0")),
    "gamma nan": (lambda w: w.unlearn(gamma="nan"), ("gamma",)),
    "beta of a method without": (lambda w: w.unlearn(method="ga", beta=0.1), ("no parameter 'beta'", "ga")),
    "lambda -1": (lambda w: w.unlearn(**{"lambda": -1}), ("lambda", "greater than or equal to 0")),
    "set beta 0": (lambda w: w.unlearn("--set", "beta=0"), ("beta", "greater than 0")),
    "set unknown": (lambda w: w.unlearn("--set", "bta=1"), ("did you mean 'beta'?",)),
    "set without a value": (lambda w: w.unlearn("--set", "beta"), ("--set beta: write it as NAME=VALUE",)),
    "set and option": (lambda w: w.unlearn("--set", "beta=1", beta=2), ("--set beta is given twice",)),
    "preset unknown": (lambda w: w.unlearn(preset="card-book"), ("did you mean 'card-books'?",)),
    "preset of another method": (
        lambda w: w.unlearn(method="npo_gdr", preset="card-books"),
        ("preset card-books is for simnpo_gdr, not for npo_gdr",),
    ),
    "lambda of nothing": (
        lambda w: w.unlearn(method="ga", **{"lambda": 2}),
        ("λ weighs a retain term, and ga takes none beside it; use ga_gdr",),
    ),
    "finetune as a method": (lambda w: w.unlearn(method="finetune"), ("no method 'finetune'",)),
    "rmu's layer": (
        lambda w: w.unlearn("--set", "layer=9", method="rmu"),
        ("layer 9 is not below the last of the model's 2 layers",),
    ),
    "rmu with adapters": (
        lambda w: w.unlearn(method="rmu", lora="r=2"),
        ("rmu trains weights of its own choice; leave --lora out",),
    ),
    "rmu with another retain term": (
        lambda w: w.unlearn(method="rmu_gdr"),
        ("method rmu has no retain term to add; use rmu",),
    ),
    "epochs of a method made last": (
        lambda w: w.unlearn("--keep-checkpoints", method="whp"),
        ("whp makes its model after the last epoch; leave --keep-checkpoints out",),
    ),
    "training seed -1": (lambda w: w.unlearn(seed=-1), ("seed", "greater than or equal to 0")),
    "pipeline's epochs 0": (lambda w: w.pipeline(epochs=0), ("epochs", "greater than 0")),
    "pipeline's preset": (lambda w: w.pipeline(preset="paper"), ("did you mean 'paper-muse'?",)),
    "pipeline's adapters": (lambda w: w.pipeline(lora="alpha=2"), ("give the rank, for example r=16",)),
    "pipeline's lambda -1": (lambda w: w.pipeline(**{"lambda": -1}), ("lambda", "greater than")),
    "pipeline's dtype": (lambda w: w.pipeline(dtype="float8"), ("dtype", "float8")),
}
FOLDERS: dict[str, Case] = {
    "results below a file": (
        lambda w: w.run(results=w.file("taken") / "results"),
        ("taken/results", "another --results"),
    ),
    "results below a file, no cache": (
        lambda w: w.run("--no-cache", results=w.file("taken") / "results"),
        ("taken/results", "another --results"),
    ),
    "results that are a file": (lambda w: w.run(results=w.file("taken")), ("taken", "another --results")),
    "out below a file": (lambda w: w.unlearn(out=w.file("taken") / "out"), ("taken/out",)),
    "out that is a file": (lambda w: w.unlearn(out=w.file("taken")), ("taken", "--out")),
    "out that holds something else": (
        lambda w: w.unlearn(out=w.file("void/x").parent if w.folder("void") else None),
        ("void", "was not made by muse-eval", "another --out"),
    ),
    "out that is the target": (
        lambda w: w.unlearn("--overwrite", out=w.copy(), model=w.root / "model"),
        ("model is the model to start from", "another --out"),
    ),
    "pipeline's results below a file": (
        lambda w: w.pipeline(results=w.file("taken") / "results"),
        ("taken/results", "another"),
    ),
    "leaderboard of nothing": (
        lambda w: ["leaderboard", "--results", w.folder("void")],
        ("void holds no run", "muse-eval run"),
    ),
    "leaderboard of no folder": (
        lambda w: ["leaderboard", "--results", w.root / "nowhere"],
        ("nowhere holds no run", "muse-eval run"),
    ),
    "published numbers missing": (
        lambda w: ["leaderboard", "--results", _with_run(w), "--published", "nowhere.csv"],
        ("nowhere.csv does not exist",),
    ),
    "published numbers of another shape": (
        lambda w: ["leaderboard", "--results", _with_run(w), "--published", w.file("p.csv", "a,b\n1,2\n")],
        ("p.csv:1: the columns must be task,method",),
    ),
    "leaderboard below a file": (
        lambda w: ["leaderboard", "--results", _with_run(w), "--out", w.file("taken") / "board.csv"],
        ("taken", "another"),
    ),
    "leaderboard to a folder": (
        lambda w: ["leaderboard", "--results", _with_run(w), "--out", w.folder("void")],
        ("void is a folder; --out must name a file",),
    ),
    "check without baseline": (
        lambda w: ["check", "--results", _with_run(w), "--baseline", w.root / "nowhere.json"],
        ("nowhere.json does not exist", "check --update"),
    ),
    "check with a corrupt baseline": (
        lambda w: ["check", "--results", _with_run(w), "--baseline", w.file("b.json", '{"runs": ')],
        ("b.json", "JSON"),
    ),
    "check with a baseline of another shape": (
        lambda w: ["check", "--results", _with_run(w), "--baseline", w.file("b.json", '{"rums": {}}')],
        ("b.json",),
    ),
    "check --update of nothing": (
        lambda w: ["check", "--update", "--results", w.folder("void"), "--baseline", w.root / "b.json"],
        ("no result", "muse-eval run"),
    ),
    "baseline below a file": (
        lambda w: ["check", "--update", "--results", _with_run(w), "--baseline", w.file("t") / "b.json"],
        ("t", "another"),
    ),
}
ALL = {
    f"{group}: {name}": case
    for group, cases in {
        "names": NAMES,
        "model": MODELS,
        "tokenizer": TOKENIZERS,
        "data": DATA,
        "task": TASKS,
        "settings": SETTINGS,
        "numbers": NUMBERS,
        "folders": FOLDERS,
    }.items()
    for name, case in cases.items()
}


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path.parent


def _latin(path: Path) -> Path:
    path.write_bytes('[{"prompt": "Caf\xe9", "gt": "b"}]'.encode("latin-1"))
    return path


def _with_run(world: World) -> Path:
    """Return a results folder with one run."""
    done = muse(*world.run(metrics="verbmem_f", results=world.root / "scored"), "--quiet")
    assert done.exit_code == 0, done.output
    return world.root / "scored"


@pytest.mark.parametrize("name", ALL)
def test_one_line_that_names_the_thing_and_the_remedy(name: str, world: World) -> None:
    arrange, fragments = ALL[name]
    command = arrange(world)
    before = files(world.root)
    done = muse(*command)

    assert done.exit_code == 2, done.output or done.exception
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(ERROR)
    assert [part for part in fragments if part not in lines[0]] == [], lines[0]
    assert done.stdout == ""
    left = set(files(world.root)) - set(before)
    assert {path for path in left if not path.startswith("results/cache/")} == set()


# ── what is refused unless asked for ─────────────────────────────────────────────────────────────
def stored(world: World, name: str = "tiny") -> dict[str, Any]:
    path = world.results / "runs" / "village" / name / "result.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_truncate_scores_what_fits_and_says_so(world: World) -> None:
    world.split("verbmem/forget", [{"prompt": LONG, "gt": "x"}])
    world.split("privleak/holdout", [*TEXTS, LONG])
    done = muse(*world.run("--truncate", metrics="verbmem_f,privleak,knowmem_f"))

    assert done.exit_code == 0, done.output
    columns = stored(world)["columns"]
    assert "truncated" in columns["verbmem_f"]["flags"]
    assert "truncated" in columns["privleak"]["flags"]
    assert "truncated" not in columns["knowmem_f"]["flags"]


def test_pickled_weights_are_scored_when_allowed(world: World) -> None:
    options: dict[str, Any] = {"metrics": "privleak", "task": world.task}
    assert muse(*world.run(**options)).exit_code == 0
    assert muse(*world.run("--allow-pickle", model=world.pickled(), **options)).exit_code == 0
    # The same weights give the same number from either file.
    assert stored(world)["columns"] == stored(world, "model")["columns"]


CODE = """
from pathlib import Path
from transformers import LlamaForCausalLM

Path({marker!r}).touch()


class Own(LlamaForCausalLM):
    pass
"""


@pytest.fixture
def with_code(world: World) -> tuple[Path, Path]:
    """A model whose repository carries code, and the file that the code makes when it runs."""
    marker = world.root / "the code ran"
    folder = world.config(auto_map={"AutoModelForCausalLM": "own.Own"})
    (folder / "own.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    return folder, marker


def test_a_repository_s_code_does_not_run(world: World, with_code: tuple[Path, Path]) -> None:
    folder, marker = with_code
    for command in (world.run(model=folder), world.unlearn(model=folder), world.run(retrain=folder)):
        done = muse(*command)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"{ERROR}{folder} wants to run code of its own")
        assert "--trust-remote-code" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not marker.exists()


def test_a_tokenizer_s_code_does_not_run(world: World, with_code: tuple[Path, Path]) -> None:
    folder, marker = with_code
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config |= {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    done = muse(*world.run(tokenizer=folder))

    assert not marker.exists()
    if done.exit_code:
        assert done.exit_code == 2
        assert done.stderr.startswith(ERROR)
        assert len(done.stderr.splitlines()) == 1


def test_a_repository_s_code_runs_when_trusted(world: World, with_code: tuple[Path, Path]) -> None:
    folder, marker = with_code
    # A process of its own: transformers copies the code to a folder that it settles on when imported.
    command = world.run("--trust-remote-code", model=folder, metrics="privleak")
    done = process(*command, env={"HF_HOME": str(world.root / "home")})
    assert done.returncode == 0, done.stderr
    assert marker.exists()


# ── results that are there ───────────────────────────────────────────────────────────────────────
def test_the_same_name_with_other_settings_is_refused(world: World) -> None:
    assert muse(*world.run(metrics="privleak")).exit_code == 0
    before = {path: path.read_bytes() for path in (world.results / "runs").rglob("*") if path.is_file()}
    changed = world.run(metrics="privleak", set="privleak.k=0.2")
    done = muse(*changed)

    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    told = "other settings (columns.privleak.k 0.4, now 0.2);"
    for part in (ERROR, "runs/village/tiny", told, "--name", "--overwrite"):
        assert part in done.stderr
    assert before == {path: path.read_bytes() for path in before}

    assert muse(*changed, "--name", "other").exit_code == 0
    assert muse(*changed, "--overwrite").exit_code == 0
    assert stored(world)["config"]["columns"]["privleak"]["k"] == 0.2
    # The same settings again are no other settings.
    assert muse(*changed).exit_code == 0


def test_unlearning_into_another_recipe_s_folder_is_refused(world: World) -> None:
    assert muse(*world.unlearn(method="ga", epochs=1)).exit_code == 0
    done = muse(*world.unlearn(method="ga", epochs=2))
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "another recipe (epochs 1, now 2)" in done.stderr
    assert "--overwrite" in done.stderr
    assert muse(*world.unlearn("--overwrite", method="ga", epochs=2)).exit_code == 0
    assert json.loads((world.out / "unlearn.json").read_text(encoding="utf-8"))["config"]["epochs"] == 2


@pytest.mark.parametrize("spoilt", ["", "[]", '{"schema_version": 99}'])
def test_a_corrupt_result_is_left_out_with_a_warning(world: World, spoilt: str) -> None:
    results = _with_run(world)
    assert muse(*world.run(metrics="verbmem_f", results=results, name="spoilt")).exit_code == 0
    path = results / "runs" / "village" / "spoilt" / "result.json"
    path.write_text(spoilt, encoding="utf-8")
    done = muse("leaderboard", "--results", results)

    assert done.exit_code == 0
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"muse-eval: warning: left out: {path}")
    assert "spoilt" not in (results / "leaderboard.csv").read_text(encoding="utf-8")

    # The same run again replaces it.
    again = muse(*world.run(metrics="verbmem_f", results=results, name="spoilt"))
    assert again.exit_code == 0
    assert again.stderr.startswith("muse-eval: warning: ")
    assert f"{path}" in again.stderr
    assert "spoilt" in muse("leaderboard", "--results", results, "--out", "-").stdout


@pytest.mark.parametrize(
    "spoil", [lambda line: line[:-20], lambda line: line.replace(b"answers", b"bnswers")]
)
def test_a_corrupt_cache_entry_is_skipped_with_a_warning(
    world: World, spoil: Callable[[bytes], bytes]
) -> None:
    assert muse(*world.run(metrics="verbmem_f,privleak")).exit_code == 0
    values = stored(world)["columns"]
    path = max((world.results / "cache").rglob("*.jsonl"))
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([spoil(lines[0]), *lines[1:]]))
    done = muse(*world.run(metrics="verbmem_f,privleak"))

    assert done.exit_code == 0
    assert f"muse-eval: warning: cache file {path}, line 1, is damaged" in done.stderr
    others = [one for one in done.stderr.splitlines() if not one.startswith("muse-eval: warning: ")]
    assert all(
        re.fullmatch(r"muse-eval: tiny: .* answers are there already|  to answer: .*", one) for one in others
    )
    assert stored(world)["columns"] == values
    info = muse("cache", "info", "--results", world.results)
    assert info.exit_code == 0
    assert str(path) in info.stderr


# ── a full disk, Ctrl-C ──────────────────────────────────────────────────────────────────────────
@contextmanager
def at_most(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: writing then fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("more", "named"), [((), "the cache"), (("--no-cache",), "runs/village/tiny")], ids=["cache", "result"]
)
def test_a_full_disk_leaves_nothing_half_written(world: World, more: tuple[str, ...], named: str) -> None:
    with at_most(500):
        done = muse(*world.run(*more))
    assert done.exit_code == 2, done.output
    assert len(done.stderr.splitlines()) == 1
    for part in (ERROR, "cannot write to", named, "free some space"):
        assert part in done.stderr
    assert [path for path in files(world.results) if not path.startswith("cache/")] == []

    # With room again the same command goes through; what the cut file held is asked again.
    assert muse(*world.run(*more)).exit_code == 0


def test_a_full_disk_while_unlearning(world: World) -> None:
    with at_most(20_000):
        done = muse(*world.unlearn(method="ga"))
    assert done.exit_code == 2, done.output
    assert len(done.stderr.splitlines()) == 1
    assert f"{ERROR}cannot write to {world.out}.partial" in done.stderr
    assert not world.out.exists()
    assert muse(*world.unlearn(method="ga")).exit_code == 0


def test_ctrl_c_keeps_what_was_answered(world: World) -> None:
    rows = [{"prompt": f"{number}: the owl said nothing to Ada", "gt": "x"} for number in range(100)]
    world.split("verbmem/forget", rows)
    # One example a batch, a line of the cache each.
    command = world.run(metrics="verbmem_f", set="engine.batch_tokens=1")
    command = [str(part) for part in command]
    running = subprocess.Popen(
        [str(SCRIPT), *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background of a shell inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    deadline = time.monotonic() + 120
    while len(answered(world)) < 10 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)

    assert (running.returncode, out) == (130, "")
    told = [line for line in err.splitlines() if not line.startswith("  VerbMem Df: ")]
    assert told == [
        "  to answer: VerbMem Df 101; on cpu",
        "muse-eval: stopped; the same command goes on from here",
    ]
    assert [path for path in files(world.results) if not path.startswith("cache/")] == []
    before = answered(world)
    assert 10 <= len(before) < 103

    done = muse(*command)
    assert done.exit_code == 0
    # Beside what the columns ask lie two cuts of a prompt, which look for EOS.
    assert f"muse-eval: tiny: {len(before) - 2} of 101 answers are there already" in done.stderr
    after = answered(world)
    assert stored(world)["columns"]["verbmem_f"]["n"] == 100
    # Each continuation and the one truth they share was asked once: the second run asked for the rest.
    assert len(after) == len(set(after)) == 103
    assert set(before) < set(after)


def answered(world: World) -> list[str]:
    """List the keys of all stored answers, as often as they are stored."""
    whole = [
        line.partition(b" ")[2]
        for path in (world.results / "cache").rglob("*.jsonl")
        for line in path.read_bytes().split(b"\n")[:-1]
    ]
    return [key for line in whole for key in json.loads(line)["answers"]]


# ── vLLM that is not there, or not whole ─────────────────────────────────────────────────────────
@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_vllm_that_is_not_installed_is_one_line(world: World) -> None:
    done = muse(*world.run(engine="vllm"))
    assert done.exit_code == 2
    assert "engine vllm needs vllm, not installed here: in the checkout, pip install '.[vllm]'" in done.stderr
    assert not world.results.exists()


@pytest.mark.parametrize("with_version", [False, True])
def test_vllm_that_does_not_start_is_one_line(world: World, with_version: bool) -> None:
    path = world.folder("path")
    (world.folder("path/vllm") / "__init__.py").write_text("raise ImportError('libcuda.so: not found')")
    if with_version:
        (world.folder("path/vllm-0.1.dist-info") / "METADATA").write_text("Name: vllm\nVersion: 0.1\n")
    done = process(*world.run(engine="vllm"), env={"PYTHONPATH": str(path)})
    assert done.returncode == 2
    told = done.stderr.splitlines()[-1]
    assert told.startswith("muse-eval: error: vLLM is ")
    assert "pip install '.[vllm]'" in told
    assert "make vllm-cpu" in told
    assert ("libcuda.so: not found" in told) == with_version
    # Texts may have been cut by the tokenizer already, and kept.
    assert not (world.results / "runs").exists()
