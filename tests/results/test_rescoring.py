"""Stored columns held against their records: each message to the letter, each bound from both sides."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from muse_eval.results.rescoring import Evidence, interval_problem, only_scores, rescore, two_classes
from muse_eval.results.runs import StoredColumn
from muse_eval.statistics import TwoClasses

Pair = tuple[float, float]
Records = Sequence[Mapping[str, Any]]
SPLITS = {"forget": "f", "holdout": "h"}


def cell(value: float | None, ci: Pair | None = None, n: int = 2) -> StoredColumn:
    return StoredColumn(value=value, ci=ci, n=n, flags=())


def evidence(cell: StoredColumn, records: Records, **others: Any) -> Evidence:
    return Evidence(
        cell, records, **{"params": {}, "splits": SPLITS, "extras": {}, "seed": 0, "retrain": (), **others}
    )


def scored(name: str, *values: Any) -> list[dict[str, Any]]:
    """Return a record for each value of a score."""
    return [{"split": "s", "id": place, "scores": {name: value}} for place, value in enumerate(values)]


# ── an interval on its own ───────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("value", "ci", "told"),
    [
        (None, (1.0, 2.0), ""),
        (9.0, None, ""),
        (0.0, (-1.0, 1.0), ""),
        (0.0, (1e-6, 1.0), ""),
        (0.0, (-1.0, -1e-6), ""),
        (0.0, (2e-6, 1.0), "its interval 0.00 to 1.00 does not hold its value 0.00"),
        (0.0, (-1.0, -2e-6), "its interval -1.00 to -0.00 does not hold its value 0.00"),
        (6.0, (4.0, 5.125), "its interval 4.00 to 5.12 does not hold its value 6.00"),
    ],
)
def test_an_interval_holds_its_value_but_for_a_last_digit(
    value: float | None, ci: Pair | None, told: str
) -> None:
    assert interval_problem(cell(value, ci)) == told


# ── a mean ───────────────────────────────────────────────────────────────────────────────────────
MEANS = {
    "exact": "exact",
    "extraction": "extraction",
    "fluency": "fluency",
    "verbmem": "rougeL",
    "knowmem": "rougeL",
    "lm-eval": "acc",
}


@pytest.mark.parametrize(("metric", "score"), MEANS.items())
@pytest.mark.parametrize(
    ("value", "n", "scores", "told"),
    [
        (50.0, 2, (0.25, 0.75), ""),
        (100.0, 2, (1, 1), ""),
        (1e-6, 2, (0.0, 0.0), ""),
        (2e-6, 2, (0.0, 0.0), "its value is 0.00, its records give 0.00"),
        (40.0, 2, (0.25, 0.75), "its value is 40.00, its records give 50.00"),
        (None, 2, (0.25, 0.75), "its value is undefined, its records give 50.00"),
        (50.0, 3, (0.25, 0.75), "n is 3, its records are 2"),
        (50.0, 2, (0.5, None), "its records lack a score"),
        (50.0, 2, (0.5, "0.5"), "its records lack a score"),
        (0.0, 0, (), "its records lack a score"),
        (None, 2, (0.5, None), ""),
        (None, 0, (), ""),
    ],
)
def test_a_value_is_a_hundred_times_the_mean_of_its_score(
    metric: str, score: str, value: float | None, n: int, scores: tuple[Any, ...], told: str
) -> None:
    assert rescore(metric)(evidence(cell(value, n=n), scored(score, *scores)), False) == told


@pytest.mark.parametrize("metric", [metric for metric in MEANS if metric != "lm-eval"])
def test_a_mean_is_of_the_score_that_it_is_named_after(metric: str) -> None:
    told = rescore(metric)(evidence(cell(50.0), scored("another", 0.5, 0.5)), False)
    assert told == "its records lack a score"


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ([{"a": 1}, {"b": 0.5}], [1, 0.5]),
        ([{"a": 1}, {"a": 1, "b": 1}], []),
        ([{"a": 1}, {"a": "1"}], []),
        ([{"a": 1}, {}], []),
        ([{"a": 1}, None], []),
        ([], []),
    ],
)
def test_scores_are_known_where_each_record_has_one_alone(scores: list[Any], found: list[float]) -> None:
    assert only_scores([{"scores": one} for one in scores]) == found


@pytest.mark.parametrize(
    ("n", "records", "told"),
    [
        (0, [], ""),
        (2, [], "it has no records"),
        (2, [{}], ""),
        (0, [{}], ""),
    ],
)
def test_of_a_foreign_metric_there_must_be_records_at_all(n: int, records: Records, told: str) -> None:
    for deep in (False, True):
        assert rescore("elsewhere")(evidence(cell(9.0, n=n), records), deep) == told


# ── its interval ─────────────────────────────────────────────────────────────────────────────────
# Resampled, two examples are twice the one, each once or twice the other: ¼, ½, ¼. The 95 % interval of
# their mean therefore spans them, here 25 to 75, and another may be off by 0.01 and a tenth of its width.
@pytest.mark.parametrize(
    ("ci", "told"),
    [
        (None, ""),
        ((25.0, 75.0), ""),
        ((20.0, 80.0), ""),
        ((30.0, 70.0), ""),
        ((19.98, 75.0), "its interval is 19.98 to 75.00, its records give 25.00 to 75.00"),
        ((25.0, 80.02), "its interval is 25.00 to 80.02, its records give 25.00 to 75.00"),
        ((30.02, 69.98), "its interval is 30.02 to 69.98, its records give 25.00 to 75.00"),
    ],
)
def test_an_interval_is_near_the_one_that_the_records_give(ci: Pair | None, told: str) -> None:
    found = evidence(cell(50.0, ci), scored("exact", 0.25, 0.75))
    assert rescore("exact")(found, True) == told
    assert rescore("exact")(found, False) == ""


def test_an_interval_may_be_off_by_just_that() -> None:
    found = evidence(cell(50.0, (-10.01, 100.0)), scored("exact", 0.0, 1.0))
    assert rescore("exact")(found, True) == ""


@pytest.mark.parametrize("score", [0.1, 0.5])
def test_scores_that_are_all_the_same_give_no_interval_to_compare_with(score: float) -> None:
    """Nor where the sums of tenths differ in their last digits."""
    found = evidence(cell(100 * score, (0.0, 100.0), n=9), scored("exact", *[score] * 9))
    assert rescore("exact")(found, True) == ""


# ── a response and its truth ─────────────────────────────────────────────────────────────────────
def answered(response: Any, truth: Any, **scores: Any) -> dict[str, Any]:
    return {"split": "verbmem/forget", "id": 7, "response": response, "truth": truth, "scores": scores}


@pytest.mark.parametrize("metric", ["verbmem", "knowmem"])
@pytest.mark.parametrize(
    ("value", "record", "told"),
    [
        (50.0, answered("a b", "a c", rougeL=0.5), ""),
        (50.0, answered("a b", "a c", rougeL=0.5, rouge1=0.5, rouge1_recall=0.5, rougeL_recall=0.5), ""),
        (50.0, answered("a b", "a c", rougeL=0.5, rouge1=0.5 + 5e-7), ""),
        (1e-4, answered("a", "b", rougeL=1e-6), ""),
        (
            2e-4,
            answered("a", "b", rougeL=2e-6),
            "verbmem/forget[7] has rougeL 2e-06, its response and truth give 0.0",
        ),
        (
            50.0,
            answered("a b", "a c", rougeL=0.5, rouge1_recall=1.0),
            "verbmem/forget[7] has rouge1_recall 1.0, its response and truth give 0.5",
        ),
        (
            50.0,
            answered("a b", "a c", rougeL=0.5, rouge1=None),
            "verbmem/forget[7] has rouge1 None, its response and truth give 0.5",
        ),
        (50.0, answered(None, "a c", rougeL=0.5), "verbmem/forget[7] has no response or no truth"),
        (50.0, answered("a b", 3, rougeL=0.5), "verbmem/forget[7] has no response or no truth"),
    ],
)
def test_a_response_is_scored_anew(metric: str, value: float, record: dict[str, Any], told: str) -> None:
    found = evidence(cell(value, n=1), [record])
    assert rescore(metric)(found, True) == told
    assert rescore(metric)(found, False) == ""


def test_the_first_response_that_is_scored_otherwise_is_told_before_the_interval() -> None:
    records = [
        answered("a b", "a c", rougeL=0.5),
        {**answered("a b", "a c", rougeL=0.25), "id": 8},
        {**answered("a b", "a c", rougeL=0.75), "id": 9},
    ]
    told = rescore("verbmem")(evidence(cell(50.0, (0.0, 100.0), n=3), records), True)
    assert told == "verbmem/forget[8] has rougeL 0.25, its response and truth give 0.5"


# ── PrivLeak ─────────────────────────────────────────────────────────────────────────────────────
def texts(forget: Sequence[Any], holdout: Sequence[Any], score: str = "Min-40%") -> list[dict[str, Any]]:
    """Return the records of both splits' texts, and one of a split that the column does not read."""
    sides = [("f", one) for one in forget] + [("h", one) for one in holdout] + [("r", 9.0)]
    return [{"split": split, "scores": {score: one}} for split, one in sides]


# The AUC is the share of pairs in which the forget text's score is the higher, a tie counted half.
THREE_OF_FOUR = texts([1.0, 3.0], [2.0, 0.0])
NONE_OF_FOUR = texts([0.0, 0.0], [1, 1])
ALL = texts([2.0, 3.0], [0.0, 1.0])
TIES = texts([1.0, 1.0], [1.0, 1.0])
NOTHING = "it has a value without scores or a retrain AUC to take it from"


def relative(auc: Any, **told: Any) -> dict[str, Any]:
    """Return a PrivLeak column's extras: the retrain model's AUC, and what the model's own is said to be."""
    return {"reference": {"auc": auc}, "auc": {f"forget_holdout_{name}": own for name, own in told.items()}}


@pytest.mark.parametrize(
    ("value", "records", "extras", "told"),
    [
        (50.0, THREE_OF_FOUR, relative(0.5), ""),
        (-25.0, THREE_OF_FOUR, relative(1), ""),
        (50.0 + 1e-5, THREE_OF_FOUR, relative(0.5), "its value is 50.00, its records give 50.00"),
        (49.0, THREE_OF_FOUR, relative(0.5), "its value is 49.00, its records give 50.00"),
        (None, THREE_OF_FOUR, relative(0.5), "its value is undefined, its records give 50.00"),
        (25.0, texts([1.0, 3.0], [1.0, 2.0]), relative(0.5), ""),
        (50.0, THREE_OF_FOUR, relative(0.5, **{"Min-40%": 0.75}), ""),
        (50.0, THREE_OF_FOUR, relative(0.5, **{"Min-20%": 0.1, "Min-40%": "0.1"}), ""),
        (
            50.0,
            THREE_OF_FOUR,
            relative(0.5, **{"Min-40%": 0.7}),
            "its AUC is 0.7000, its records give 0.7500",
        ),
        (-100.0, NONE_OF_FOUR, relative(0.5, **{"Min-40%": 1e-6}), ""),
        (
            -100.0,
            NONE_OF_FOUR,
            relative(0.5, **{"Min-40%": 2e-6}),
            "its AUC is 0.0000, its records give 0.0000",
        ),
        (50.0, THREE_OF_FOUR, {}, NOTHING),
        (50.0, THREE_OF_FOUR, relative("0.5"), NOTHING),
        (50.0, THREE_OF_FOUR, relative(0), NOTHING),
        (50.0, texts([1.0, None], [2.0, 0.0]), relative(0.5), NOTHING),
        (50.0, texts([1.0, 3.0], [2.0, 0.0], "PPL"), relative(0.5), NOTHING),
        (None, THREE_OF_FOUR, {}, ""),
        (None, THREE_OF_FOUR, relative(0.0), ""),
        (None, texts([1.0, None], [2.0, 0.0]), relative(0.5), ""),
    ],
)
def test_privleak_is_the_auc_relative_to_retrains(
    value: float | None, records: Records, extras: dict[str, Any], told: str
) -> None:
    assert rescore("privleak")(evidence(cell(value, n=4), records, extras=extras), False) == told


def test_privleak_counts_the_texts_of_its_two_splits() -> None:
    found = evidence(cell(50.0, n=5), THREE_OF_FOUR, extras=relative(0.5))
    assert rescore("privleak")(found, False) == "n is 5, its records are 4"


@pytest.mark.parametrize(("params", "value"), [({}, 50.0), ({"k": 0.4}, 50.0), ({"k": 0.2}, -100.0)])
def test_privleak_is_of_its_own_attack(params: dict[str, Any], value: float) -> None:
    both = [
        {"split": one["split"], "scores": {**one["scores"], **other["scores"]}}
        for one, other in zip(THREE_OF_FOUR, texts([0.0, 0.0], [1.0, 1.0], "Min-20%"), strict=True)
    ]
    found = evidence(cell(value, n=4), both, extras=relative(0.5), params=params)
    assert rescore("privleak")(found, False) == ""


# Of the resamples of two texts a side, a sixteenth takes one pair alone, more than the 2.5 % cut off: the
# interval of the AUC goes from the worst pair's outcome to the best pair's, here 0 to 1.
@pytest.mark.parametrize(
    ("value", "records", "base", "retrain", "ci", "told"),
    [
        (50.0, THREE_OF_FOUR, 0.5, TIES, (-100.0, 100.0), ""),
        (50.0, THREE_OF_FOUR, 0.5, TIES, (-120.0, 80.0), ""),
        (50.0, THREE_OF_FOUR, 0.5, TIES, None, ""),
        (
            50.0,
            THREE_OF_FOUR,
            0.5,
            TIES,
            (-50.0, 120.0),
            "its interval is -50.00 to 120.00, its records give -100.00 to 100.00",
        ),
        # One pair is a tie, the others are won; of the retrain model's all are: ½ / 1 − 1 to 1 / 1 − 1.
        (
            -12.5,
            texts([2.0, 3.0], [2.0, 0.0]),
            1.0,
            ALL,
            (-90.0, 10.0),
            "its interval is -90.00 to 10.00, its records give -50.00 to 0.00",
        ),
        (
            50.0,
            THREE_OF_FOUR,
            0.5,
            THREE_OF_FOUR,
            (-100.0, 100.0),
            "its retrain AUC is 0.5000, the retrain model's records give 0.7500",
        ),
        (
            200.0,
            THREE_OF_FOUR,
            0.25,
            NONE_OF_FOUR,
            (0.0, 0.0),
            "its retrain AUC is 0.2500, the retrain model's records give 0.0000",
        ),
        # An AUC that is 0.01 off is as near as another size of batches may make it.
        (7400.0, THREE_OF_FOUR, 0.01, NONE_OF_FOUR, (0.0, 9999.0), ""),
        # Where every pair ends the same, resampling gives no interval.
        (100.0, ALL, 0.5, TIES, (-500.0, 500.0), ""),
        (100 / 7, ALL, 0.875, texts([2.0, 3.0], [2.0, 0.0]), (-500.0, 500.0), ""),
        (100.0, ALL, 0.5, texts([1.0, 3.0, 1.0], [1.0, 1.0]), (-500.0, 500.0), ""),
        (50.0, THREE_OF_FOUR, 0.5, (), (-500.0, 500.0), ""),
        (50.0, THREE_OF_FOUR, 0.5, texts([1.0, None], [1.0, 1.0]), (-500.0, 500.0), ""),
        (50.0, THREE_OF_FOUR, 0.5, texts([1.0, 1.0], [1.0, 1.0], "PPL"), (-500.0, 500.0), ""),
        # Of other numbers of texts than the model's.
        (50.0, THREE_OF_FOUR, 0.5, texts([9.0, 9.0, 9.0], [1.0, 1.0]), (-500.0, 500.0), ""),
        (50.0, THREE_OF_FOUR, 0.5, texts([9.0, 9.0], [1.0, 1.0, 1.0]), (-500.0, 500.0), ""),
    ],
)
def test_privleak_is_held_against_the_retrain_models_records(
    value: float, records: Records, base: float, retrain: Records, ci: Pair | None, told: str
) -> None:
    found = evidence(cell(value, ci, n=4), records, extras=relative(base), retrain=retrain)
    assert rescore("privleak")(found, False) == ""
    assert rescore("privleak")(found, True) == told


@pytest.mark.parametrize(
    ("records", "classes"),
    [
        (texts([1.0, 3.0], [2, 5.0]), TwoClasses([-1.0, -3.0], [-2, -5.0])),
        (texts([1.0, None], [2.0]), None),
        (texts([1.0], ["2.0"]), None),
        (texts([], [2.0]), None),
        (texts([1.0], []), None),
    ],
)
def test_both_classes_are_turned_so_that_likelier_is_higher(
    records: Records, classes: TwoClasses | None
) -> None:
    assert two_classes(records, SPLITS, "Min-40%") == classes
    assert two_classes(records, SPLITS, "PPL") is None
