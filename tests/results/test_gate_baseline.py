"""Making, reading and renewing the gate's baseline: what is kept, what is refused, what is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from muse_eval.errors import UserError
from muse_eval.results.gate_baseline import (
    Baseline,
    baseline_text,
    changes,
    compared_flags,
    load_baseline,
    make_baseline,
    only,
)
from muse_eval.results.measured import Measured
from muse_eval.results.runs import StoredResult, load

RUN = "town/npo"


def stored(name: str = "npo", config: dict[str, Any] | None = None, **cells: Any) -> StoredResult:
    """Return a run of these cells, each a value or a value and its interval's half-width."""
    pairs = {column: one if isinstance(one, tuple) else (one, None) for column, one in cells.items()}
    columns = {
        column: {
            "value": value,
            "ci": None if half is None else (value - half, value + half),
            "n": 100,
            "flags": (),
        }
        for column, (value, half) in pairs.items()
    }
    return StoredResult.model_validate(
        {
            "schema_version": 1,
            "task": "town",
            "name": name,
            "model": {},
            "columns": columns,
            "config": config or {},
            "seconds": 1.0,
        }
    )


def baseline(measured: dict[str, Any] | None = None, **runs: dict[str, Any]) -> Baseline:
    """Return a baseline of the task's runs, as its file would have it."""
    whole = {"schema_version": 2, "runs": {f"town/{name}": cells for name, cells in runs.items()}}
    return Baseline.model_validate_json(
        json.dumps({**whole, **({} if measured is None else {"measured": {RUN: measured}})})
    )


def cell(value: float = 9.0, tolerance: float = 2.0, **others: Any) -> dict[str, Any]:
    return {"value": value, "tolerance": tolerance, **others}


# ── a part, a file ───────────────────────────────────────────────────────────────────────────────
def test_a_pattern_that_matches_nothing_names_every_run() -> None:
    with pytest.raises(UserError) as caught:
        only(baseline(npo={}, ga={}), ["town/n*", "town/x"])
    assert str(caught.value) == "--only town/x matches no run of the baseline: town/npo, town/ga"


def test_a_part_keeps_its_cells_and_what_they_are_of() -> None:
    whole = baseline({"limit": 3, "columns": {}}, npo={"a": cell()}, ga={"a": cell(1.0)})
    part = only(whole, ["town/npo"])
    assert part.runs == {RUN: whole.runs[RUN]}
    assert part.measured == whole.measured


def test_a_baseline_that_cannot_be_read_is_called_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.mkdir()
    with pytest.raises(UserError, match=rf"^baseline {path}"):
        load_baseline(path)


def test_a_baseline_that_has_a_key_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text('{"schema_version": 2, "schema_version": 2, "runs": {"town/npo": {}}}')
    with pytest.raises(UserError, match=rf"^baseline {path}.*schema_version"):
        load_baseline(path)


def test_the_file_is_indented_and_tells_no_default() -> None:
    text = baseline_text(
        baseline(npo={"a": cell(), "b": cell(1.5, 0.5, flags=["limited"], settings={"k": 1})})
    )
    assert text == (
        "{\n"
        '  "schema_version": 2,\n'
        '  "runs": {\n'
        '    "town/npo": {\n'
        '      "a": {\n'
        '        "value": 9.0,\n'
        '        "tolerance": 2.0\n'
        "      },\n"
        '      "b": {\n'
        '        "value": 1.5,\n'
        '        "tolerance": 0.5,\n'
        '        "flags": [\n'
        '          "limited"\n'
        "        ],\n"
        '        "settings": {\n'
        '          "k": 1\n'
        "        }\n"
        "      }\n"
        "    }\n"
        "  }\n"
        "}\n"
    )


# ── making one ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("tolerance", [-0.01, 100.0, float("inf"), float("nan")])
def test_a_tolerance_out_of_bounds_is_refused(tolerance: float) -> None:
    with pytest.raises(UserError) as caught:
        make_baseline([stored(a=9.0)], tolerance)
    assert str(caught.value) == (
        f"the tolerance must be a number of points from 0 up, under 100, not {tolerance}"
    )


@pytest.mark.parametrize("tolerance", [0.0, 0.5, 99.99])
def test_a_tolerance_within_them_is_taken(tolerance: float) -> None:
    assert make_baseline([stored(a=(9.0, 3.0))], tolerance).runs[RUN]["a"].tolerance == tolerance


@pytest.mark.parametrize(
    ("half", "tolerance"),
    [
        (None, 0.5),
        (0.5, 0.5),
        (0.75, 0.8),
        (2.0, 2.0),
        # What a float's last digits add is nothing, and the seventh digit of the width is such a one.
        (2.00000004, 2.0),
        (2.000001, 2.1),
        (99.85, 99.9),
        (300.0, 99.9),
    ],
)
def test_half_an_interval_rounded_up_is_the_tolerance(half: float | None, tolerance: float) -> None:
    assert make_baseline([stored(a=(0.0, half))]).runs[RUN]["a"].tolerance == tolerance


def test_nothing_measured_makes_no_baseline() -> None:
    for results in ([], [stored(a=None)]):
        with pytest.raises(UserError) as caught:
            make_baseline(results)
        assert str(caught.value) == (
            "there is no result to make a baseline of; score a model first: muse-eval run"
        )


def test_a_known_baseline_keeps_its_tolerances_and_what_was_not_measured_now() -> None:
    known = baseline(npo={"a": cell(9.0, 7.0), "b": cell(1.0, 3.0)}, ga={"a": cell(5.0, 4.0)})
    now = stored(a=(8.123, 2.0), c=(6.0, 2.0), d=None)
    made = make_baseline([now], known=known)
    assert {
        run: {name: (one.value, one.tolerance) for name, one in cells.items()}
        for run, cells in made.runs.items()
    } == {
        "town/ga": {"a": (5.0, 4.0)},
        "town/npo": {"a": (8.12, 7.0), "b": (1.0, 3.0), "c": (6.0, 2.0)},
    }
    assert list(made.runs) == ["town/ga", "town/npo"]
    assert made.measured[RUN].columns.keys() == {"a", "c"}
    assert list(known.runs[RUN]) == ["a", "b"]
    assert make_baseline([now], 1.25, known).runs[RUN]["a"].tolerance == 1.25


def test_what_was_noted_of_columns_not_measured_now_stays_where_the_run_is_the_same() -> None:
    config = {"model": {"dtype": "float32"}, "limit": 5, "seed": 7}
    known = make_baseline([stored(config=config, a=9.0, b=1.0), stored("ga", config, a=2.0)])
    again = make_baseline([stored(config=config, b=2.0, c=3.0)], known=known)
    assert list(again.measured) == ["town/ga", "town/npo"]
    assert again.measured["town/ga"] == known.measured["town/ga"]
    assert list(again.measured[RUN].columns) == ["a", "b", "c"]
    assert again.measured[RUN].limit == 5
    others: list[dict[str, Any]] = [{"limit": 6}, {"seed": 8}, {"model": {}}, {"retrain": {"engine": "hf"}}]
    for other in others:
        renewed = make_baseline([stored(config={**config, **other}, b=2.0)], known=known)
        assert list(renewed.measured[RUN].columns) == ["b"]
    # Of a run of which nothing has a value, nothing is noted.
    assert make_baseline([stored(config=config, b=None)], known=known) == known


def test_what_is_known_of_a_column_is_renewed_with_it() -> None:
    known = make_baseline([stored(a=9.0)])
    cells = {"a": stored(a=9.0).columns["a"].model_copy(update={"n": 50})}
    now = stored(a=9.0).model_copy(update={"columns": cells})
    assert make_baseline([now], known=known).measured[RUN].columns["a"].n == 50


def test_each_response_is_scored_anew_before_its_run_is_taken(tmp_path: Path) -> None:
    columns = {"a": {"metric": "verbmem", "goal": "lower"}}
    record = {
        "column": "a",
        "split": "s",
        "id": 0,
        "response": "no",
        "truth": "yes",
        "scores": {"rougeL": 1.0},
    }
    result = stored(config={"task": {"columns": columns}}, a=100.0).model_dump()
    result["columns"]["a"]["n"] = 1
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "records.jsonl").write_text(json.dumps(record) + "\n")
    read = load(tmp_path)
    assert read is not None
    with pytest.raises(UserError) as caught:
        make_baseline([read])
    assert str(caught.value) == (
        "town/npo is not taken: a contradicts the records: s[0] has rougeL 1.0, its response and truth "
        "give 0.0; score it again"
    )


def test_flags_that_follow_from_values_and_answers_are_left_out() -> None:
    follow = ("saturated", "degenerate", "answer-space", "no-answer-space", "unanswered")
    assert compared_flags(("truncated", *follow, "limited", "limited")) == ("limited", "truncated")
    assert compared_flags(()) == ()


# ── what is told of a change ─────────────────────────────────────────────────────────────────────
def noted(column: dict[str, Any] | None = None, **run: Any) -> dict[str, Any]:
    return {"engine": {"dtype": "float32"}, **run, "columns": {"a": {"n": 9, **(column or {})}}}


BEFORE = baseline(noted(), npo={"a": cell()})


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, BEFORE, "9.0 (new)"),
        (baseline(ga={"a": cell()}), BEFORE, "9.0 (new)"),
        (baseline(npo={"b": cell()}), BEFORE, "9.0 (new)"),
        (BEFORE, BEFORE, ""),
        (BEFORE, baseline(noted(), npo={"a": cell(14.2)}), "9.0 → 14.2"),
        (BEFORE, baseline(noted(), npo={"a": cell(9.0, 2.5)}), "tolerance 2.0 → 2.5"),
        (BEFORE, baseline(noted(), npo={"a": cell(flags=["limited"])}), "flags none → ('limited',)"),
        (
            baseline(npo={"a": cell(flags=["x"], settings={"k": 1})}),
            baseline(npo={"a": cell(8.0, 1.0, settings={})}),
            "9.0 → 8.0, tolerance 2.0 → 1.0, flags ('x',) → none, settings {'k': 1} → none",
        ),
        (
            baseline(npo={"a": cell()}),
            baseline(npo={"a": cell(settings={"k": 2})}),
            "settings none → {'k': 2}",
        ),
        (baseline(npo={"a": cell()}), BEFORE, "what it is of is noted now"),
        (baseline(npo={"a": cell()}), baseline(npo={"a": cell()}), ""),
        (BEFORE, baseline(npo={"a": cell()}), ""),
        (
            BEFORE,
            baseline(noted({"n": 8}), npo={"a": cell(8.0)}),
            "9.0 → 8.0, of something else: n is 8 now, 9 in the baseline",
        ),
        (
            BEFORE,
            baseline(noted(seed=1), npo={"a": cell()}),
            "of something else: seed is 1 now, none in the baseline",
        ),
        (BEFORE, baseline(noted(weights="w", code="c"), npo={"a": cell()}), ""),
        (
            baseline({"columns": {}}, npo={"a": cell()}),
            baseline({"columns": {"a": {"n": 1}}}, npo={"a": cell()}),
            "of something else: it was not measured before",
        ),
        (
            baseline({"columns": {"a": {"n": 1}}}, npo={"a": cell()}),
            baseline({"columns": {}}, npo={"a": cell()}),
            "of something else: it was not measured before",
        ),
        # Nearer than the gate minds, and yet another.
        (
            baseline(noted({"reference": 0.5}), npo={"a": cell()}),
            baseline(noted({"reference": 0.50004}), npo={"a": cell()}),
            "of something else: its retrain AUC",
        ),
        (
            baseline(noted({"reference": 0.5}), npo={"a": cell()}),
            baseline(noted({"reference": 0.501}), npo={"a": cell()}),
            "of something else: the retrain AUC is 0.5010 now, 0.5000 in the baseline",
        ),
    ],
)
def test_a_changed_cell_is_told_in_a_line(before: Baseline | None, after: Baseline, told: str) -> None:
    assert changes(before, after) == ([f"town/npo a {told}"] if told else [])


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ({"engine": {"dtype": "bfloat16"}}, "dtype is bfloat16 now, float32 in the baseline"),
        ({"retrain": {"dtype": "a"}}, 'retrain is {"dtype": "a"} now, none in the baseline'),
        ({"limit": 2}, "limit is 2 now, none in the baseline"),
        ({"seed": 2}, "seed is 2 now, none in the baseline"),
    ],
)
def test_a_run_of_something_else_is_told(run: dict[str, Any], told: str) -> None:
    after = BEFORE.model_copy(update={"measured": {RUN: Measured.model_validate({**noted(), **run})}})
    assert changes(BEFORE, after) == [f"town/npo a of something else: {told}"]


def test_every_changed_cell_is_told_in_the_order_of_the_file() -> None:
    after = baseline(noted(), npo={"b": cell(1.0), "a": cell(8.0)}, ga={"a": cell(3.0)})
    assert changes(BEFORE, after) == ["town/npo b 1.0 (new)", "town/npo a 9.0 → 8.0", "town/ga a 3.0 (new)"]
