"""A real `vllm serve` on loopback: it equals vLLM in process, and it may die in the middle of a run."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.parity import compare
from benchmarks.serve import Server, serve
from tests.e2e import SCRIPT, muse, process

CONTEXT = 1_024


@pytest.fixture(scope="module")
def server(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serve(models["target"], log, name="target", context=CONTEXT) as running:
        yield running


def test_a_server_equals_vllm_in_process(models: dict[str, Path], server: Server) -> None:
    served = {"model": "target", "base_url": server.base_url, "revision": "test"}
    found = compare(str(models["target"]), "vllm", "server", task="muse_mini", limit=40, server=served)
    assert found.logprob < 1e-4
    for column in found.columns:
        assert column.first == pytest.approx(column.second, abs=1e-9), column
        assert column.alike == column.answers, column


def test_the_row_of_an_unpinned_model_says_so(
    models: dict[str, Path], server: Server, tmp_path: Path
) -> None:
    flags = {}
    for revision in ([], ["--model-revision", "r1"]):
        done = muse(
            *("run", "--engine", "auto", "--base-url", server.base_url, "--model", "target"),
            *(
                "--tokenizer",
                models["target"],
                "--task",
                "muse_mini",
                "--metrics",
                "verbmem_f",
                "--limit",
                "2",
            ),
            *("--results", tmp_path, "--name", f"run{len(revision)}", *revision),
        )
        assert done.exit_code == 0, done.output
        assert "engine: server (--base-url is given)" in done.stdout
        result = json.loads((tmp_path / f"runs/muse_mini/run{len(revision)}/result.json").read_text())
        flags[len(revision)] = result["columns"]["verbmem_f"]["flags"]
    assert flags == {0: ["limited", "unpinned"], 2: ["limited"]}


def answers(cache: Path) -> list[str]:
    """Return the key of every stored answer, as often as it is stored."""
    lines = [line for path in cache.rglob("*.jsonl") for line in path.read_text().splitlines()]
    return [key for line in lines for key in json.loads(line.partition(" ")[2])["answers"]]


def test_a_server_that_dies_costs_nothing_that_was_answered(
    models: dict[str, Path], server: Server, tmp_path: Path
) -> None:
    """The last test of this file: it kills the server that the others share."""
    port, results = urlsplit(server.base_url).port, tmp_path / "results"
    command = [str(SCRIPT), "run", "--engine", "server", "--base-url", f"http://127.0.0.1:{port}"]
    command += ["--model", "target", "--tokenizer", str(models["target"]), "--model-revision", "r1"]
    command += ["--task", "muse_mini", "--metrics", "privleak", "--limit", "60", "--results", str(results)]
    command += [
        "--set",
        "engine.concurrency=1",
        "--set",
        "engine.retries=1",
        "--set",
        "privleak.moments=false",
    ]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    while len(answers(results / "cache")) < 20 and running.poll() is None:
        time.sleep(0.02)
    server.kill()
    _, said = running.communicate(timeout=120)
    assert running.returncode == 2, said
    assert "went away" in said.splitlines()[-1]
    kept = answers(results / "cache")
    assert len(kept) >= 20
    with serve(models["target"], tmp_path / "log", name="target", context=CONTEXT, port=port):
        done = process(*command[1:])
    assert done.returncode == 0, done.stderr
    whole = answers(results / "cache")
    assert len(whole) > len(kept)
    assert len(set(whole)) == len(whole)
