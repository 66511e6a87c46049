"""What a user can get wrong with vLLM: one line, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.e2e import muse, process, write_data, write_task

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
    config = LlamaConfig.from_pretrained(folder)
    config.head_dim = 8
    LlamaForCausalLM(config).save_pretrained(folder)


def another_size(folder: Path) -> None:
    """A size that vLLM can run: without a check it would cut the weights to it."""
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"intermediate_size": 64', '"intermediate_size": 32'))


BROKEN: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "no config": (without_config, ["has no config.json"]),
    "truncated": (truncated, ["is truncated or corrupt", "fetch or save it again"]),
    "corrupt": (corrupt, ["is truncated or corrupt", "fetch or save it again"]),
    "lacking parameters": (lacking, ["lack or misshape 1 parameters", "norm.weight"]),
    "shapes that do not fit": (another_size, ["lack or misshape", "mlp.down_proj.weight"]),
    "heads it has no kernel for": (heads_of_eight, ["vLLM cannot run model", "--engine hf"]),
}
REFUSED_BY_VLLM = {"heads it has no kernel for"}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_one_line(name: str, tiny_model: Path, tmp_path: Path) -> None:
    spoil, expected = BROKEN[name]
    model, results = tmp_path / "model", tmp_path / "results"
    shutil.copytree(tiny_model, model)
    spoil(model)
    command = [
        *("run", "--engine", "vllm", "--model", model, "--task", write_task(tmp_path / "village.yaml")),
        *("--data-dir", write_data(tmp_path / "data"), "--results", results),
    ]
    # Where vLLM itself is started, what it writes past Python is part of what a user sees.
    if name in REFUSED_BY_VLLM:
        done = process(*command)
        code, stderr = done.returncode, done.stderr
    else:
        here = muse(*command)
        code, stderr = here.exit_code, here.stderr
    assert code == 2
    told = stderr.splitlines()[-1]
    assert told.startswith("muse-eval: error: ")
    assert all(words in told for words in expected), told
    assert "Traceback" not in stderr
    assert not (results / "runs").exists()


def test_a_run_ends_in_a_table_and_two_processes_share_a_model(tiny_model: Path, tmp_path: Path) -> None:
    columns = []
    for size in (1, 2):
        results = tmp_path / f"results{size}"
        done = process(
            *("run", "--engine", "vllm", "--set", f"engine.tensor_parallel_size={size}"),
            *("--model", tiny_model, "--task", write_task(tmp_path / "village.yaml")),
            *("--data-dir", write_data(tmp_path / "data"), "--results", results),
        )
        assert done.returncode == 0, done.stderr
        assert "VerbMem Df" in done.stdout
        if size == 1:
            # A line about memory, progress, and nothing of vLLM's own.
            assert "muse-eval: engine vllm: context" in done.stderr
            own = ("muse-eval: engine vllm: ", "  ")
            assert all(line.startswith(own) for line in done.stderr.splitlines())
        found = json.loads((results / "runs/village/tiny/result.json").read_text())["columns"]
        columns.append({name: column["value"] for name, column in found.items()})
    assert columns[0] == pytest.approx(columns[1], abs=1e-6)


def test_a_worker_that_cannot_load_the_model_ends_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    heads_of_eight(model)
    done = process(
        *("run", "--engine", "vllm", "--set", "engine.tensor_parallel_size=2", "--model", model),
        *("--task", write_task(tmp_path / "village.yaml"), "--data-dir", write_data(tmp_path / "data")),
        *("--results", tmp_path / "results"),
    )
    assert done.returncode == 2
    # What the workers themselves say goes before it; Python's own housekeeping may come after.
    told = [line for line in done.stderr.splitlines() if line.startswith("muse-eval: error: ")]
    assert len(told) == 1
    assert told[0].startswith("muse-eval: error: vLLM cannot run model")


def test_another_engine_under_the_same_name_is_refused_as_such(tiny_model: Path, tmp_path: Path) -> None:
    command = [
        *("run", "--model", tiny_model, "--task", write_task(tmp_path / "village.yaml")),
        *("--data-dir", write_data(tmp_path / "data"), "--results", tmp_path / "results"),
    ]
    assert muse(*command, "--engine", "hf").exit_code == 0
    done = muse(*command, "--engine", "vllm")
    assert done.exit_code == 2
    assert "holds a run with other settings (engine hf, now vllm); give --name" in done.stderr
