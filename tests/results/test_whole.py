"""Whether a stored result is whole: each way in which it is not, to the letter."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from muse_eval.config import fingerprint
from muse_eval.results.runs import StoredResult, load
from muse_eval.results.whole import fault, has_records, retrain_records
from muse_eval.statistics import mean_interval

Records = Sequence[Mapping[str, Any]]
EXACT = {"task": {"columns": {"a": {"metric": "exact"}}}}
TWO = [{"column": "a", "split": "s", "id": one, "scores": {"exact": 0.25 + one / 2}} for one in (0, 1)]


def cell(value: float | None = 50.0, n: int = 2, **others: Any) -> dict[str, Any]:
    return {"value": value, "ci": None, "n": n, "flags": [], **others}


def written(
    folder: Path, records: Records = TWO, a: dict[str, Any] | None = None, **changes: Any
) -> StoredResult:
    """Return a run of the column ``a``, the mean of two scores, read from a folder."""
    whole = {
        "schema_version": 1,
        "task": "town",
        "name": folder.name,
        "model": {},
        "columns": {"a": a or cell()},
        "config": EXACT,
        "seconds": 1.0,
        **changes,
    }
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_text(json.dumps(whole))
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in records))
    result = load(folder)
    assert result is not None
    return result


# ── its files ────────────────────────────────────────────────────────────────────────────────────
def test_what_follows_from_its_records_is_whole(tmp_path: Path) -> None:
    result = written(tmp_path)
    assert fault(result) == fault(result, deep=True) == ""
    assert has_records(result)


def test_records_that_are_gone_or_cut_are_told(tmp_path: Path) -> None:
    result = written(tmp_path)
    path = tmp_path / "records.jsonl"
    path.write_text('{"column": "a"')
    assert fault(result).startswith(f"{path}:1")
    path.unlink()
    assert fault(result) == f"{path} does not exist; score the run again"
    assert not has_records(result)


def test_what_was_never_on_disk_needs_no_records(tmp_path: Path) -> None:
    odd = written(tmp_path, config={**EXACT, "fingerprint": "0"})
    assert fault(odd) == "its settings do not match their fingerprint"
    never = StoredResult.model_validate_json(odd.model_dump_json())
    assert fault(never) == ""
    assert has_records(never)


def test_settings_match_their_fingerprint(tmp_path: Path) -> None:
    assert fault(written(tmp_path, config={**EXACT, "fingerprint": fingerprint(EXACT)})) == ""
    changed = {**EXACT, "seed": 1, "fingerprint": fingerprint(EXACT)}
    assert fault(written(tmp_path, config=changed)) == "its settings do not match their fingerprint"


def test_records_of_columns_that_it_does_not_have_are_told(tmp_path: Path) -> None:
    stray: list[dict[str, Any]] = [{"column": "y"}, {"column": "x"}, *TWO, {}]
    assert fault(written(tmp_path, stray)) == "it has records of None, x, y and no such column"


def test_a_column_without_records_is_told(tmp_path: Path) -> None:
    result = written(tmp_path, columns={"a": cell(), "b": cell(n=1)})
    assert fault(result) == "b contradicts the records: it has no records"
    assert fault(written(tmp_path, columns={"a": cell(), "b": cell(n=0)})) == ""


# ── its model ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["weights", "tokenizer", "engine", "dtype"])
@pytest.mark.parametrize(
    ("asked", "had", "told"),
    [
        ("x", "x", ""),
        ("x", None, ""),
        (None, "x", ""),
        (1, "1", ""),
        ("y", "x", "x and y"),
        ("y\tz", "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrst and y z"),
    ],
)
def test_a_model_is_named_in_one_way(tmp_path: Path, kind: str, asked: Any, had: Any, told: str) -> None:
    result = written(tmp_path, config={**EXACT, "model": {kind: asked}}, provenance={"engine": {kind: had}})
    assert fault(result) == (f"it names its {kind} in two ways: {told}" if told else "")


def test_the_digest_of_its_model_is_that_of_its_weights(tmp_path: Path) -> None:
    of = {**EXACT, "model": {"weights": "x", "tokenizer": "t", "engine": "e", "dtype": "d"}}
    assert fault(written(tmp_path, config=of, model={"digest": "x"})) == ""
    assert fault(written(tmp_path, config=of, model={"digest": None})) == ""
    told = fault(written(tmp_path, config=of, model={"digest": "y"}))
    assert told == "it names its weights in two ways: x and y"


# ── its columns ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("limit", "flags", "told"),
    [
        (None, [], ""),
        (None, ["truncated"], ""),
        (5, ["limited"], ""),
        (0, ["limited"], ""),
        (5, [], "limit is 5, its flags are none"),
        (5, ["collapsed", "truncated"], "limit is 5, its flags are collapsed, truncated"),
        (None, ["limited", "truncated"], "limit is None, its flags are limited, truncated"),
    ],
)
def test_the_flag_limited_stands_where_a_limit_does(
    tmp_path: Path, limit: int | None, flags: list[str], told: str
) -> None:
    result = written(tmp_path, a=cell(flags=flags), config={**EXACT, "limit": limit})
    assert fault(result) == (f"a contradicts the records: {told}" if told else "")


def test_a_result_of_before_settings_were_stored_may_have_the_flag(tmp_path: Path) -> None:
    assert fault(written(tmp_path, a=cell(flags=["limited"]), config={})) == ""


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"split": "s", "id": 0}, "s[0] is there twice"),
        ({"split": "s", "id": "0"}, "s[0] is there twice"),
        ({"split": "t", "id": 0}, ""),
        ({"split": "s", "id": 2}, ""),
        ({}, ""),
    ],
)
def test_an_example_is_there_once(tmp_path: Path, place: dict[str, Any], told: str) -> None:
    records = [*TWO, {"column": "a", "scores": {"exact": 0.5}, **place}]
    result = written(tmp_path, records, cell(n=3))
    assert fault(result) == (f"a contradicts the records: {told}" if told else "")


def test_an_interval_that_does_not_hold_its_value_is_told(tmp_path: Path) -> None:
    told = fault(written(tmp_path, a=cell(ci=[60.0, 70.0])))
    assert told == "a contradicts the records: its interval 60.00 to 70.00 does not hold its value 50.00"


def test_intervals_are_taken_anew_where_that_is_asked(tmp_path: Path) -> None:
    result = written(tmp_path, a=cell(ci=[0.0, 100.0]))
    assert fault(result) == ""
    assert fault(result, deep=True) == (
        "a contradicts the records: its interval is 0.00 to 100.00, its records give 25.00 to 75.00"
    )


@pytest.mark.parametrize(("config", "seed"), [({"seed": 1}, 1), ({}, 0), ({"seed": 1.5}, 0)])
def test_intervals_are_taken_anew_with_the_runs_seed(
    tmp_path: Path, config: dict[str, Any], seed: int
) -> None:
    """Of five wrong and eight right answers, 2.5 % of the resamples end where one answer more is right."""
    scores = [0.0] * 5 + [1.0] * 8
    records = [
        {"column": "a", "split": "s", "id": place, "scores": {"exact": one}}
        for place, one in enumerate(scores)
    ]
    given, other = (mean_interval(scores, seed=one, resamples=9_999) for one in (seed, 1 - seed))
    for interval, told in ((given, False), (other, True)):
        one = cell(100 * 8 / 13, 13, ci=[100 * end for end in interval])
        assert bool(fault(written(tmp_path, records, one, config={**EXACT, **config}), deep=True)) == told


# ── PrivLeak, and the retrain model's run beside it ──────────────────────────────────────────────
def privleak(**config: Any) -> dict[str, Any]:
    spec = {"metric": "privleak", "splits": {"forget": "f", "holdout": "h"}}
    return {"task": {"columns": {"a": spec}}, "columns": {"a": {"k": 0.2}}, **config}


def texts(*scores: float, column: str = "a") -> list[dict[str, Any]]:
    """Return records of two texts of each split."""
    return [
        {"column": column, "split": "ffhh"[place], "id": place, "scores": {"Min-20%": one}}
        for place, one in enumerate(scores)
    ]


REFERENCE = {"reference": {"auc": 0.5}}
BEST = texts(2.0, 3.0, 0.0, 1.0)
"""Of which every pair is won: an AUC of 1."""


@pytest.mark.parametrize("extras", [{"a": REFERENCE}, REFERENCE, {"a": REFERENCE, "reference": {"auc": 0.1}}])
def test_privleak_is_by_its_own_parameters_splits_and_extras(tmp_path: Path, extras: dict[str, Any]) -> None:
    assert fault(written(tmp_path, BEST, cell(100.0, 4), config=privleak(), extras=extras)) == ""
    told = fault(written(tmp_path, BEST, cell(90.0, 4), config=privleak(), extras=extras))
    assert told == "a contradicts the records: its value is 90.00, its records give 100.00"


def test_privleak_is_held_against_the_retrain_models_run(tmp_path: Path) -> None:
    asked = {"weights": "r"}
    written(tmp_path / "retrain", BEST, cell(100.0, 4), config={"model": asked})
    config = privleak(retrain=asked)
    result = written(tmp_path / "npo", BEST, cell(100.0, 4), config=config, extras=REFERENCE)
    assert fault(result) == ""
    assert fault(result, deep=True) == (
        "a contradicts the records: its retrain AUC is 0.5000, the retrain model's records give 1.0000"
    )


def test_the_retrain_models_records_are_those_of_the_column(tmp_path: Path) -> None:
    asked = {"weights": "r"}
    others = texts(1.0, 1.0, column="b")
    written(tmp_path / "retrain", [*BEST, *others], config={"model": asked})
    result = written(tmp_path / "npo", config={"retrain": asked})
    assert retrain_records(result, "a") == BEST
    assert retrain_records(result, "b") == others
    assert retrain_records(StoredResult.model_validate_json(result.model_dump_json()), "a") == ()


@pytest.mark.parametrize(
    ("asked", "model"),
    [({"weights": "r"}, {"weights": "s"}), ({"weights": "r"}, None), ({}, {}), (None, None)],
)
def test_another_retrain_models_records_say_nothing(tmp_path: Path, asked: Any, model: Any) -> None:
    written(tmp_path / "retrain", config={} if model is None else {"model": model})
    assert retrain_records(written(tmp_path / "npo", config={"retrain": asked}), "a") == ()


def test_a_retrain_run_that_is_not_there_or_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    asked = {"weights": "r"}
    result = written(tmp_path / "npo", config={"retrain": asked})
    assert retrain_records(result, "a") == ()
    written(tmp_path / "retrain", config={"model": asked})
    (tmp_path / "retrain" / "records.jsonl").unlink()
    assert retrain_records(result, "a") == ()
    (tmp_path / "retrain" / "result.json").write_text("{")
    assert retrain_records(result, "a") == ()
