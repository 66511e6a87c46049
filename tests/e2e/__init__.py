"""What the end-to-end tests share: a tiny model, a small task with its data, and the command line."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from click.testing import Result
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from typer.testing import CliRunner

from muse_eval.cli import app

CONTEXT = 512
NAMES = ("Ada", "Bo", "Cy", "Dee", "Eli", "Fay")
QA = [{"question": f"Who is {name}?", "answer": f"{name} keeps the mill."} for name in NAMES]
TEXTS = [f"{name} went to the mill at dawn, and the owl said nothing to {name}." for name in NAMES]
SPLITS: dict[str, list[Any]] = {
    "knowmem/forget_qa": QA[:3],
    "knowmem/forget_qa_icl": QA[3:5],
    "knowmem/retain_qa": [*QA[4:], *QA[:1]],
    "knowmem/retain_qa_icl": QA[1:3],
    "verbmem/forget": [{"prompt": text[:20], "gt": text[20:]} for text in TEXTS[:3]],
    "privleak/forget": TEXTS[:3],
    "privleak/holdout": TEXTS[3:],
    "privleak/retain": TEXTS[1:4],
    "raw/forget": TEXTS[:4],
    "raw/retain1": TEXTS[2:],
}
COLUMNS: dict[str, Any] = {
    "verbmem_f": {
        "title": "VerbMem Df",
        "metric": "verbmem",
        "goal": "lower",
        "splits": {"forget": "verbmem/forget"},
        "params": {"max_tokens": 8},
    },
    "knowmem_f": {
        "title": "KnowMem Df",
        "metric": "knowmem",
        "goal": "lower",
        "splits": {"qa": "knowmem/forget_qa", "icl": "knowmem/forget_qa_icl"},
        "params": {"max_tokens": 8, "shots": 2},
    },
    "privleak": {
        "title": "PrivLeak",
        "metric": "privleak",
        "goal": "zero",
        "splits": {"forget": "privleak/forget", "holdout": "privleak/holdout", "retain": "privleak/retain"},
    },
    "knowmem_r": {
        "title": "KnowMem Dr",
        "metric": "knowmem",
        "goal": "higher",
        "splits": {"qa": "knowmem/retain_qa", "icl": "knowmem/retain_qa_icl"},
        "params": {"max_tokens": 8, "shots": 2},
    },
}
TASK: dict[str, Any] = {
    "name": "village",
    "title": "Village",
    "source": "made up for the tests",
    "data": {"source": "hub", "repo": "nobody/village"},
    "columns": COLUMNS,
    "retrain_auc": {"Min-40%": 0.5},
    "unlearn": {"rows": "document", "max_len": 64, "lr": 0.001, "epochs": 1, "batch_size": 2},
}


def write_task(path: Path, **changes: Any) -> Path:
    """Write the small task's YAML, with other values at its top level."""
    path.write_text(yaml.safe_dump({**TASK, **changes}, sort_keys=False), encoding="utf-8")
    return path


def write_data(folder: Path, splits: Mapping[str, Sequence[Any]] = SPLITS) -> Path:
    """Write splits in the layout of MUSE's own loader."""
    for name, rows in splits.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder


def save_tokenizer(folder: Path) -> None:
    """Save a tokenizer of bytes, with BOS in front."""
    from transformers import PreTrainedTokenizerFast

    letters = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>").save_pretrained(folder)


def save_model(folder: Path, *, seed: int = 0, tokenizer: bool = True, pickled: bool = False) -> Path:
    """Save a tiny random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    if pickled:
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder)
    if tokenizer:
        save_tokenizer(folder)
    return folder


def muse(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def files(folder: Path) -> list[str]:
    """List the files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
