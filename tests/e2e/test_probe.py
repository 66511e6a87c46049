"""The verb ``probe`` on a tiny model: runs, table, what is not done again, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import muse_eval
from tests.e2e import files, muse, other_model, write_data, write_task

OPTIONS = ["--task", "village.yaml", "--data-dir", "data", "--model", "unlearned", "--quiet"]
CONTROLS = ["--retrain", "retrain", "--target", "none"]
SHORT = ["--probes", "relearn", "--set", "relearn.steps=[1,2]"]
RUNS = Path("results/runs/village")


@pytest.fixture
def here(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_task(tmp_path / "village.yaml")
    write_data(tmp_path / "data")
    shutil.copytree(tiny_model, tmp_path / "unlearned")
    other_model(tiny_model, tmp_path / "retrain")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_and_its_control_are_scored_at_every_strength(here: Path) -> None:
    done = muse("probe", *OPTIONS, *CONTROLS, *SHORT, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    names = [f"{of}+{what}" for of in ("retrain", "unlearned") for what in ("now", "relearn:1", "relearn:2")]
    assert sorted(path.name for path in RUNS.iterdir()) == names
    assert {(one["model"], one["column"]) for one in told["courses"]} == {
        (of, column) for of in ("unlearned", "retrain") for column in ("verbmem_f", "knowmem_f")
    }
    ours = [one for one in told["courses"] if one["model"] == "unlearned"]
    assert {one["why"] for one in ours} == {"3 examples are too few"}
    assert [step["says"] for step in ours[0]["steps"]] == ["after 1 steps", "after 2 steps"]
    stored = muse_eval.load_run("village/unlearned+relearn:2")
    assert stored.probing["params"] == {"steps": [1, 2], "lr": None, "batch_size": 4}
    assert stored.columns.keys() == {"verbmem_f", "knowmem_f"}

    before = {path: (here / path).stat().st_mtime_ns for path in files(here)}
    again = muse("probe", *OPTIONS, *CONTROLS, *SHORT)
    assert "is it gone, or hidden?" in again.stdout
    assert {path: (here / path).stat().st_mtime_ns for path in files(here)} == before

    # What a probe made may be deleted: what is scored needs it no more.
    shutil.rmtree(here / "results/models/village/probes")
    assert muse("probe", *OPTIONS, *CONTROLS, *SHORT).exit_code == 0
    assert not (here / "results/models/village/probes").exists()

    other = muse("probe", *OPTIONS, *CONTROLS, *SHORT, "--set", "relearn.lr=0.01", "--json")
    assert other.exit_code == 0, other.stderr
    assert muse_eval.load_run("village/unlearned+relearn:2").probing["params"]["lr"] == 0.01
    assert "holds no run" in muse("leaderboard").stderr


def test_without_retrain_it_says_what_cannot_be_concluded(here: Path) -> None:
    more = ["--metrics", "verbmem_f,+extraction_verbmem_f"]
    done = muse("probe", *OPTIONS, "--retrain", "none", "--target", "none", *SHORT, *more)
    assert done.exit_code == 0, done.stderr
    assert "nothing can be concluded" in " ".join(done.stdout.split())
    assert sorted(path.name.partition("+")[0] for path in (here / RUNS).iterdir()) == ["unlearned"] * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--probes", "relern"], "no probe 'relern'"),
        (["--metrics", "+fluency"], "fluency is no column that is the better the lower"),
        (["--metrics", "knowmem_r"], "knowmem_r is no column that is the better the lower"),
        (["--probes", "relearn", "--texts", "x"], "--texts goes with the probe finetune"),
        (["--probes", "relearn", "--set", "quantize.schemes=[int8]"], "--probes leaves quantize out"),
        (["--probes", "relearn", "--set", "relearn.steps=[2,1]"], "must rise"),
        (["--set", "relearn.rate=1"], "no parameter 'rate'"),
        (["--budget", "large"], "budget"),
        (["--engine", "server"], "a probe makes others"),
        (["--name", "retrain"], "what a control is called"),
    ],
)
def test_refused_in_one_line(here: Path, options: list[str], said: str) -> None:
    done = muse("probe", *OPTIONS, *CONTROLS, *options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (here / "results").exists()
