"""What a run's numbers are of: what is taken from its settings and records, and what counts as another."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from muse_eval.results.measured import Measured, MeasuredColumn, differs, installed_goal, measured, otherwise
from muse_eval.results.runs import StoredResult, load

CONFIG = {
    "model": {"engine": "hf", "dtype": "float32", "quantization": "int8", "id": "m", "weights": "w"},
    "retrain": {"engine": "vllm", "dtype": None, "weights": "v"},
    "limit": 5,
    "seed": 7,
    "task": {
        "columns": {
            "asked": {
                "metric": "of one's own",
                "goal": "higher",
                "splits": {"qa": "questions", "shots": "examples", "more": "unread"},
                "params": {"tokens": 3},
            }
        }
    },
    "columns": {"asked": {"tokens": 4, "shots": 2}},
    "data": {"sha256": {"questions": "1", "examples": "2", "others": "3"}},
}
RECORDS = [
    {"column": "asked", "split": "questions", "id": 9, "prompt_sha256": "p", "truth": "so", "response": "a"},
    {"column": "asked", "split": "questions", "id": 10, "scores": {"exact": 1.0}},
    {"column": "more", "split": "texts", "id": 0, "truth": "no"},
]


def written(folder: Path, records: str | None = None, **changes: Any) -> StoredResult:
    """Return a run read from a folder."""
    cells: dict[str, dict[str, Any]] = {
        name: {"value": 1.0, "ci": None, "n": 2 + place, "flags": []} for place, name in enumerate("ab")
    }
    whole = {
        "schema_version": 1,
        "task": "town",
        "name": "npo",
        "model": {},
        "columns": {
            "asked": cells["a"],
            "more": cells["b"],
            "undefined": {**cells["a"], "value": None},
        },
        "extras": {"asked": {"reference": {"auc": 1}}, "more": {"reference": {"auc": "0.5"}}},
        "config": CONFIG,
        "provenance": {"code": "c"},
        "seconds": 1.0,
        **changes,
    }
    (folder / "result.json").write_text(json.dumps(whole))
    lines = "".join(f"{json.dumps(one)}\n" for one in RECORDS) if records is None else records
    (folder / "records.jsonl").write_text(lines)
    result = load(folder)
    assert result is not None
    return result


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ── what is taken ────────────────────────────────────────────────────────────────────────────────
def test_all_that_a_run_tells_is_taken(tmp_path: Path) -> None:
    # In the order of their text, in which 10 comes before 9.
    asked = '[["questions",10,null,null],["questions",9,"p","so"]]'
    assert measured(written(tmp_path)) == Measured(
        engine={"engine": "hf", "dtype": "float32", "quantization": "int8"},
        retrain={"engine": "vllm"},
        limit=5,
        seed=7,
        weights="w",
        code="c",
        columns={
            "asked": MeasuredColumn(
                n=2,
                goal="higher",
                params={"tokens": 4, "shots": 2},
                data={"questions": "1", "examples": "2"},
                examples=digest(asked),
                reference=1.0,
            ),
            "more": MeasuredColumn.model_validate({"n": 3, "examples": digest('[["texts",0,null,"no"]]')}),
        },
    )


def test_what_a_run_does_not_tell_is_nothing(tmp_path: Path) -> None:
    odd = {"model": {"weights": 1}, "limit": "5", "seed": 1.5}
    nothing = Measured.model_validate({"columns": {"asked": {"n": 2, "reference": 1.0}, "more": {"n": 3}}})
    assert measured(written(tmp_path, "", config=odd, provenance={"code": 3})) == nothing
    # A file that is cut tells nothing either, nor does a run that was never on disk.
    assert measured(written(tmp_path, '{"column": "asked"', config=odd, provenance={})) == nothing
    told = written(tmp_path, config=odd, provenance={})
    assert measured(StoredResult.model_validate_json(told.model_dump_json())) == nothing


@pytest.mark.parametrize(
    ("task", "column", "goal"),
    [
        ("muse_books", "verbmem_f", "lower"),
        ("muse_books", "knowmem_r", "higher"),
        ("muse_books", "privleak", "zero"),
        ("muse_books", "elsewhere", None),
        ("elsewhere", "verbmem_f", None),
    ],
)
def test_the_goal_of_an_installed_task(task: str, column: str, goal: str | None) -> None:
    assert installed_goal(task, column) == goal


# ── then and now ─────────────────────────────────────────────────────────────────────────────────
def of(column: dict[str, Any] | None = None, **run: Any) -> Measured:
    """Return what a run of one column is of, with these changes."""
    usual = {"n": 100, "goal": "lower", "params": {"k": 0.4}, "data": {"a": "1", "b": "2"}, "examples": "e"}
    whole = {"engine": {"dtype": "float32"}, "retrain": {"dtype": "float32"}, "limit": 5, "seed": 7, **run}
    return Measured.model_validate({**whole, "columns": {"asked": {**usual, **(column or {})}}})


OTHERS = "are others than in the baseline"


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (of(), ""),
        (of(weights="w", code="c"), ""),
        (of(engine={"dtype": "bfloat16"}), "dtype is bfloat16 now, float32 in the baseline"),
        (of(engine={"dtype": "float32", "q": 8}), "q is 8 now, none in the baseline"),
        (of(retrain={}), "dtype is none now, float32 in the baseline"),
        (of(retrain=None), 'retrain is none now, {"dtype": "float32"} in the baseline'),
        (of(limit=None), "limit is none now, 5 in the baseline"),
        (of(seed=8), "seed is 8 now, 7 in the baseline"),
        (of({"n": 99}), "n is 99 now, 100 in the baseline"),
        (of({"goal": "higher"}), "goal is higher now, lower in the baseline"),
        (of({"params": {"k": 0.2}}), "k is 0.2 now, 0.4 in the baseline"),
        (of({"data": {"a": "1", "b": "3"}}), f"the data of b {OTHERS}"),
        (of({"data": {"c": "2"}}), f"the data of a, b, c {OTHERS}"),
        (of({"examples": "f"}), "its records are of other examples than in the baseline"),
        (of({"examples": None}), "its records are of other examples than in the baseline"),
        (of({"reference": 0.5}), "the retrain AUC is 0.5 now, none in the baseline"),
    ],
)
def test_what_is_of_something_else_is_told(now: Measured, told: str) -> None:
    assert otherwise(now, of(), "asked", 0.0) == told


@pytest.mark.parametrize(
    ("now", "then", "tolerance", "told"),
    [
        (None, None, 0.0, ""),
        (None, 0.5, 99.0, "the retrain AUC is none now, 0.5 in the baseline"),
        (0.5, None, 99.0, "the retrain AUC is 0.5 now, none in the baseline"),
        (0.75, 0.5, 50.0, ""),
        (0.25, 0.5, 50.0, ""),
        (0.75, 0.5, 49.9, "the retrain AUC is 0.7500 now, 0.5000 in the baseline"),
        (0.25, 0.5, 49.9, "the retrain AUC is 0.2500 now, 0.5000 in the baseline"),
        (0.50004, 0.5, 0.0, ""),
        (0.5001, 0.5, 0.0, "the retrain AUC is 0.5001 now, 0.5000 in the baseline"),
        (1.0, 0.0, 0.0, ""),
    ],
)
def test_the_retrain_auc_may_move_the_value_by_the_tolerance(
    now: float | None, then: float | None, tolerance: float, told: str
) -> None:
    assert otherwise(of({"reference": now}), of({"reference": then}), "asked", tolerance) == told


@pytest.mark.parametrize(
    ("now", "then", "told"),
    [
        (1, 1, ""),
        ({"a": 1}, {"a": 1}, ""),
        ({"b": True, "a": "x"}, {"a": None, "b": 2.5}, "a is x now, nothing THEN; b is true now, 2.5 THEN"),
        ({"a": 1, "b": 2}, {"b": 2}, "a is 1 now, nothing THEN"),
        ({"a": 1}, {"a": 1, "b": [2]}, "b is nothing now, [2] THEN"),
        ({"a": {"b": None}}, {"a": {"b": 1}}, "b is nothing now, 1 THEN"),
        ({"a": 1}, None, 'it is {"a": 1} now, nothing THEN'),
        (None, {"a": 1}, 'it is nothing now, {"a": 1} THEN'),
    ],
)
def test_a_difference_is_told_key_by_key(now: Any, then: Any, told: str) -> None:
    assert differs("it", now, then, absent="nothing") == told.replace("THEN", "in the baseline")
    assert differs("it", now, then) == told.replace("THEN", "in the baseline").replace("nothing", "none")
