"""What tells forget from holdout texts without any model, kept beside each PrivLeak (``data.model_free``)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from muse_eval.config import fingerprint
from muse_eval.data.model_free import told_by_length, told_by_words
from muse_eval.data.sides import compared
from muse_eval.own_code import code_digest
from muse_eval.scoring.kept import MODEL_FREE, keep, kept
from muse_eval.scoring.plan import PlannedColumn
from muse_eval.types import Result, Warn

KEY = "model_free"
"""Among the extras of a column that compares forget with holdout texts."""


def told(result: Result, columns: Sequence[PlannedColumn], cache: Path | None, warn: Warn) -> Result:
    """Add to a result how well the texts behind each PrivLeak are told apart without a model.

    Args:
        result: the run's.
        columns: the run's.
        cache: where the cache lies, which keeps it for these texts; None: nothing is kept.
        warn: told, in one line, of an entry of the cache that is damaged.
    """
    extras = dict(result.extras)
    for column in columns:
        if {"forget", "holdout"} <= column.splits.keys():
            sides = [
                compared(column.spec.splits[role], column.splits[role]) for role in ("forget", "holdout")
            ]
            key = {"texts": fingerprint(sides), "code": code_digest("model-free")}
            found = kept(cache, MODEL_FREE, key, warn)
            if found is None:
                found = _aucs(*sides)
                keep(cache, MODEL_FREE, key, found)
            extras[column.name] = {**extras[column.name], KEY: found}
    return replace(result, extras=extras)


def _aucs(forget: Sequence[str], holdout: Sequence[str]) -> dict[str, Any]:
    """Return, by what tells them apart, AUC and interval; None where there are too few texts."""
    found = {"words": told_by_words(forget, holdout), "length": told_by_length(forget, holdout)}
    # As JSON gives it back.
    return {what: None if one is None else {"auc": one.auc, "ci": [*one.ci]} for what, one in found.items()}
