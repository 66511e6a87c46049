"""Pure functions of arrays of numbers: AUC, intervals and paired comparisons; no model, no file."""

from muse_eval.statistics.attacks import kolmogorov_smirnov, tpr_at
from muse_eval.statistics.entropy import entropy
from muse_eval.statistics.intervals import TwoClasses, auc, auc_interval, mean_interval, relative_auc_interval
from muse_eval.statistics.maxima import expected_max
from muse_eval.statistics.paired import (
    Difference,
    best_set,
    bootstrap_p,
    difference,
    flip_p,
    holm,
    pairs_of,
    resampled_auc,
    resampled_mean,
)

__all__ = [
    "Difference",
    "TwoClasses",
    "auc",
    "auc_interval",
    "best_set",
    "bootstrap_p",
    "difference",
    "entropy",
    "expected_max",
    "flip_p",
    "holm",
    "kolmogorov_smirnov",
    "mean_interval",
    "pairs_of",
    "relative_auc_interval",
    "resampled_auc",
    "resampled_mean",
    "tpr_at",
]
