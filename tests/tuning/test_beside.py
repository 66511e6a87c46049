"""Trials are judged by target's and retrain's stored runs, where those are of the very models."""

import hashlib
import json
from pathlib import Path

import pytest

from muse_eval.results import load
from muse_eval.results.best import NEAREST, best_cells
from muse_eval.results.degenerate import FLAG, judged
from muse_eval.results.rows import headings, row
from muse_eval.tuning.beside import stored_references
from tests.support.stored import TRUE, write_runs

WEIGHTS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("target", "retrain")}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Target, retrain model and two trials: one says what retrain says, the other nothing."""
    home = write_runs(tmp_path, {**TRUE, "like": TRUE["retrain"], "gone": ["u", "v", "w"]})
    (home / "tune").mkdir()
    for name in ("like", "gone"):
        (home / "runs" / "town" / name).rename(home / "tune" / name)
    return home


def test_runs_of_other_models_or_of_few_examples_are_not_those(results: Path) -> None:
    found = stored_references(results, "town", WEIGHTS)
    assert {name: run.name for name, run in found.items()} == {"target": "target", "retrain": "retrain"}
    assert stored_references(results, "elsewhere", WEIGHTS) == {}
    assert list(stored_references(results, "town", {**WEIGHTS, "target": "0" * 64})) == ["retrain"]
    limited = write_runs(results / "limited", limit=3)
    assert stored_references(limited, "town", WEIGHTS) == {}


def test_bold_trials_are_nearest_to_retrain_and_flagged_by_its_responses(results: Path) -> None:
    trials = [run for name in ("like", "gone") if (run := load(results / "tune" / name))]
    beside = stored_references(results, "town", WEIGHTS)
    rows = [row(one) for one in judged([*trials, *beside.values()])[:2]]
    columns = headings("town", rows)
    assert NEAREST in best_cells(columns, rows, beside["retrain"]).notes
    assert NEAREST not in best_cells(columns, rows).notes
    # A variety of 0.4 is under half of a retrain model's of 0.9, and over the fixed bound.
    for run in (*trials, *beside.values()):
        assert run.folder is not None
        path = run.folder / "result.json"
        whole = json.loads(path.read_text(encoding="utf-8"))
        whole["extras"]["verbmem_f"]["variety"] = 0.4 if run.name == "like" else 0.9
        path.write_text(json.dumps(whole), encoding="utf-8")
    like = load(results / "tune" / "like")
    assert like is not None
    again = stored_references(results, "town", WEIGHTS).values()
    assert FLAG not in judged([like])[0].columns["verbmem_f"].flags
    assert FLAG in judged([like, *again])[0].columns["verbmem_f"].flags
