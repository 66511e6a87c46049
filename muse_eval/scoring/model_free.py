"""What tells forget from holdout texts without any model, kept beside each PrivLeak (``data.model_free``)."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from muse_eval.data.model_free import told_by_length, told_by_words
from muse_eval.data.sides import compared
from muse_eval.scoring.plan import PlannedColumn
from muse_eval.types import Result

KEY = "model_free"
"""Among the extras of a column that compares forget with holdout texts."""


def told(result: Result, columns: Sequence[PlannedColumn]) -> Result:
    """Add to a result how well the texts behind each PrivLeak are told apart without a model."""
    extras = dict(result.extras)
    for column in columns:
        if {"forget", "holdout"} <= column.splits.keys():
            sides = (
                tuple(compared(column.spec.splits[role], column.splits[role]))
                for role in ("forget", "holdout")
            )
            extras[column.name] = {**extras[column.name], KEY: _aucs(*sides)}
    return replace(result, extras=extras)


@cache
def _aucs(forget: tuple[str, ...], holdout: tuple[str, ...]) -> dict[str, Any]:
    """Return, by what tells them apart, AUC and interval; None where there are too few texts."""
    found = {"words": told_by_words(forget, holdout), "length": told_by_length(forget, holdout)}
    return {what: None if one is None else asdict(one) for what, one in found.items()}
