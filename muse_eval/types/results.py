"""What a run comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass
from muse_eval.types.metrics import Score


# ── results ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Result:
    """One run: a model scored on a task."""

    task: str
    name: str
    model: Mapping[str, Any]
    """``id``, ``revision`` and ``digest``."""
    columns: Mapping[str, Score]
    extras: Mapping[str, Any]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    seconds: float
    """Engine seconds spent on the answers, whichever run asked for them."""
