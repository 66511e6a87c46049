"""Pure functions of arrays of numbers: AUC and intervals; no model, no file."""

from muse_eval.statistics.intervals import TwoClasses, auc, auc_interval, mean_interval, relative_auc_interval

__all__ = ["TwoClasses", "auc", "auc_interval", "mean_interval", "relative_auc_interval"]
