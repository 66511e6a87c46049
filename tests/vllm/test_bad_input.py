"""What a user can get wrong with vLLM: one line, exit code 2, nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests.e2e import process, write_data, write_task

WEIGHTS = "model.safetensors"


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def truncated(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def corrupt(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def lacking(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["model.norm.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def heads_of_eight(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"head_dim": 32', '"head_dim": 8'))


BROKEN: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "no config": (without_config, ["has no config.json"]),
    "truncated": (truncated, ["is truncated or corrupt", "fetch or save it again"]),
    "corrupt": (corrupt, ["is truncated or corrupt", "fetch or save it again"]),
    "lacking parameters": (lacking, ["vLLM cannot run model", "norm.weight"]),
    "shapes that do not fit": (heads_of_eight, ["vLLM cannot run model", "--engine hf"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_one_line(name: str, tiny_model: Path, tmp_path: Path) -> None:
    spoil, expected = BROKEN[name]
    model, results = tmp_path / "model", tmp_path / "results"
    shutil.copytree(tiny_model, model)
    spoil(model)
    done = process(
        *("run", "--engine", "vllm", "--model", model, "--task", write_task(tmp_path / "village.yaml")),
        *("--data-dir", write_data(tmp_path / "data"), "--results", results),
    )
    assert done.returncode == 2
    told = done.stderr.splitlines()[-1]
    assert told.startswith("muse-eval: error: ")
    assert all(words in told for words in expected), told
    assert "Traceback" not in done.stderr
    assert not (results / "runs").exists()


def test_a_run_with_vllm_ends_in_a_table(tiny_model: Path, tmp_path: Path) -> None:
    done = process(
        *("run", "--engine", "vllm", "--model", tiny_model, "--task", write_task(tmp_path / "village.yaml")),
        *("--data-dir", write_data(tmp_path / "data"), "--results", tmp_path / "results"),
    )
    assert done.returncode == 0, done.stderr
    assert "VerbMem Df" in done.stdout
    # A line about memory, progress, and nothing of vLLM's own.
    assert "muse-eval: engine vllm: context" in done.stderr
    assert all(line.startswith(("muse-eval: engine vllm: ", "  ")) for line in done.stderr.splitlines())
