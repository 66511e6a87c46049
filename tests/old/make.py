"""Makes ``0.1.0.tar.xz``; the README beside this file says when, and how it is started."""

import os
import sys
import tarfile
from pathlib import Path
from typing import Any

from tests.conftest import tiny_tokenizer
from tests.e2e import muse, other_model, write_data, write_task

TASK = ["--task", "village.yaml", "--data-dir", "data"]
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("run", "--model", "target", "--retrain", "retrain", *TASK),
    ("unlearn", "--method", "simnpo_gdr", "--model", "target", *TASK, "--out", "forgot"),
    ("run", "--model", "forgot", "--retrain", "retrain", *TASK),
    ("pipeline", "--methods", "npo_gdr,whp", "--target", "target", "--retrain", "retrain", *TASK),
    (
        "tune",
        "--method",
        "simnpo_gdr",
        "--grid",
        "beta=0.1:0.7",
        "--target",
        "target",
        "--retrain",
        "retrain",
        *TASK,
    ),
    ("leaderboard",),
    ("check", "--update"),
)
BEGUN = {"task": "village.yaml", "method": "npo", "out": "begun", "data_dir": "data", "epochs": 2}


def write_model(folder: Path) -> None:
    """Write a random Llama, one layer of 8 hidden units."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer.__wrapped__()  # type: ignore[attr-defined]
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        initializer_range=0.2,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def begin() -> None:
    """Unlearn in a process that dies in the second of two epochs, each of two steps."""
    from muse_eval.api import unlearn

    def die(_: str, done: int, total: int) -> None:
        if total == 4 and done == 3:
            os._exit(9)

    given: dict[str, Any] = dict(BEGUN)
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        return
    unlearn("target", given.pop("task"), given.pop("method"), given.pop("out"), progress=die, **given)
    os._exit(0)


def main(home: Path, archive: Path) -> None:
    """Fill an empty folder and pack it."""
    os.chdir(home)
    write_task(Path("village.yaml"))
    write_data(Path("data"))
    write_model(Path("target"))
    other_model(Path("target"), Path("retrain"))
    begin()
    for command in COMMANDS:
        done = muse(*command)
        assert done.exit_code == 0, done.output
        sys.stdout.write(done.output)
    with tarfile.open(archive, "w:xz") as packed:
        packed.add(".", filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).absolute())
