"""A stored column's scores, example by example, resampled as every other row's of its table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_eval.config import canonical_json
from muse_eval.metrics.attacks import attack
from muse_eval.results.comparable import held_alike, stored_params
from muse_eval.results.lineage import part
from muse_eval.results.rescoring import AVERAGED, only_scores, two_classes
from muse_eval.results.rows import Goal
from muse_eval.results.runs import CorruptResult, StoredResult, load, load_records
from muse_eval.results.utility import METRIC
from muse_eval.results.whole import retrain_records
from muse_eval.statistics import Difference, TwoClasses, difference, flip_p, resampled_auc, resampled_mean

Floats = NDArray[np.float64]
Examples = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Scores:
    """One run's scores in one column, in percent."""

    value: float
    drawn: Floats
    """(resamples,) the value of each resample; one seed draws the same examples for every run."""
    examples: Examples
    """What was asked and was true, example by example; only runs of the same examples compare."""
    each: Floats | None = None
    """(n,) each example's; None of a membership attack, which has none of its own."""
    classes: TwoClasses | None = None
    """Both splits' scores of a membership attack."""
    remark: str = ""
    """What has to be read with it."""

    @property
    def n(self) -> int:
        """How many examples there are."""
        return len(self.examples)


@dataclass(frozen=True)
class _Base:
    """The retrain model's AUC of each resample, and of which texts."""

    examples: Examples
    drawn: Floats


class ScoreReader:
    """Reads runs' scores from their records, each run's once."""

    def __init__(self) -> None:
        self._records: dict[Path, list[dict[str, Any]] | str] = {}
        self._scores: dict[tuple[Path | None, str], Scores | str] = {}
        self._bases: dict[tuple[Path, str, str, str], _Base | None] = {}

    def of(self, result: StoredResult, column: str) -> Scores | str:
        """Return a run's scores in a column, or in one line why there are none."""
        key = (result.folder, column)
        if key not in self._scores:
            self._scores[key] = self._read(result, column)
        return self._scores[key]

    def against(self, other: StoredResult, result: StoredResult, column: str) -> Scores | None:
        """Return the scores of another run, as retrain's, that a run's are held against.

        None unless both are of the same examples, of the same data and limit, and asked alike.
        """
        if not held_alike(other, result, column):
            return None
        own, found = self.of(result, column), self.of(other, column)
        same = isinstance(own, Scores) and isinstance(found, Scores) and found.examples == own.examples
        return found if same and isinstance(found, Scores) else None

    def _read(self, result: StoredResult, column: str) -> Scores | str:
        if result.folder is None:
            return f"{result.key} was never on disk"
        if result.folder not in self._records:
            try:
                self._records[result.folder] = list(load_records(result.folder))
            except CorruptResult as error:
                self._records[result.folder] = str(error)
        records = self._records[result.folder]
        if isinstance(records, str):
            return records
        own = [one for one in records if one.get("column") == column]
        spec = part(part(part(result.config, "task"), "columns"), column)
        # The attack's name alone may stand beside all columns, so what the records hold decides first.
        score = str(spec["metric"]) if spec.get("metric") in AVERAGED else "rougeL"
        averaged = any(score in part(one, "scores") for one in own)
        known = isinstance((part(result.extras, column) or result.extras).get("attack"), str)
        attacked = known and not averaged
        if spec.get("metric") == METRIC:
            found = _averaged(own, only_scores)
        elif attacked:
            found = self._attacked(result, column, spec, own)
        else:
            found = _averaged(own, partial(_each, score))
        return f"{result.key}, {column}: {found}" if isinstance(found, str) else found

    def _attacked(
        self, result: StoredResult, column: str, spec: Mapping[str, Any], records: list[dict[str, Any]]
    ) -> Scores | str:
        splits = part(spec, "splits")
        headline = attack(float(stored_params(result, column).get("k", 0.4)))
        own = _of_both(records, splits)
        classes, examples = two_classes(own, splits, headline), tuple(map(_example, own))
        reference = part(part(result.extras, column) or result.extras, "reference")
        base = reference.get("auc")
        if classes is None or not isinstance(base, int | float) or base <= 0:
            return "its records have no score of every text, or there is no retrain AUC"
        remark, drawn_base = "", np.full(1, float(base))
        told = self._base(result, column, splits, headline)
        if told is not None and told.examples == examples:
            drawn_base = told.drawn
        elif reference.get("source") == "measured":
            remark = "the retrain model's own run is not stored beside: its AUC counts as a constant"
        if not (drawn_base > 0).all():
            return "a resampled AUC of the retrain model is 0, and nothing can be relative to it"
        value = 100 * (float(classes.wins().mean()) - base) / base
        drawn = 100 * (resampled_auc(classes) / drawn_base - 1)
        return Scores(value, np.asarray(drawn), examples, None, classes, remark)

    def _base(
        self, result: StoredResult, column: str, splits: Mapping[str, Any], headline: str
    ) -> _Base | None:
        """Return the retrain model's resampled AUC, read once for all runs that lie beside it."""
        if result.folder is None:
            return None
        key = (result.folder.parent, canonical_json(part(result.config, "retrain")), column, headline)
        if key not in self._bases:
            theirs = _of_both(retrain_records(result, column), splits)
            told = two_classes(theirs, splits, headline)
            found = None if told is None else _Base(tuple(map(_example, theirs)), resampled_auc(told))
            self._bases[key] = found
        return self._bases[key]


def _example(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(record.get(key)) for key in ("split", "id", "prompt_sha256", "truth"))


def _of_both(records: Iterable[Mapping[str, Any]], splits: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    sides = [str(splits.get(role)) for role in ("forget", "holdout")]
    return sorted((one for one in records if one.get("split") in sides), key=_example)


def _each(score: str, records: Sequence[Mapping[str, Any]]) -> list[float]:
    values = [part(one, "scores").get(score) for one in records]
    numbers = [value for value in values if isinstance(value, int | float)]
    return numbers if len(numbers) == len(values) else []


def _averaged(
    records: list[dict[str, Any]], read: Callable[[Sequence[Mapping[str, Any]]], list[float]]
) -> Scores | str:
    ordered = sorted(records, key=_example)
    numbers = [100 * value for value in read(ordered)]
    if not numbers:
        return "its records have no score that can be averaged"
    return Scores(
        float(np.mean(numbers)),
        resampled_mean(numbers),
        tuple(map(_example, ordered)),
        np.asarray(numbers),
    )


def run_beside(run: StoredResult, role: str) -> StoredResult | None:
    """Return the target's or retrain model's run that is stored beside a run or, of an epoch, its run."""
    if run.folder is None:
        return None
    home = run.folder.resolve().parent
    home = home.parent.parent if home.name == "epochs" else home
    try:
        return load(home / role)
    except CorruptResult:
        return None


# ── how far from what it should be ───────────────────────────────────────────────────────────────
def minus(one: Scores, other: Scores) -> Difference:
    """Return what one has more than another, paired: by sign flips of examples, else by resamples."""
    p = None if one.each is None or other.each is None else flip_p(list(one.each - other.each))
    return difference(one.value - other.value, one.drawn - other.drawn, one.n, p, shares=one.classes is None)


def away(scores: Scores, goal: Goal, retrain: Scores | None) -> Scores:
    """Return how far from ideal scores are, smaller being better.

    Of a forget column (``lower``) that is the distance to retrain where it is known; 0 is over-unlearning.
    """
    if goal == "higher":
        each = None if scores.each is None else -scores.each
        return replace(scores, value=-scores.value, drawn=-scores.drawn, each=each)
    if goal == "lower" and retrain is None:
        return scores
    value, drawn = scores.value, scores.drawn
    if goal == "lower" and retrain is not None:
        value, drawn = value - retrain.value, drawn - retrain.drawn
    return replace(scores, value=abs(value), drawn=np.abs(drawn), each=None)
