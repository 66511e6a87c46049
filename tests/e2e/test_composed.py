"""A composed model from the command line: scored, told apart, fetched from the hub, never trained."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from muse_eval.engines.composition import COMPOSED
from tests.e2e import SCRIPT, files, muse, other_model, write_data, write_task
from tests.support.composed import compose
from tests.support.hub import HubServer


@pytest.fixture
def other(tiny_model: Path, tmp_path: Path) -> Path:
    return other_model(tiny_model, tmp_path / "other")


def command(here: Path, model: object, *more: object) -> list[str]:
    task, data = write_task(here / "village.yaml"), write_data(here / "data")
    told = ("run", "--model", model, "--task", task, "--data-dir", data, "--results", here / "results", *more)
    return [str(one) for one in told]


def result(here: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((here / "results/runs/village" / name / "result.json").read_text())
    return found


def records(here: Path, name: str) -> bytes:
    return (here / "results/runs/village" / name / "records.jsonl").read_bytes()


def test_a_composed_model_is_scored_as_any_other(tiny_model: Path, other: Path, tmp_path: Path) -> None:
    none = compose(tmp_path / "none", tiny_model, other, alpha=0.0)
    whp = compose(tmp_path / "whp", tiny_model, other, alpha=1.0)
    for model in (tiny_model, none, whp):
        done = muse(*command(tmp_path, model))
        assert done.exit_code == 0, done.output
    scored = result(tmp_path, "whp")
    assert scored["model"]["id"] == "whp"
    measured = {name for name, column in scored["columns"].items() if column["value"] is not None}
    assert measured == {"verbmem_f", "knowmem_f", "knowmem_r"}  # PrivLeak has nothing to be relative to.
    # Without strength it is the target in every score and its evidence, but another model by its digest.
    assert result(tmp_path, "none")["columns"] == result(tmp_path, "tiny")["columns"]
    assert records(tmp_path, "none") == records(tmp_path, "tiny")
    assert records(tmp_path, "whp") != records(tmp_path, "tiny")
    digests = {result(tmp_path, name)["model"]["digest"] for name in ("tiny", "none", "whp")}
    assert len(digests) == 3

    # From the stored answers it writes the same bytes; another strength is another model.
    folder = tmp_path / "results"
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    assert muse(*command(tmp_path, whp)).exit_code == 0
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before
    spec = json.loads((whp / COMPOSED).read_text())
    (whp / COMPOSED).write_text(json.dumps({**spec, "params": {"alpha": 0.5}}))
    refused = muse(*command(tmp_path, whp))
    assert refused.exit_code == 2
    assert "holds a run with other settings (model.weights " in refused.stderr


def test_it_may_be_what_privleak_is_relative_to(tiny_model: Path, other: Path, tmp_path: Path) -> None:
    whp = compose(tmp_path / "whp", tiny_model, other, alpha=1.0)
    done = muse(*command(tmp_path, tiny_model, "--retrain", whp, "--metrics", "privleak"))
    assert done.exit_code == 0, done.output
    assert result(tmp_path, "tiny")["provenance"]["retrain"]["model"] == "whp"


def test_it_is_not_trained(tiny_model: Path, other: Path, tmp_path: Path) -> None:
    whp = compose(tmp_path / "whp", tiny_model, other, alpha=1.0)
    task, data = write_task(tmp_path / "village.yaml"), write_data(tmp_path / "data")
    given = ("--model", whp, "--task", task, "--data-dir", data)
    done = muse("unlearn", "--method", "ga", *given, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "combines two models (composed.json), so it can only be scored" in done.stderr
    assert not (tmp_path / "out").exists()


def test_it_comes_from_the_hub_whole(tiny_model: Path, other: Path, tmp_path: Path) -> None:
    whp = compose(tmp_path / "repos" / "whp", tiny_model, other, alpha=1.0)
    with HubServer({"ours/whp": whp}) as hub:
        done = subprocess.run(
            [str(SCRIPT), *command(tmp_path, "ours/whp", "--metrics", "verbmem_f")],
            env={**os.environ, **hub.env(tmp_path / "hf")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        commit = hub.commit("ours/whp")
    fetched = result(tmp_path, "whp")
    assert fetched["model"]["id"] == "ours/whp"
    assert fetched["model"]["revision"] == commit
    shutil.rmtree(tmp_path / "results")
    assert muse(*command(tmp_path, whp, "--metrics", "verbmem_f")).exit_code == 0
    assert result(tmp_path, "whp")["model"]["digest"] == fetched["model"]["digest"]
    assert result(tmp_path, "whp")["columns"] == fetched["columns"]
