"""Stored columns scored anew from their records: whether value, interval and records agree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from muse_eval.metrics.attacks import attack
from muse_eval.results.lineage import part
from muse_eval.results.runs import StoredColumn
from muse_eval.results.utility import METRIC
from muse_eval.statistics import TwoClasses, mean_interval, relative_auc_interval

StoredRecords = Sequence[Mapping[str, Any]]
"""A column's lines of ``records.jsonl``."""

NEAR = 1e-6
"""Points; numbers read back from JSON are exact, a sum may be taken in another order."""
RESAMPLES = 9_999
AUC_NEAR = 0.01
"""How far two answers of one retrain model may be apart: batches of other sizes change last digits."""


@dataclass(frozen=True)
class Evidence:
    """A column as stored, and all that it must follow from."""

    cell: StoredColumn
    records: StoredRecords
    params: Mapping[str, Any]
    splits: Mapping[str, Any]
    """Role to the task's split."""
    extras: Mapping[str, Any]
    seed: int
    retrain: StoredRecords = ()
    """The retrain model's own records of the same texts, where its run is stored beside."""


AVERAGED = ("exact", "extraction", "fluency")
"""Metrics whose value is 100 × the mean of the score that bears their name."""

Rescore = Callable[[Evidence, bool], str]
"""Says what contradicts the records, empty where nothing does; the flag also scores the texts anew."""


def rescore(metric: str) -> Rescore:
    """Return how a metric's columns are held against their records; of a foreign one only the count is."""
    if metric in AVERAGED:
        return partial(_averaged, metric, None)
    rouge = partial(_averaged, "rougeL", _record)
    known: dict[str, Rescore] = {"verbmem": rouge, "knowmem": rouge, "privleak": _privleak, METRIC: _mean}
    return known.get(metric, _foreign)


def interval_problem(cell: StoredColumn) -> str:
    """Say what is wrong with an interval on its own; empty where it holds its value."""
    if cell.ci is None or cell.value is None:
        return ""
    low, high = cell.ci
    holds = low - NEAR <= cell.value <= high + NEAR
    return "" if holds else f"its interval {low:.2f} to {high:.2f} does not hold its value {cell.value:.2f}"


def _foreign(evidence: Evidence, _deep: bool) -> str:
    return "" if evidence.records or not evidence.cell.n else "it has no records"


def _count(cell: StoredColumn, found: int) -> str:
    return "" if cell.n == found else f"n is {cell.n}, its records are {found}"


def _value(cell: StoredColumn, found: float) -> str:
    if cell.value is not None and abs(cell.value - found) <= NEAR:
        return ""
    told = "undefined" if cell.value is None else f"{cell.value:.2f}"
    return f"its value is {told}, its records give {found:.2f}"


def _interval(cell: StoredColumn, found: tuple[float, float] | None) -> str:
    """Compare an interval with the one that the records give, but for what another generator may draw."""
    if found is None or cell.ci is None or found[0] == found[1]:
        return ""
    room = 0.01 + 0.1 * (found[1] - found[0])
    if all(abs(there - here) <= room for there, here in zip(cell.ci, found, strict=True)):
        return ""
    return (
        f"its interval is {cell.ci[0]:.2f} to {cell.ci[1]:.2f}, "
        f"its records give {found[0]:.2f} to {found[1]:.2f}"
    )


# ── utility ──────────────────────────────────────────────────────────────────────────────────────
def _mean(evidence: Evidence, _deep: bool) -> str:
    """Hold a column of lm-eval's against the score of each question."""
    if problem := _count(evidence.cell, len(evidence.records)):
        return problem
    numbers = only_scores(evidence.records)
    if not numbers and evidence.cell.value is None:
        return ""
    return "its records lack a score" if not numbers else _value(evidence.cell, 100 * float(np.mean(numbers)))


def only_scores(records: StoredRecords) -> list[float]:
    """Return each record's score, where each has one alone; empty where that is not so."""
    scores = [tuple(part(record, "scores").values()) for record in records]
    numbers = [one[0] for one in scores if len(one) == 1 and isinstance(one[0], int | float)]
    return numbers if len(numbers) == len(scores) else []


# ── VerbMem, KnowMem and what stands beside them ─────────────────────────────────────────────────
def _averaged(
    score: str, anew: Callable[[Mapping[str, Any]], str] | None, evidence: Evidence, deep: bool
) -> str:
    """Hold a column against the mean of a score; ``anew`` says where a record's scores are others than it."""
    cell, records = evidence.cell, evidence.records
    if problem := _count(cell, len(records)):
        return problem
    values = [part(record, "scores").get(score) for record in records]
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values) or not numbers:
        return "" if cell.value is None else "its records lack a score"
    if problem := _value(cell, 100 * float(np.mean(numbers))):
        return problem
    if not deep:
        return ""
    if anew and (problem := next(filter(None, map(anew, records)), "")):
        return problem
    low, high = mean_interval(numbers, seed=evidence.seed, resamples=RESAMPLES)
    return _interval(cell, None if min(numbers) == max(numbers) else (100 * low, 100 * high))


def _record(record: Mapping[str, Any]) -> str:
    """Score an example's response against its truth anew; say where the record has other scores."""
    from muse_eval.metrics.rouge import rouge

    response, truth = record.get("response"), record.get("truth")
    name = f"{record.get('split')}[{record.get('id')}]"
    if not isinstance(response, str) or not isinstance(truth, str):
        return f"{name} has no response or no truth"
    stored = part(record, "scores")
    for key, score in rouge(response, truth).items():
        there = stored.get(key, score)
        near = (
            isinstance(there, int | float) and isinstance(score, int | float) and abs(there - score) <= NEAR
        )
        if there != score and not near:
            return f"{name} has {key} {there}, its response and truth give {score}"
    return ""


# ── PrivLeak ─────────────────────────────────────────────────────────────────────────────────────
def _privleak(evidence: Evidence, deep: bool) -> str:
    cell, splits = evidence.cell, evidence.splits
    sides = [[one for one in evidence.records if one.get("split") == splits.get(role)] for role in _ROLES]
    if problem := _count(cell, sum(map(len, sides))):
        return problem
    headline = attack(float(evidence.params.get("k", 0.4)))
    classes = two_classes(evidence.records, splits, headline)
    reference = part(evidence.extras, "reference")
    base = reference.get("auc")
    if classes is None or not isinstance(base, int | float) or base == 0:
        return "" if cell.value is None else "it has a value without scores or a retrain AUC to take it from"
    own = float(classes.wins().mean())
    told = part(evidence.extras, "auc").get(f"forget_holdout_{headline}")
    if isinstance(told, int | float) and abs(told - own) > NEAR:
        return f"its AUC is {told:.4f}, its records give {own:.4f}"
    if problem := _value(cell, 100 * (own - base) / base):
        return problem
    return _of_retrain(evidence, classes, float(base), headline) if deep else ""


_ROLES = ("forget", "holdout")


def _of_retrain(evidence: Evidence, classes: TwoClasses, base: float, headline: str) -> str:
    """Hold retrain's AUC and the interval against the retrain model's own records, where they are there."""
    theirs = two_classes(evidence.retrain, evidence.splits, headline)
    same = theirs is not None and all(
        len(one) == len(other)
        for one, other in (
            (theirs.negatives, classes.negatives),
            (theirs.positives, classes.positives),
        )
    )
    if theirs is None or not same:
        return ""
    found = float(theirs.wins().mean())
    if abs(found - base) > AUC_NEAR:
        return f"its retrain AUC is {base:.4f}, the retrain model's records give {found:.4f}"
    if float(classes.wins().std()) == 0:
        return ""
    interval = relative_auc_interval(classes, theirs, seed=evidence.seed, resamples=RESAMPLES)
    return _interval(evidence.cell, interval and (100 * interval[0], 100 * interval[1]))


def two_classes(records: StoredRecords, splits: Mapping[str, Any], headline: str) -> TwoClasses | None:
    """Return both splits' scores, turned so that likelier is higher; None where one is undefined."""
    sides = []
    for role in _ROLES:
        scores = [
            part(one, "scores").get(headline) for one in records if one.get("split") == splits.get(role)
        ]
        numbers = [-score for score in scores if isinstance(score, int | float)]
        if not scores or len(numbers) < len(scores):
            return None
        sides.append(numbers)
    return TwoClasses(*sides)
