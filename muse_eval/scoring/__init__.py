"""Scores a model on a task: questions from the metrics, answers from an engine, kept and made into a run."""

from muse_eval.scoring.cache import cache_clear, cache_info
from muse_eval.scoring.identity import UNSCORED, computed_by
from muse_eval.scoring.plan import Plan
from muse_eval.scoring.writable import check_writable

__all__ = ["UNSCORED", "Plan", "cache_clear", "cache_info", "check_writable", "computed_by"]
