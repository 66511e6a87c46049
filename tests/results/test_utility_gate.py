"""The flag ``utility-gate``: by hand, beside which target, and that a row with it is never the best."""

from __future__ import annotations

import json
from typing import Any

import pytest

from muse_eval.results import StoredResult, composite
from muse_eval.results.comparable import competes, is_best
from muse_eval.results.degenerate import broken
from muse_eval.results.rows import FLAGS, rows
from muse_eval.results.tables import to_markdown
from muse_eval.results.utility import FLAG, gated

SPECS = {
    "knowmem_f": {"title": "KnowMem Df", "metric": "knowmem", "goal": "lower"},
    "knowmem_r": {"title": "KnowMem Dr", "metric": "knowmem", "goal": "higher"},
    "arc_easy": {"title": "arc_easy", "metric": "lm-eval", "goal": "higher"},
}


def stored(name: str, kept: float | None, *flags: str, **changes: Any) -> StoredResult:
    """Return a run whose KnowMem Dr is given; KnowMem Df is 1, and arc_easy far below any target's."""
    values = {"knowmem_f": 1.0, "knowmem_r": kept, "arc_easy": 90.0 if name == "target" else 1.0}
    cells = {
        key: {"value": one, "ci": None, "n": 9, "flags": list(flags) if key == "knowmem_r" else []}
        for key, one in values.items()
    }
    specs = {key: {**one, "splits": {"qa": key}, "params": {}} for key, one in SPECS.items()}
    config = {
        "task": {"name": "town", "columns": specs},
        "columns": {},
        "data": {"sha256": {"knowmem_r": "a"}},
    }
    whole = {
        "schema_version": 1,
        "task": "town",
        "name": name,
        "model": {"id": name, "revision": None, "digest": name},
        "columns": cells,
        "config": {**config, "limit": None, **changes},
        "seconds": 0.0,
    }
    return StoredResult.model_validate_json(json.dumps(whole))


def flagged(result: StoredResult, *beside: StoredResult) -> list[str]:
    """Return the columns that have the flag, of a run beside others."""
    told = gated([*beside, result])[-1]
    return [name for name, cell in told.columns.items() if FLAG in cell.flags]


# ── the rule ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("kept", "lost"), [(39.99, True), (40.0, False), (60.0, False), (0.0, True)])
def test_a_drop_of_more_than_a_fifth_of_the_targets(kept: float, lost: bool) -> None:
    """The target has 50, four fifths of which are 40."""
    assert flagged(stored("npo", kept), stored("target", 50.0)) == (["knowmem_r"] if lost else [])


def test_only_what_should_be_kept_is_looked_at() -> None:
    """KnowMem Df is 1 beside 1 and may fall; a column of lm-eval's has no gate."""
    assert flagged(stored("npo", 50.0), stored("target", 50.0)) == []


def test_without_the_target_beside_it_nothing_is_told() -> None:
    assert flagged(stored("npo", 1.0)) == []
    assert flagged(stored("npo", 1.0), stored("other", 50.0)) == []


def test_neither_target_nor_retrain_is_held_against_the_target() -> None:
    assert flagged(stored("retrain", 1.0), stored("target", 50.0)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"limit": 3},
        {"data": {"sha256": {"knowmem_r": "b"}}},
        {"columns": {"knowmem_r": {"max_tokens": 5}}},
    ],
)
def test_a_target_asked_otherwise_tells_nothing(changes: dict[str, Any]) -> None:
    assert flagged(stored("npo", 1.0), stored("target", 50.0, **changes)) == []


def test_a_target_that_answers_nothing_or_has_no_value_tells_nothing() -> None:
    assert flagged(stored("npo", 1.0), stored("target", 4.0, "unanswered")) == []
    assert flagged(stored("npo", 1.0), stored("target", None)) == []
    assert flagged(stored("npo", None), stored("target", 50.0)) == []


def test_the_flag_is_taken_back_where_it_no_longer_holds() -> None:
    assert flagged(stored("npo", 45.0, FLAG), stored("target", 50.0)) == []


# ── what follows from it ─────────────────────────────────────────────────────────────────────────
def test_no_cell_of_a_marked_row_is_the_best() -> None:
    table = rows([stored("target", 50.0), stored("lost", 10.0), stored("kept", 45.0)])
    target, kept, lost = table
    assert (target["name"], kept["name"], lost["name"]) == ("target", "kept", "lost")
    assert competes(kept, "knowmem_f", table)
    assert not competes(lost, "knowmem_f", table)
    assert is_best(kept, "knowmem_r", "higher", table)
    assert FLAGS[FLAG] in to_markdown(table)


def test_composites_still_rank_it() -> None:
    """KnowMem Dr is a part of each of them already."""
    assert broken([FLAG]) == []
    scores = {"verbmem_f": 0.0, "knowmem_f": 0.0, "privleak": 0.0, "knowmem_r": 10.0}
    assert composite("balance", scores) == pytest.approx(55)
