"""The old name of ``muse_eval.statistics``: metrics written for 0.1 import from here."""

from muse_eval.statistics import TwoClasses, auc, auc_interval, mean_interval, relative_auc_interval

__all__ = ["TwoClasses", "auc", "auc_interval", "mean_interval", "relative_auc_interval"]
