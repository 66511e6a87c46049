"""Faithfulness, relearning, quantization and their aggregate (arXiv 2506.12618); pure functions.

A score enters as a *leak*: the higher, the more of the forget knowledge it claims to see.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muse_eval.statistics import TwoClasses

Floats = NDArray[np.float64]
RESAMPLES = 2000


def relearning(retrain_gain: float, gain: float) -> float | None:
    """Return R of one unlearned model: min(r, 1), r = what retrain gains over what the model gains.

    A gain is the leak after relearning less that before. Where the model gains nothing (≤ 0) there is no
    ratio: None. Where retrain loses, r is negative, and R is 0.
    """
    return None if gain <= 0 else float(np.clip(retrain_gain / gain, 0, 1))


def quantization(before: float, after: float) -> float | None:
    """Return Q of one unlearned model: min(before / after, 1), of its leaks before and after.

    Where no leak is left after (≤ 0) there is no ratio: None. Where there was none before, Q is 0.
    """
    return None if after <= 0 else float(np.clip(before / after, 0, 1))


@dataclass(frozen=True)
class Seen:
    """One score of several models."""

    seeds: Sequence[int]
    """(n,) the world of each model."""
    leaks: Sequence[float]
    """(n,)"""


@dataclass(frozen=True)
class Drawn:
    """Worlds drawn again: a bootstrap over worlds, since the models of one have text and start in common."""

    worlds: Sequence[int]
    counts: Floats
    """(1 + resamples, worlds): how often each world is drawn; the first row is the sample itself."""

    @classmethod
    def of(cls, worlds: Sequence[int], resamples: int = RESAMPLES) -> "Drawn":
        """Draw from distinct worlds, with a fixed seed."""
        number = len(worlds)
        drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=resamples)
        return cls(worlds, np.concatenate([np.ones((1, number)), drawn]))

    def weights(self, seen: Seen) -> Floats:
        """Return (1 + resamples, n): how often each model is drawn with its world."""
        places = [list(self.worlds).index(seed) for seed in seen.seeds]
        return np.asarray(self.counts[:, places], float)


def faithfulness(having: Seen, lacking: Seen, drawn: Drawn) -> Floats:
    """Return (1 + resamples,): P(a model with the knowledge leaks more than one without), ties half.

    That is the area under the ROC over all pairs of models, of one world or of two. NaN where a resample
    has no pair.
    """
    wins = TwoClasses(lacking.leaks, having.leaks).wins()
    ours, theirs = drawn.weights(having), drawn.weights(lacking)
    won = np.einsum("ri,ij,rj->r", theirs, wins, ours)
    return _ratio(won, ours.sum(axis=1) * theirs.sum(axis=1))


def mean_over(seen: Seen, drawn: Drawn) -> Floats:
    """Return (1 + resamples,): the mean over models; NaN where there is none."""
    if not seen.leaks:
        return np.full(len(drawn.counts), np.nan)
    weights = drawn.weights(seen)
    return _ratio(weights @ np.asarray(seen.leaks, float), weights.sum(axis=1))


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0))


def harmonic(one: Floats, other: Floats) -> Floats:
    """Return the harmonic mean, element by element; 0 where either is 0."""
    total = one + other
    return np.asarray(np.divide(2 * one * other, total, out=total.copy(), where=total > 0))


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % percentile interval; None where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, found: Floats) -> "Estimate":
        """Take the figure from the sample's own row, the interval from the resamples that have one."""
        if np.isnan(found[0]):
            return cls(None)
        resampled = found[1:][~np.isnan(found[1:])]
        if not len(resampled):
            return cls(float(found[0]))
        low, high = np.percentile(resampled, [2.5, 97.5])
        return cls(float(found[0]), float(low), float(high))
