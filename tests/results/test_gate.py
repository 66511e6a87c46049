import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_eval.errors import UserError
from muse_eval.results.gate import (
    Baseline,
    Report,
    baseline_text,
    check,
    compare,
    load_baseline,
    make_baseline,
    only,
)
from muse_eval.results.gate_lines import lines, summary, to_json
from muse_eval.results.runs import StoredResult


def stored(name: str, task: str = "muse_books", half: float | None = 2.0, **values: Any) -> StoredResult:
    columns = {
        column: {
            "value": value,
            "ci": None if value is None or half is None else [value - half, value + half],
            "n": 100,
            "flags": [],
            **({"reason": "give --retrain"} if value is None else {}),
        }
        for column, value in values.items()
    }
    whole = {"schema_version": 1, "task": task, "name": name, "model": {}, "columns": columns, "seconds": 1}
    return StoredResult.model_validate_json(json.dumps(whole))


def flagged(result: StoredResult, **flags: tuple[str, ...]) -> StoredResult:
    """Return the result with flags on some of its columns."""
    changed = {
        name: result.columns[name].model_copy(update={"flags": found}) for name, found in flags.items()
    }
    return result.model_copy(update={"columns": {**result.columns, **changed}})


def expecting(run: str = "muse_books/npo", **columns: tuple[float, float]) -> Baseline:
    cells = {name: {"value": value, "tolerance": tolerance} for name, (value, tolerance) in columns.items()}
    return Baseline.model_validate({"schema_version": 1, "runs": {run: cells}})


# ── a part of the baseline ───────────────────────────────────────────────────────────────────────
def test_only_some_runs_are_compared() -> None:
    whole = Baseline.model_validate(
        {
            "schema_version": 1,
            "runs": {
                run: {"verbmem_f": {"value": 9.0, "tolerance": 1.0}}
                for run in ("muse_news/ga", "muse_news/npo", "muse_news/npo_gdr", "muse_books/ga")
            },
        }
    )
    assert list(only(whole, ["muse_news/npo*", "muse_books/ga"]).runs) == [
        "muse_books/ga",
        "muse_news/npo",
        "muse_news/npo_gdr",
    ]
    assert compare([stored("ga", "muse_news", verbmem_f=9.0)], only(whole, ["muse_news/ga"])).exit_code == 0
    with pytest.raises(UserError, match=r"--only muse_news/npa matches no run of the baseline: muse_news/ga"):
        only(whole, ["muse_news/ga", "muse_news/npa"])


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("column", "then", "now", "verdict", "code"),
    [
        ("verbmem_f", 9.0, 14.2, "worse", 1),
        ("verbmem_f", 9.0, 11.0, "ok", 0),
        ("verbmem_f", 9.0, 11.01, "worse", 1),
        ("verbmem_f", 9.0, 6.0, "better", 0),
        ("verbmem_f", 9.0, 7.0, "ok", 0),
        ("knowmem_r", 50.0, 47.9, "worse", 1),
        ("knowmem_r", 50.0, 52.1, "better", 0),
        ("knowmem_r", 50.0, 48.0, "ok", 0),
        ("privleak", -3.0, -14.0, "worse", 1),
        ("privleak", -3.0, 14.0, "worse", 1),
        ("privleak", -60.0, -50.0, "better", 0),
        ("privleak", -60.0, 50.0, "better", 0),
        ("privleak", -60.0, 61.0, "ok", 0),
    ],
)
def test_a_method_regresses_in_the_bad_direction_only(
    column: str, then: float, now: float, verdict: str, code: int
) -> None:
    report = compare(
        [stored("npo", "muse_books", 2.0, **{column: now})],
        expecting("muse_books/npo", **{column: (then, 2.0)}),
    )
    assert [row.verdict for row in report.rows] == [verdict]
    assert report.exit_code == code


@pytest.mark.parametrize("name", ["target", "retrain"])
@pytest.mark.parametrize(
    ("now", "verdict", "code"), [(96.0, "moved", 1), (104.0, "moved", 1), (98.0, "ok", 0), (102.0, "ok", 0)]
)
def test_a_reference_regresses_in_either_direction(name: str, now: float, verdict: str, code: int) -> None:
    # The task is not installed: a reference needs no goal.
    baseline = expecting(f"elsewhere/{name}", verbmem_f=(100.0, 2.0))
    report = compare([stored(name, "elsewhere", verbmem_f=now)], baseline)
    assert [row.verdict for row in report.rows] == [verdict]
    assert report.exit_code == code


@given(then=st.integers(0, 10_000), tolerance=st.integers(0, 1_000))
def test_a_move_of_exactly_the_tolerance_is_within_it(then: int, tolerance: int) -> None:
    baseline = expecting(verbmem_f=(then / 100, tolerance / 100))
    for now in (then + tolerance, then - tolerance):
        assert compare([stored("npo", verbmem_f=now / 100)], baseline).rows[0].verdict == "ok"
    assert compare([stored("npo", verbmem_f=(then + tolerance + 1) / 100)], baseline).exit_code == 1


def test_what_has_no_result_cannot_be_told() -> None:
    baseline = expecting(verbmem_f=(9.0, 2.0), privleak=(1.0, 2.0))
    gone = compare([], baseline)
    assert [(row.verdict, row.why) for row in gone.rows] == [("missing", "no such run")] * 2
    assert gone.exit_code == 2
    undefined = compare([stored("npo", verbmem_f=9.0, privleak=None)], baseline)
    assert [(row.verdict, row.why) for row in undefined.rows] == [("ok", ""), ("missing", "give --retrain")]
    assert undefined.exit_code == 2
    unscored = compare([stored("npo", verbmem_f=9.0)], baseline)
    assert unscored.rows[1].why == "not scored"


@pytest.mark.parametrize("flag", ["collapsed", "limited", "truncated", "reference-published", "no-reference"])
@pytest.mark.parametrize("name", ["npo", "retrain"])
@pytest.mark.parametrize("now", [-60.0, 0.0])
def test_what_is_flagged_otherwise_than_before_cannot_be_told(flag: str, name: str, now: float) -> None:
    plain, marked = stored(name, privleak=-60.0), flagged(stored(name, privleak=now), privleak=(flag,))
    (row,) = compare([marked], make_baseline([plain])).rows
    why = f"flags now: {flag}; in the baseline: none"
    assert (row.verdict, row.now, row.moved, row.why) == ("missing", now, None, why)
    back = compare([plain], make_baseline([marked]))
    assert [row.why for row in back.rows] == [f"flags now: none; in the baseline: {flag}"]
    assert back.exit_code == 2
    assert compare([marked], make_baseline([marked])).exit_code == 0


def test_saturated_and_the_order_of_flags_make_no_difference() -> None:
    then = flagged(stored("npo", privleak=-90.0), privleak=("truncated", "limited"))
    now = flagged(stored("npo", privleak=-100.0), privleak=("limited", "saturated", "truncated"))
    assert [row.verdict for row in compare([now], make_baseline([then])).rows] == ["worse"]
    assert make_baseline([now]).runs["muse_books/npo"]["privleak"].flags == ("limited", "truncated")


def test_what_is_absent_is_left_out_where_not_all_must_be_there() -> None:
    """Whole runs and columns that were not scored; an undefined cell was scored, and stays untold."""
    cells = {"verbmem_f": (9.0, 2.0), "privleak": (1.0, 2.0)}
    runs = {
        f"{task}/{name}": expecting(f"{task}/{name}", **cells).runs[f"{task}/{name}"]
        for task in ("muse_books", "muse_news")
        for name in ("npo", "a", "b", "c", "d", "e", "f")
    }
    baseline = Baseline(schema_version=1, runs=runs, measured={})
    part = [stored("npo", verbmem_f=9.0)]
    report = compare(part, baseline, whole=False)
    assert report.exit_code == 0
    assert lines(report) == [
        "muse_books/npo verbmem_f 9.0 → 9.0 (+0.0, tolerance ±2.0): ok",
        "muse_books: 6 of 7 not there (runs a, b, c, d, e and 1 more); "
        "not scored (column npo privleak): not compared",
        "muse_news: 7 of 7 not there (runs a, b, c, d, e and 2 more): not compared",
    ]
    assert summary(report) == (
        "fine: 1 within tolerance, 27 not compared (14 runs; --all wants the whole baseline)"
    )
    whole = compare(part, baseline)
    assert whole.exit_code == 2
    assert [line.rpartition(": ")[2] for line in lines(whole)] == ["ok", "cannot tell", "cannot tell"]
    assert summary(whole) == "cannot tell: 27 cannot be told, 1 within tolerance"

    assert compare([stored("npo", verbmem_f=90.0)], baseline, whole=False).exit_code == 1
    assert compare([stored("npo", verbmem_f=9.0, privleak=None)], baseline, whole=False).exit_code == 2
    collapsed = flagged(stored("npo", verbmem_f=9.0, privleak=1.0), privleak=("collapsed",))
    assert compare([collapsed], baseline, whole=False).exit_code == 2
    nothing = compare([stored("other", verbmem_f=1.0)], baseline, whole=False)
    assert (nothing.exit_code, summary(nothing)) == (
        2,
        "cannot tell: none of the baseline's 14 runs was scored here (make demo scores some), "
        "not in the baseline: muse_books/other",
    )


def asking(result: StoredResult, **params: Any) -> StoredResult:
    """Return the result as one whose KnowMem Df was asked with these parameters."""
    spec = {"title": "KnowMem Df", "metric": "knowmem", "goal": "lower"}
    config = {"task": {"columns": {"knowmem_f": spec}}, "columns": {"knowmem_f": params}}
    return result.model_copy(update={"config": config})


@pytest.mark.parametrize("name", ["npo", "target"])
@pytest.mark.parametrize("now", [1.0, 9.0, 60.0])
def test_a_run_asked_otherwise_than_its_baseline_cannot_be_told(name: str, now: float) -> None:
    plain = asking(stored(name, knowmem_f=9.0), shots=10)
    other = asking(stored(name, knowmem_f=now), shots=10, answer_space=False)
    report = compare([other], make_baseline([plain]))
    why = "answer_space is false now, its default in the baseline"
    assert [(row.verdict, row.now, row.why) for row in report.rows] == [("missing", now, why)]
    assert report.exit_code == 2
    back = compare([plain], make_baseline([other]))
    assert [row.why for row in back.rows] == ["answer_space is its default now, false in the baseline"]
    assert compare([other], make_baseline([other])).exit_code == 0


def test_a_baseline_tells_departures_alone_and_one_without_means_the_default(tmp_path: Path) -> None:
    plain, other = (
        asking(stored("npo", knowmem_f=9.0), shots=3),
        asking(stored("ga", knowmem_f=9.0), answer_space=False),
    )
    path = tmp_path / "baseline.json"
    path.write_text(baseline_text(make_baseline([plain, other])), encoding="utf-8")
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    assert runs["muse_books/npo"]["knowmem_f"].keys() == {"value", "tolerance"}
    assert runs["muse_books/ga"]["knowmem_f"]["settings"] == {"answer_space": False}
    assert compare([plain, other], load_baseline(path)).exit_code == 0
    explicit = asking(stored("npo", knowmem_f=9.0), shots=3, answer_space=True)
    assert compare([explicit, other], load_baseline(path)).exit_code == 0


@pytest.mark.parametrize("flag", ["unanswered", "answer-space", "no-answer-space", "degenerate"])
def test_a_flag_that_follows_from_the_answers_is_not_compared(flag: str) -> None:
    plain = stored("target", knowmem_f=1.0)
    assert compare([flagged(plain, knowmem_f=(flag,))], make_baseline([plain])).exit_code == 0
    assert (
        make_baseline([flagged(plain, knowmem_f=(flag,))]).runs["muse_books/target"]["knowmem_f"].flags == ()
    )


def test_a_regression_outweighs_what_cannot_be_told() -> None:
    baseline = expecting(verbmem_f=(9.0, 2.0), privleak=(1.0, 2.0))
    assert compare([stored("npo", verbmem_f=20.0)], baseline).exit_code == 1


def test_nothing_compared_cannot_be_told() -> None:
    assert Report(()).exit_code == 2
    assert summary(Report(())) == "cannot tell: nothing to compare"


@pytest.mark.parametrize(
    ("task", "column", "message"),
    [
        ("elsewhere", "verbmem_f", "elsewhere/npo does not say which way is better for 'verbmem_f'"),
        ("muse_books", "fluency", "muse_books/npo does not say which way is better for 'fluency'"),
    ],
)
def test_without_a_goal_it_is_an_error(task: str, column: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare([stored("npo", task, 2.0, **{column: 1.0})], expecting(f"{task}/npo", **{column: (1.0, 1.0)}))


def test_a_task_of_ones_own_is_compared_as_it_was_scored() -> None:
    columns = {"fluency": {"title": "Fluency", "goal": "higher"}}
    own = stored("npo", "own", fluency=40.0).model_copy(update={"config": {"task": {"columns": columns}}})
    report = compare([own], expecting("own/npo", fluency=(50.0, 2.0)))
    assert [row.verdict for row in report.rows] == ["worse"]


# ── printing ─────────────────────────────────────────────────────────────────────────────────────
def test_lines_and_summary_to_the_letter() -> None:
    cells = {
        "verbmem_f": (9.0, 2.0),
        "knowmem_f": (12.25, 2.5),
        "privleak": (-3.0, 2.0),
        "knowmem_r": (50.0, 3.0),
    }
    baseline = expecting("muse_books/npo", **cells)
    npo = stored("npo", verbmem_f=14.2, knowmem_f=12.5, privleak=None, knowmem_r=60.0)
    report = compare([npo, stored("simnpo", verbmem_f=1.0)], baseline)
    assert lines(report) == [
        "muse_books/npo verbmem_f 9.0 → 14.2 (+5.2, tolerance ±2.0): worse",
        "muse_books/npo knowmem_f 12.25 → 12.5 (+0.25, tolerance ±2.5): ok",
        "muse_books/npo privleak -3.0 → n/a (give --retrain): cannot tell",
        "muse_books/npo knowmem_r 50.0 → 60.0 (+10.0, tolerance ±3.0): better",
    ]
    assert summary(report) == (
        "regression: 1 regressed, 1 cannot be told, 1 better (take it over with --update), "
        "1 within tolerance, not in the baseline: muse_books/simnpo"
    )


def test_a_line_names_the_flags_now_and_then() -> None:
    marked = flagged(stored("npo", privleak=0.2), privleak=("collapsed",))
    assert lines(compare([marked], expecting(privleak=(-3.0, 2.0)))) == [
        "muse_books/npo privleak -3.0 → 0.2 (flags now: collapsed; in the baseline: none): cannot tell"
    ]


def test_privleak_says_how_far_from_zero_it_moved() -> None:
    report = compare([stored("npo", privleak=14.0)], expecting(privleak=(-3.0, 2.0)))
    assert lines(report) == [
        "muse_books/npo privleak -3.0 → 14.0 (distance from 0 +11.0, tolerance ±2.0): worse"
    ]


def test_json() -> None:
    report = compare([stored("npo", verbmem_f=9.5)], expecting(verbmem_f=(9.0, 2.0)))
    assert json.loads(json.dumps(to_json(report))) == {
        "exit_code": 0,
        "summary": "fine: 1 within tolerance",
        "rows": [
            {
                "run": "muse_books/npo",
                "column": "verbmem_f",
                "baseline": 9.0,
                "now": 9.5,
                "moved": 0.5,
                "tolerance": 2.0,
                "verdict": "ok",
                "why": "",
                "absent": False,
            }
        ],
        "unlisted": [],
        "whole": True,
        "notes": [
            "the baseline, of an older form, has nothing but values of run muse_books/npo: n, data, "
            "parameters and engine are not compared; --update notes them"
        ],
    }


# ── the baseline ─────────────────────────────────────────────────────────────────────────────────
def test_tolerance_is_half_the_interval_up_to_a_tenth_and_at_least_a_half() -> None:
    results = [
        stored("a", half=2.0, verbmem_f=9.1),
        stored("b", half=2.01, verbmem_f=9.123456),
        stored("c", half=0.1, verbmem_f=9.0),
        stored("d", half=None, verbmem_f=9.0),
    ]
    runs = make_baseline(reversed(results)).runs
    assert [(key, cells["verbmem_f"].value, cells["verbmem_f"].tolerance) for key, cells in runs.items()] == [
        ("muse_books/a", 9.1, 2.0),
        ("muse_books/b", 9.12, 2.1),
        ("muse_books/c", 9.0, 0.5),
        ("muse_books/d", 9.0, 0.5),
    ]


def test_a_given_tolerance_holds_for_every_cell() -> None:
    runs = make_baseline([stored("npo", verbmem_f=9.0, privleak=None)], tolerance=1.25).runs
    assert {name: cell.tolerance for name, cell in runs["muse_books/npo"].items()} == {"verbmem_f": 1.25}


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_wrong_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(UserError, match="tolerance must be a number of points from 0 up"):
        make_baseline([stored("npo", verbmem_f=9.0)], tolerance)


def test_no_values_make_no_baseline() -> None:
    with pytest.raises(UserError, match="no result to make a baseline of"):
        make_baseline([stored("npo", privleak=None)])


percent = st.none() | st.floats(-100, 110)


@given(verbmem=st.none() | st.floats(0, 100), privleak=percent, half=st.floats(0, 30))
def test_a_baseline_of_the_same_results_is_fine(
    verbmem: float | None, privleak: float | None, half: float
) -> None:
    results = [stored(name, half=half, verbmem_f=verbmem, privleak=privleak) for name in ("target", "npo")]
    if verbmem is None and privleak is None:
        return
    baseline = make_baseline(results)
    assert Baseline.model_validate_json(baseline_text(baseline)) == baseline
    assert compare(results, baseline).exit_code == 0


def test_a_baseline_reads_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(
        '{"schema_version": 1, "runs": {"muse_mini/npo": {"verbmem_f": {"value": 9, "tolerance": 2.0}}}}'
    )
    baseline = load_baseline(path)
    assert baseline == expecting("muse_mini/npo", verbmem_f=(9.0, 2.0))
    path.write_text(baseline_text(baseline))
    assert load_baseline(path) == baseline


def test_only_flags_that_are_there_are_written(tmp_path: Path) -> None:
    marked = flagged(stored("npo", verbmem_f=9.0, privleak=1.0), privleak=("collapsed",))
    path = tmp_path / "baseline.json"
    path.write_text(baseline_text(make_baseline([marked])))
    assert json.loads(path.read_text())["runs"]["muse_books/npo"] == {
        "verbmem_f": {"value": 9.0, "tolerance": 2.0},
        "privleak": {"value": 1.0, "tolerance": 2.0, "flags": ["collapsed"]},
    }
    assert load_baseline(path) == make_baseline([marked])
    # Taking over what is measured now takes its flags over too.
    again = make_baseline([stored("npo", privleak=1.0)], known=load_baseline(path))
    assert again.runs["muse_books/npo"]["privleak"].flags == ()


RUNS = '"runs": {"t/n": {"a": {"value": 9.0, "tolerance": 2.0}}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid JSON"),
        ("{", "invalid JSON"),
        ("[]", "object"),
        (f"{{{RUNS}}}", "schema_version: field required"),
        (f'{{"schema_version": 3, {RUNS}}}', "schema_version: input should be 1 or 2"),
        ('{"schema_version": 1, "runs": {}}', "runs: dictionary should have at least 1 item"),
        ('{"schema_version": 1, "runs": {"n": {}}}', "runs.n"),
        (f'{{"schema_version": 1, "run": {{}}, {RUNS}}}', "run: extra inputs"),
        ('{"schema_version": 1, "runs": {"t/n": {"a": {"value": 9.0}}}}', "t/n.a.tolerance: field required"),
        (
            '{"schema_version": 1, "runs": {"t/n": {"a": {"value": 9.0, "tolerance": -1}}}}',
            "t/n.a.tolerance: input should be greater than or equal to 0",
        ),
        (
            '{"schema_version": 1, "runs": {"t/n": {"a": {"value": 9.0, "tolerance": 1, "tol": 1}}}}',
            "t/n.a.tol: extra inputs are not permitted",
        ),
        (
            '{"schema_version": 1, "runs": {"t/n": {"a": {"value": "9", "tolerance": 1}}}}',
            "t/n.a.value: input should be a valid number",
        ),
        (
            '{"schema_version": 1, "runs": {"t/n": {"a": {"value": NaN, "tolerance": 1}}}}',
            "t/n.a.value: input should be a finite number",
        ),
    ],
)
def test_a_wrong_baseline_is_one_line_naming_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_baseline(path)
    assert str(caught.value).startswith(f"baseline {path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_baseline_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; write one with: muse-eval check --update"):
        load_baseline(tmp_path / "baseline.json")


def test_check_says_how_much_of_the_baseline_was_compared() -> None:
    baseline = expecting("muse_books/npo", verbmem_f=(9.0, 2.0), knowmem_r=(50.0, 2.0))
    report = check([stored("npo", verbmem_f=9.0)], baseline)
    assert summary(report).endswith("; 1 of the baseline's 2 cells compared")
