"""Stored results with the flags that follow from the runs beside them."""

from collections.abc import Iterable

from muse_eval.results import degenerate, utility
from muse_eval.results.runs import StoredResult


def judged(results: Iterable[StoredResult]) -> list[StoredResult]:
    """Return stored results flagged as beside their task's target and retrain model."""
    return utility.gated(degenerate.judged(results))
