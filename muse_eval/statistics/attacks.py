"""What a membership attack's scores tell beside their AUC: few false alarms, and two models apart."""

from collections.abc import Sequence

import numpy as np

from muse_eval.statistics.intervals import TwoClasses


def tpr_at(scores: TwoClasses, fpr: float) -> float:
    """Return the share of positives found where at most a share ``fpr`` of the negatives is mistaken.

    The threshold is the lowest one that keeps to ``fpr``; what equals it is not taken for a positive.

    Args:
        scores: both classes; higher is likelier a positive.
        fpr: the false-positive rate, a fraction.
    """
    negatives = np.sort(np.asarray(scores.negatives, float))[::-1]
    allowed = int(fpr * len(negatives) + 1e-9)
    if allowed >= len(negatives):
        return 1.0
    return float((np.asarray(scores.positives, float) > negatives[allowed]).mean())


def kolmogorov_smirnov(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return the Kolmogorov–Smirnov distance of two models' scores of a split, and its two-sided p.

    0 is the same distribution, 1 two that do not overlap. The p takes the samples for independent, which
    scores of the same texts are not: it is larger than it had to be where the models agree on the texts.
    """
    # scipy.stats takes most of a second to import, and most tables are printed without it.
    from scipy.stats import ks_2samp

    found = ks_2samp(np.asarray(one, float), np.asarray(other, float), method="auto")
    return float(found.statistic), float(found.pvalue)
