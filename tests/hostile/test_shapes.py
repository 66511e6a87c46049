"""Right JSON of the wrong shape in a checkpoint, splits that leave the folder, paths that cannot be."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from muse_eval import plugins
from muse_eval.data import open_data
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.engines.loading import LoadOptions, load_config, load_model, load_tokenizer
from muse_eval.errors import UserError
from muse_eval.results import run_folder
from muse_eval.scoring import check_writable
from muse_eval.scoring.which_task import task_of, unlearning
from muse_eval.sweeps.models import read_models
from tests.e2e import SPLITS, TASK, muse, write_data, write_task

CONFIGS: dict[str, Any] = {
    "model_type": [3, ["llama"], {}, None],
    "architectures": ["LlamaForCausalLM", 3, [3], {}],
    "text_config": ["text", 3, [], {"vocab_size": "many"}, {"eos_token_id": "2"}],
    "quantization_config": [
        "text",
        3,
        [],
        {"quant_method": "nonesuch"},
        {"quant_method": 3},
        {"quant_method": []},
        {"bits": 4},
    ],
    "dtype": [3, [], {}, "float99"],
    "torch_dtype": [3, []],
    "eos_token_id": ["2", [2, "x"], {}, 1.5, True, 10**9, [-1], 10**50],
    "vocab_size": ["big", 0, -1, 1.5, [], 10**50],
    "hidden_size": ["big", 0, -8, [], {}],
    "num_hidden_layers": ["two", []],
    "num_attention_heads": [0, "two", 3],
    "max_position_embeddings": ["long", -1, []],
    "rms_norm_eps": ["small", [], {}],
    "rope_parameters": ["text", 3, [], {"rope_type": "nonesuch"}, {"rope_type": 3}],
    "rope_scaling": ["text", 3],
    "layer_types": ["text", 3, ["nonesuch"]],
    "hidden_act": ["nonesuch", 3, []],
    "tie_word_embeddings": ["perhaps", []],
    "id2label": ["text", 3],
    "auto_map": ["text", 3],
}
READ: dict[str, list[Any]] = {"transformers_version": [3], "rope_scaling": [[]]}
"""Values that may stand there: nothing depends on them."""
GENERATIONS: dict[str, Any] = {"eos_token_id": ["2", {}, [[2]], 10**9, 1.5, False]}
TOKENIZERS: dict[str, Any] = {
    "tokenizer_class": [3, [], {}],
    "added_tokens_decoder": ["text", [], {"x": 3}, {"1": "y"}],
    "auto_map": ["text", 3],
    "extra_special_tokens": [3],
}
INDEXES: list[Any] = [
    {},
    [],
    {"weight_map": []},
    {"weight_map": "text"},
    {"weight_map": None},
    {"weight_map": {"w": 3}},
    {"weight_map": {"w": "../other/model.safetensors"}},
    {"weight_map": {"w": "/etc/passwd"}},
    {"weight_map": {"w": "a\x1b[31m"}},
    {"weight_map": {"w": "lost.safetensors"}},
    {"weight_map": {"w": "x" * 300}},
]


def one_line(error: UserError) -> str:
    told = str(error)
    assert "\n" not in told
    assert len(told) < 1_500
    return told


def opened(model: Path) -> None:
    """Open a checkpoint as an engine does, weights and all."""
    found = find_checkpoint(str(model))
    load_config(found)
    load_tokenizer(found, None, ())
    load_model(found, LoadOptions(device="cpu"))


def edited(path: Path, key: str, value: Any) -> None:
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, key: value}), encoding="utf-8")


def refused(model: Path, name: str, key: str, value: Any) -> str:
    edited(model / name, key, value)
    with pytest.raises(UserError) as caught:
        opened(model)
    return one_line(caught.value)


@pytest.mark.parametrize("key", CONFIGS)
def test_a_configuration_of_the_wrong_shape_is_one_line(tiny_model: Path, tmp_path: Path, key: str) -> None:
    for number, value in enumerate(CONFIGS[key]):
        model = shutil.copytree(tiny_model, tmp_path / f"model-{number}")
        told = refused(model, "config.json", key, value)
        assert "config.json" in told or told.startswith(f"cannot load model-{number}: ")


@pytest.mark.parametrize("key", READ)
def test_what_nothing_depends_on_may_be_odd(tiny_model: Path, tmp_path: Path, key: str) -> None:
    for number, value in enumerate(READ[key]):
        model = shutil.copytree(tiny_model, tmp_path / f"model-{number}")
        edited(model / "config.json", key, value)
        opened(model)


def test_where_answers_end_is_known_or_told(tiny_model: Path, tmp_path: Path) -> None:
    for number, value in enumerate(GENERATIONS["eos_token_id"]):
        model = shutil.copytree(tiny_model, tmp_path / f"model-{number}")
        assert "generation_config.json" in refused(model, "generation_config.json", "eos_token_id", value)
        assert "eos_token_id" in refused(model, "generation_config.json", "eos_token_id", value)
    edited(model / "generation_config.json", "eos_token_id", [10**9, 2])
    opened(model)


@pytest.mark.parametrize("key", TOKENIZERS)
def test_a_tokenizer_of_the_wrong_shape_is_one_line(tiny_model: Path, tmp_path: Path, key: str) -> None:
    for number, value in enumerate(TOKENIZERS[key]):
        model = shutil.copytree(tiny_model, tmp_path / f"model-{number}")
        assert "token" in refused(model, "tokenizer_config.json", key, value)


def test_an_index_of_the_wrong_shape_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    for value in INDEXES:
        (model / "model.safetensors.index.json").write_text(json.dumps(value), encoding="utf-8")
        with pytest.raises(UserError, match="index") as caught:
            opened(model)
        one_line(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "merges.txt", "extra.safetensors"])
def test_a_pipe_in_a_checkpoint_is_not_waited_for(tiny_model: Path, tmp_path: Path, name: str) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    with pytest.raises(UserError, match=f"{name} cannot be read: it is a pipe"):
        find_checkpoint(str(model))


@pytest.mark.parametrize("name", ["unlearn.json", "finetune.json", "recipe.json"])
def test_a_recipe_that_is_no_mapping_is_one_line(tmp_path: Path, name: str) -> None:
    for content in ("[]", "3", '"text"', "null", "{"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=name) as caught:
            task_of(str(tmp_path))
        one_line(caught.value)
        if name == "unlearn.json":
            with pytest.raises(UserError, match="mend or remove it"):
                unlearning(str(tmp_path))


# ── splits ───────────────────────────────────────────────────────────────────────────────────────
STRANGE = (
    "../secret",
    "raw/../../secret",
    "/etc/passwd",
    "raw",
    "raw/",
    "/raw",
    "a/b/c",
    "raw/..",
    "./raw",
    "",
)
STRANGER = ("raw/a\x1b[31m", "raw/a\nb", "raw\\a/b", f"raw/{'x' * 300}", "raw/a\x00", "raw/\u202eb")


@pytest.mark.parametrize("name", [*STRANGE, *STRANGER])
def test_a_split_lies_in_the_folder_of_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.json").write_text('["secret"]')
    data = write_data(tmp_path / "data")
    spoilt: list[dict[str, Any]] = [
        {"unlearn": {"forget": name}},
        {"unlearn": {"retain": name}},
        {"finetune": {"target": [name]}},
        {"folds": {"mode": "nested", "forget": [name]}},
        {"fingerprints": {name: {"rows": 1}}},
        {"columns": {"c": {**TASK["columns"]["verbmem_f"], "splits": {"forget": name}}}},
    ]
    for changes in spoilt:
        path = write_task(tmp_path / "t.yaml", **changes)
        with pytest.raises(UserError, match="a split is called group/name") as caught:
            plugins.task(str(path))
        assert "\x1b" not in one_line(caught.value)
    with pytest.raises(UserError, match="a split is called group/name"):
        open_data(plugins.task(str(write_task(tmp_path / "t.yaml"))), data).split(name)


def test_the_names_in_use_are_names() -> None:
    for name in plugins.task_names():
        plugins.task(name)
    assert all("/" in name for name in SPLITS)


# ── places and lengths ───────────────────────────────────────────────────────────────────────────
LONG = "x" * 300


def test_a_name_too_long_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 300 bytes, and a folder's may have 240") as caught:
        run_folder(tmp_path, "task", LONG)
    one_line(caught.value)
    with pytest.raises(UserError, match="has 300 bytes"):
        run_folder(tmp_path, LONG, "run")
    assert run_folder(tmp_path, "task", "x" * 240).name == "x" * 240


@pytest.mark.parametrize("place", ["results", "results/runs", "results/cache", "results/models"])
def test_a_file_where_results_belong_is_told_before_the_work(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file")
    with pytest.raises(UserError, match=f"{path} is "):
        check_writable(tmp_path / "results")


@pytest.mark.parametrize("model", [LONG, f"./{LONG}/x", "~nouser/model", "a\0b", "~nouser"])
def test_a_path_that_cannot_be_is_one_line(model: str) -> None:
    for read in (find_checkpoint, task_of, unlearning, lambda text: read_models([text])):
        with pytest.raises(UserError) as caught:
            read(model)
        one_line(caught.value)


def test_a_file_is_told_from_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.touch()
    with pytest.raises(UserError, match=r"model\.bin is a file; give the checkpoint's folder"):
        find_checkpoint(str(path))


@pytest.mark.parametrize(
    "command",
    [
        ["leaderboard", "--results", LONG],
        ["leaderboard", "--out", LONG],
        ["leaderboard", "--published", LONG],
        ["check", "--baseline", LONG],
        ["check", "--results", LONG],
        ["show", LONG],
        ["show", "~nouser/run"],
        ["cache", "info", "--results", LONG],
        ["data", "show", "--task", "muse_mini", "--data-dir", LONG],
        ["data", "show", "--task", f"{LONG}.yaml"],
        ["data", "init", LONG, "--forget", LONG, "--retain", LONG],
        ["run", "--task", "muse_mini", "--model", "~nouser/x"],
        ["run", "--task", "muse_mini", "--model", LONG],
        ["unlearn", "--task", "muse_mini", "--method", "npo", "--model", LONG, "--out", "out"],
        ["sweep", "--task", "muse_mini", LONG],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_a_typed_path_that_cannot_be_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = muse(*command)
    assert done.exit_code == 2, done.output or done.exception
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(lines) == 1
    assert lines[0].startswith("muse-eval: error: ")
    assert len(lines[0]) < 1_000
