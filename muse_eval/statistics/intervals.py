"""AUC and seeded percentile-bootstrap intervals; pure functions of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95
"""Coverage of every interval; MUSE's Table 6 uses the same."""


def auc(negatives: Sequence[float], positives: Sequence[float]) -> float:
    """Return P(a positive scores higher than a negative), ties counted half: the area under the ROC.

    Args:
        negatives: scores of the texts labelled 0.
        positives: scores of the texts labelled 1.

    Raises:
        ValueError: a score is no finite number.
    """
    low, high = np.sort(np.asarray(negatives, float)), np.sort(np.asarray(positives, float))
    thresholds = np.unique(np.concatenate([low, high]))[::-1]
    if not np.isfinite(thresholds).all():
        raise ValueError("a score is no finite number")
    false, true = (len(each) - np.searchsorted(each, thresholds) for each in (low, high))
    # Where the curve goes straight on is no corner; without it the sum is scikit-learn's to the last bit.
    corners = np.ones(len(thresholds), bool)
    corners[1:-1] = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
    across, up = (np.append(0, each[corners]) / each[-1] for each in (false, true))
    return float(np.trapezoid(up, across))


def mean_interval(values: Sequence[float], *, seed: int, resamples: int) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of a mean, resampling the examples."""
    return _percentiles(_counts(len(values), seed, resamples) @ np.asarray(values) / len(values))


@dataclass(frozen=True)
class TwoClasses:
    """One attack's scores of the same texts, by class."""

    negatives: Sequence[float]
    """(n₀,) scores of the texts labelled 0."""
    positives: Sequence[float]
    """(n₁,) scores of the texts labelled 1."""

    def wins(self) -> Floats:
        """Return (n₀, n₁): 1 where the positive scores higher, ½ at a tie, 0 elsewhere."""
        low = np.asarray(self.negatives)[:, None]
        high = np.asarray(self.positives)[None, :]
        return np.asarray((high > low) + 0.5 * (high == low))


def auc_interval(scores: TwoClasses, *, seed: int, resamples: int) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the AUC, resampling the texts of both classes."""
    return _percentiles(_resampled_auc(scores, seed, resamples))


def relative_auc_interval(
    scores: TwoClasses, reference: TwoClasses | float, *, seed: int, resamples: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of (AUC − AUC_ref) / AUC_ref, resampling the texts of both classes.

    A measured reference (scores of the same texts under the retrain model) is resampled along with
    the model's own, so its uncertainty, and its correlation, are in the interval; a published one is
    a constant. None where a resampled reference AUC is 0, since the ratio then has no interval.
    """
    if isinstance(reference, float):
        base = np.full(resamples, reference)
    else:
        base = _resampled_auc(reference, seed, resamples)
    if not (base > 0).all():
        return None
    return _percentiles(_resampled_auc(scores, seed, resamples) / base - 1)


def _resampled_auc(scores: TwoClasses, seed: int, resamples: int) -> Floats:
    """Return (resamples,): the AUC of each resample; one seed draws the same texts."""
    low = _counts(len(scores.negatives), seed, resamples)
    high = _counts(len(scores.positives), seed + 1, resamples)
    pairs = len(scores.negatives) * len(scores.positives)
    return np.asarray(((low @ scores.wins()) * high).sum(axis=1) / pairs)


def _counts(n: int, seed: int, resamples: int) -> Floats:
    """Return (resamples, n): how often each example is drawn in each resample of size n."""
    rng = np.random.default_rng([seed, n])
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def _percentiles(values: Floats) -> tuple[float, float]:
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
