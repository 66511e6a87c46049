"""The gate cell by cell: what is told of each, which way is better, and where a baseline guards nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from muse_eval.errors import UserError
from muse_eval.results.gate import Comparison, Verdict, check, compare, points
from muse_eval.results.gate_baseline import Baseline, make_baseline
from muse_eval.results.runs import StoredResult, load
from tests.results.test_gate import expecting, flagged, stored

RUN = "town/npo"


def town(name: str = "npo", goals: dict[str, str] | None = None, **values: float | None) -> StoredResult:
    """Return a run of a task that is not installed, whose own settings tell the columns' goals."""
    known = {column: {"goal": (goals or {}).get(column, "lower")} for column in values}
    config = {"task": {"columns": known}}
    return stored(name, "town", None, **values).model_copy(update={"config": config})


# ── what is not there ────────────────────────────────────────────────────────────────────────────
def test_a_cell_that_is_not_there_keeps_what_was_expected() -> None:
    baseline = Baseline.model_validate(
        {
            "schema_version": 1,
            "runs": {run: expecting(a=(9.0, 2.0)).runs["muse_books/npo"] for run in (RUN, "town/ga")},
        }
    )
    report = compare([town(b=5.0)], baseline)
    assert report.rows == (
        Comparison("town/ga", "a", 9.0, None, None, 2.0, "missing", "no such run", absent=True),
        Comparison(RUN, "a", 9.0, None, None, 2.0, "missing", "not scored", absent=True),
    )


def test_what_stands_after_a_cell_that_is_not_there_is_compared() -> None:
    report = compare([town(b=5.0, c=None)], expecting(RUN, a=(9.0, 2.0), c=(1.0, 1.0), b=(5.0, 1.0)))
    assert [(row.column, row.verdict) for row in report.rows] == [
        ("a", "missing"),
        ("c", "missing"),
        ("b", "ok"),
    ]


def test_an_undefined_cell_without_a_reason_is_called_so() -> None:
    bare = town(a=None)
    column = bare.columns["a"].model_copy(update={"reason": None})
    (row,) = compare([bare.model_copy(update={"columns": {"a": column}})], expecting(RUN, a=(9.0, 2.0))).rows
    assert row == Comparison(RUN, "a", 9.0, None, None, 2.0, "missing", "undefined")


def test_a_cell_that_the_baseline_does_not_have_cannot_be_told() -> None:
    known = make_baseline([town(a=9.0)], 2.0)
    report = compare([town(a=9.0, b=5.0, c=None)], known)
    assert report.rows[1:] == (Comparison(RUN, "b", None, 5.0, None, 0.0, "missing", "not in the baseline"),)
    assert report.exit_code == 2
    # A baseline of an older form may have been made before a column could be scored.
    assert len(compare([town(a=9.0, b=5.0)], expecting(RUN, a=(9.0, 2.0))).rows) == 1


def test_of_a_run_that_contradicts_itself_nothing_can_be_told(tmp_path: Path) -> None:
    odd = town(a=9.0).model_dump()
    odd["config"]["fingerprint"] = "0"
    (tmp_path / "result.json").write_text(json.dumps(odd))
    read = load(tmp_path)
    assert read is not None
    (row,) = compare([read], expecting(RUN, a=(9.0, 2.0))).rows
    why = "its settings do not match their fingerprint"
    assert row == Comparison(RUN, "a", 9.0, 9.0, None, 2.0, "missing", why)


# ── what the verdicts have to be read with ───────────────────────────────────────────────────────
def made(name: str, weights: str, code: str) -> StoredResult:
    result = town(name, a=9.0)
    return result.model_copy(
        update={"config": {**result.config, "model": {"weights": weights}}, "provenance": {"code": code}}
    )


def test_other_weights_and_other_code_are_told_and_compared() -> None:
    then = make_baseline([made("a", "w", "c"), made("b", "w", "c"), made("c", "w", "c")])
    report = compare([made("a", "v", "c"), made("b", "v", "d"), made("c", "w", "c")], then)
    assert report.notes == (
        "other weights than in the baseline, their values compared: runs town/a and town/b",
        "scored by other code than in the baseline, values compared: run town/b",
    )
    assert report.exit_code == 0
    report = compare([made("a", "v", "c"), made("b", "w", "d"), made("c", "w", "d")], then)
    assert report.notes == (
        "other weights than in the baseline, their values compared: run town/a",
        "scored by other code than in the baseline, values compared: runs town/b and town/c",
    )
    assert compare([made("a", "w", "c")], then).notes == ()


# ── a part of it ─────────────────────────────────────────────────────────────────────────────────
def test_a_check_leaves_out_what_is_absent_and_may_be_of_a_part() -> None:
    cells = expecting(a=(9.0, 2.0), b=(1.0, 2.0)).runs["muse_books/npo"]
    baseline = Baseline.model_validate({"schema_version": 1, "runs": {RUN: cells, "town/ga": cells}})
    found = [town(a=9.0, b=1.0), town("new", a=1.0)]
    report = check(found, baseline)
    assert (report.whole, report.every, report.cells, report.exit_code) == (False, False, 4, 0)
    assert report.unlisted == ("town/new",)
    assert check(found, baseline, whole=True).exit_code == 2
    part = check(found, baseline, ["town/npo"])
    assert (part.whole, part.every, part.cells, part.unlisted) == (True, False, 4, ())
    assert [(row.run, row.column, row.verdict) for row in part.rows] == [(RUN, "a", "ok"), (RUN, "b", "ok")]
    every = check([*found, town("ga", a=9.0)], baseline, ["town/npo"], every=True)
    assert (every.every, every.cells, every.unlisted, every.exit_code) == (True, 4, ("town/new",), 2)


# ── which way is better ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("goal", "then", "now", "moved", "verdict"),
    [
        ("lower", 9.0, 11.004, 2.0, "ok"),
        ("lower", 9.0, 11.006, 2.01, "worse"),
        ("lower", 5.0, -5.0, -10.0, "better"),
        ("higher", 9.0, 6.5, -2.5, "worse"),
        ("zero", -5.0, 5.0, 0.0, "ok"),
        ("zero", 5.0, -8.0, 3.0, "worse"),
    ],
)
def test_a_move_is_told_in_points(goal: str, then: float, now: float, moved: float, verdict: Verdict) -> None:
    (row,) = compare([town(goals={"a": goal}, a=now)], expecting(RUN, a=(then, 2.0))).rows
    assert row == Comparison(RUN, "a", then, now, moved, 2.0, verdict)


def test_a_references_move_is_told_as_it_is() -> None:
    (row,) = compare([town("target", {"a": "zero"}, a=-4.5)], expecting("town/target", a=(1.25, 2.0))).rows
    assert row == Comparison("town/target", "a", 1.25, -4.5, -5.75, 2.0, "moved")


def test_points_have_two_digits() -> None:
    assert (points(2.004), points(-2.006)) == (2.0, -2.01)


def test_a_goal_that_nothing_tells_is_an_error() -> None:
    with pytest.raises(UserError) as caught:
        compare([stored("npo", "town", a=9.0)], expecting(RUN, a=(9.0, 2.0)))
    assert str(caught.value) == (
        "town/npo does not say which way is better for 'a'; score it again, or remove it from the baseline"
    )


def test_the_baseline_knows_the_goal_of_what_does_not_say_it_any_more() -> None:
    (row,) = compare([stored("npo", "town", None, a=9.0)], make_baseline([town(a=9.0)])).rows
    assert row.why == "goal is none now, lower in the baseline"


def test_a_goal_is_the_installed_tasks() -> None:
    turned = stored("npo", verbmem_f=9.0, knowmem_r=9.0).model_copy(
        update={
            "config": {
                "task": {"columns": {"verbmem_f": {"goal": "higher"}, "knowmem_r": {"goal": "higher"}}}
            }
        }
    )
    report = compare([turned], expecting(verbmem_f=(9.0, 2.0), knowmem_r=(9.0, 2.0)))
    assert [row.why for row in report.rows] == ["its goal is higher, the task's is lower", ""]
    again = compare([turned], make_baseline([turned]))
    assert [row.why for row in again.rows] == ["its goal is higher, the task's is lower", ""]


def test_all_flags_now_and_then_are_told() -> None:
    then = flagged(town(a=9.0), a=("truncated", "gated"))
    now = flagged(town(a=9.0), a=("limited", "collapsed"))
    (row,) = compare([now], make_baseline([then])).rows
    assert row.why == "flags now: collapsed, limited; in the baseline: gated, truncated"


# ── where a baseline guards nothing ──────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("goals", "value", "tolerance", "why"),
    [
        (("lower", "higher"), 0.0, 99.0, ""),
        (("lower", "higher"), 100.0, 99.0, ""),
        (("lower", "higher"), 49.5, 50.0, ""),
        (("lower", "higher"), 50.5, 50.0, ""),
        (("lower", "higher"), 50.0, 50.0, "the baseline's tolerance 50 lets every value pass"),
        (("lower", "higher"), 50.0, 62.5, "the baseline's tolerance 62.5 lets every value pass"),
        (("lower", "higher"), -0.5, 1.0, "the baseline's value -0.5 is no percentage"),
        (("lower", "higher"), 100.5, 1.0, "the baseline's value 100.5 is no percentage"),
        (("zero",), -100.0, 1.0, ""),
        (("zero",), 400.0, 1.0, ""),
        (("zero",), 0.0, 99.0, ""),
        (("zero",), -100.5, 1.0, "the baseline's value -100.5 is below -100"),
    ],
)
def test_a_cell_that_guards_nothing_cannot_be_told(
    goals: tuple[str, ...], value: float, tolerance: float, why: str
) -> None:
    for goal in goals:
        (row,) = compare([town(goals={"a": goal}, a=value)], expecting(RUN, a=(value, tolerance))).rows
        assert (row.why, row.verdict) == (why, "missing" if why else "ok")


def test_of_a_reference_without_a_goal_any_value_is_compared() -> None:
    run: dict[str, Any] = {"a": (-200.0, 1.0)}
    (row,) = compare([stored("target", "town", None, a=-200.0)], expecting("town/target", **run)).rows
    assert (row.why, row.verdict) == ("", "ok")
