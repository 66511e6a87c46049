"""What may be compared, in every respect; and which runs are believed, with what is told of the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from muse_eval.config import fingerprint
from muse_eval.results.comparable import data_of, held_alike, is_best
from muse_eval.results.rows import credible, meaning, rows
from muse_eval.results.runs import RECORDS, RESULT, StoredResult, save
from muse_eval.results.tables import to_csv
from muse_eval.types import Record, Result, Score
from tests.results.test_probed import stored as probed_run
from tests.results.test_tables import column, stored, with_cell

SPLITS = {"qa": "knowmem/forget_qa", "icl": "knowmem/forget_qa_icl"}


def asked(limit: int | None = 2, max_tokens: int = 32, digest: str = "aa") -> StoredResult:
    """Return a run that was asked so."""
    spec = {"metric": "knowmem", "splits": SPLITS, "params": {"max_tokens": max_tokens}}
    config = {
        "task": {"columns": {"knowmem_f": spec}},
        "data": {"sha256": {"knowmem/forget_qa": digest, "knowmem/forget_qa_icl": "bb"}},
        **({} if limit is None else {"limit": limit}),
    }
    return stored("npo", 1.0, 2.0, config=config)


def test_the_data_of_a_column_are_named_with_their_digests() -> None:
    assert json.loads(data_of(asked(), "knowmem_f")) == {
        "knowmem/forget_qa": "aa",
        "knowmem/forget_qa_icl": "bb",
    }


@pytest.mark.parametrize("limit", [None, 2])
def test_runs_that_were_asked_alike_may_be_held_against_each_other(limit: int | None) -> None:
    assert held_alike(asked(limit), asked(limit), "knowmem_f")


@pytest.mark.parametrize(
    "changes", [{"limit": 3}, {"limit": None}, {"max_tokens": 16}, {"digest": "cc"}], ids=str
)
def test_runs_that_differ_in_one_respect_may_not(changes: dict[str, Any]) -> None:
    assert not held_alike(asked(), asked(**changes), "knowmem_f")
    assert not held_alike(asked(**changes), asked(), "knowmem_f")


def test_both_must_have_the_column() -> None:
    without = stored("npo", 1.0, config=asked().config)
    assert "knowmem_f" not in without.columns
    for pair in ((asked(), without), (without, asked()), (without, without)):
        assert not held_alike(*pair, "knowmem_f")


def best(*found: StoredResult, goal: Any = "lower") -> list[str]:
    table = rows(found)
    return [row["name"] for row in table if is_best(row, "verbmem_f", goal, table)]


def test_nothing_is_as_low_as_zero() -> None:
    assert best(stored("a", 0.0), stored("b", 0.5), stored("c", 1.0)) == ["a"]


def test_what_does_not_compete_is_not_the_best_though_its_value_is() -> None:
    collapsed = with_cell(stored("b", 0.5), "verbmem_f", column(0.5, "collapsed"))
    assert best(stored("a", 0.5), collapsed) == ["a"]


def test_nothing_is_the_best_where_nobody_knows_which_way_is_better() -> None:
    assert best(stored("a", 0.5), stored("b", 1.0), goal=None) == []


def test_a_flag_that_nobody_knows_means_its_name() -> None:
    cell = with_cell(stored("a", 0.5), "verbmem_f", column(0.5, "of-tomorrow")).columns["verbmem_f"]
    assert meaning(cell, "of-tomorrow") == "of-tomorrow"


@pytest.mark.parametrize(("limit", "cell"), [(5, "5"), (None, "")])
def test_the_csv_names_a_limit(limit: int | None, cell: str) -> None:
    (line,) = to_csv(rows([stored("a", 1.0, config={"limit": limit})])).splitlines()[1:]
    assert line.split(",")[-1] == cell


def keep(home: Path, name: str) -> Path:
    """Store a run of two examples and return its folder."""
    columns = {"a": {"title": "A", "metric": "verbmem", "goal": "lower", "splits": {"forget": "v/f"}}}
    config = {"task": {"name": "town", "title": "Town", "columns": columns}, "limit": None, "seed": 0}
    records = tuple(Record("v/f", i, {"rougeL": 0.5}, {"truth": f"t{i}"}, "ab") for i in range(2))
    score = Score(50.0, (50.0, 50.0), 2, records=records)
    whole = {**config, "fingerprint": fingerprint(config)}
    folder = home / "runs" / "town" / name
    save(Result("town", name, {"id": name}, {"a": score}, {}, whole, {}, 0), folder)
    return folder


def test_runs_of_probes_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    keep(tmp_path, "npo")
    probed_run(tmp_path, "npo", "relearn", "weak", 1, [0.5, 0.5])
    told: list[str] = []
    assert [one.name for one in credible(tmp_path, told.append)] == ["npo"]
    names = [one.name for one in credible(tmp_path, told.append, probed=True)]
    assert names == ["npo", "npo+relearn:weak"]
    assert told == []


def test_what_is_not_believed_or_shown_by_nothing_is_told(tmp_path: Path) -> None:
    keep(tmp_path, "fine")
    (keep(tmp_path, "gone") / RECORDS).unlink()
    raised = keep(tmp_path, "raised") / RESULT
    found = json.loads(raised.read_text(encoding="utf-8"))
    found["columns"]["a"]["value"] = 10.0
    raised.write_text(json.dumps(found), encoding="utf-8")
    told: list[str] = []
    assert [one.name for one in credible(tmp_path, told.append)] == ["fine", "gone"]
    gone, left_out = told
    assert gone == "town/gone: its records.jsonl is gone; nothing shows what its numbers follow from"
    assert left_out == (
        "left out: town/raised: a contradicts the records: "
        "its interval 50.00 to 50.00 does not hold its value 10.00; score the run again"
    )
