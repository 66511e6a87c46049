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
    """
    # sklearn takes a second to import, and every table is printed without it.
    from sklearn.metrics import auc as area
    from sklearn.metrics import roc_curve

    labels = np.repeat([0, 1], [len(negatives), len(positives)])
    fpr, tpr, _ = roc_curve(labels, np.concatenate([negatives, positives]))
    return float(area(fpr, tpr))


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
