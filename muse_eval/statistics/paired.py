"""Two models on the same examples: resampled values, differences, p-values, and what n examples could show.

Every row of a table is resampled with the same seeded draws, so a difference of two rows' resampled values
is paired, and so is one of distances to a third.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from muse_eval.statistics.intervals import Floats, TwoClasses, _counts, _percentiles

RESAMPLES = 10_000
SEED = 0
POWER_80 = 1.959964 + 0.841621
"""Normal quantiles of 97.5 % and 80 %, added: a difference of so many standard errors is mostly found."""
LEAST_RESAMPLED = 20
"""Of fewer examples resamples vary too little: of ten, 8 % of equal models would differ at a level of 5 %."""
TIE = 1e-9
"""Differences nearer than this are equal: sums may be taken in another order."""


@dataclass(frozen=True)
class Difference:
    """What one row has more than another, with what chance alone does."""

    value: float
    low: float
    high: float
    """Both ends of the 95 % interval."""
    p: float
    """Two-sided."""
    least: float | None
    """The smallest difference that these examples could show: found in four of five such samples.

    None where no resample differs from another, of what is no mean of shares.
    """


@lru_cache(maxsize=4)
def _drawn(n: int, seed: int, resamples: int) -> Floats:
    return _counts(n, seed, resamples)


@lru_cache(maxsize=4)
def _signs(n: int, seed: int, resamples: int) -> Floats:
    rng = np.random.default_rng([seed, n, 1])
    return np.asarray(rng.integers(0, 2, size=(resamples, n)) * 2.0 - 1.0, dtype=np.float64)


def resampled_mean(values: Sequence[float], *, seed: int = SEED, resamples: int = RESAMPLES) -> Floats:
    """Return (resamples,): the mean of each resample; one seed draws the same examples."""
    drawn = _drawn(len(values), seed, resamples)
    return np.asarray(drawn @ np.asarray(values) / len(values), dtype=np.float64)


def resampled_auc(scores: TwoClasses, *, seed: int = SEED, resamples: int = RESAMPLES) -> Floats:
    """Return (resamples,): the AUC of each resample of the texts of both classes."""
    low = _drawn(len(scores.negatives), seed, resamples)
    high = _drawn(len(scores.positives), seed + 1, resamples)
    pairs = len(scores.negatives) * len(scores.positives)
    return np.asarray(((low @ scores.wins()) * high).sum(axis=1) / pairs)


def difference(
    value: float, drawn: Floats, n: int, p: float | None = None, *, shares: bool = True
) -> Difference:
    """Return a difference with its percentile interval, its p and the smallest that could be shown.

    Args:
        value: the difference on all examples.
        drawn: (resamples,) the same of each resample.
        n: how many examples are resampled.
        p: of a permutation test; None: taken from the resamples (``bootstrap_p``), 1 where they are too few.
        shares: whether it is of means of shares in percent, whose equal differences have a bound.
    """
    low, high = _percentiles(drawn)
    spread = float(np.std(drawn))
    # Equal differences have no spread and still are a sample: the exact bound of n equal outcomes.
    equal = 100 * (1 - 0.025 ** (1 / n)) if shares else None
    least = POWER_80 * spread if spread > TIE else equal
    if p is None:
        p = bootstrap_p(value, drawn) if n >= LEAST_RESAMPLED else 1.0
    return Difference(value, low, high, p, least)


def bootstrap_p(value: float, drawn: Floats) -> float:
    """Return a two-sided p: twice the share of resamples on the other side of 0.

    Where no resample is there, the tail of a normal distribution with the resamples' spread, which is
    never taken for more than one resample could show.
    """
    beyond = min(int((drawn <= TIE).sum()), int((drawn >= -TIE).sum()))
    counted = min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
    spread = float(np.std(drawn))
    if beyond or spread <= TIE:
        return counted
    return min(counted, math.erfc(abs(value) / spread / math.sqrt(2)))


def flip_p(differences: Sequence[float], *, seed: int = SEED, resamples: int = RESAMPLES) -> float:
    """Return the two-sided p of a mean of paired differences: their signs flipped at random.

    What no flip reaches is bounded by Hoeffding's inequality, which holds for random signs exactly:
    P(|Σ±d| ≥ t) ≤ 2 exp(−t² / 2Σd²).
    """
    found = np.asarray(differences, float)
    total, squares = abs(float(found.sum())), float((found**2).sum())
    if squares <= TIE:
        return 1.0
    flipped = np.abs(_signs(len(found), seed, resamples) @ found)
    counted = (1 + int((flipped >= total - TIE * len(found)).sum())) / (resamples + 1)
    return min(1.0, counted, 2 * math.exp(-(total**2) / (2 * squares)))


def holm(ps: Sequence[float], family: int | None = None) -> list[float]:
    """Return p-values adjusted by Holm (1979), in the order given.

    Args:
        ps: the p-values.
        family: how many tests there are; more than are given where the others, unknown, are not asked
            about, which makes the adjusted values larger than they had to be, never smaller.
    """
    size, highest = max(family or 0, len(ps)), 0.0
    adjusted = [0.0] * len(ps)
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda one: ps[one])):
        highest = max(highest, min(1.0, (size - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def pairs_of(rows: int) -> int:
    """Return how many pairs some rows have."""
    return rows * (rows - 1) // 2


def best_set(adjusted: Sequence[float], level: float = 0.05) -> list[bool]:
    """Tell which rows are not significantly worse than the best, given their adjusted p against it."""
    return [p > level for p in adjusted]
