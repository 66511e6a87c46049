"""What a run comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_eval.types.metrics import Score


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
    folder: Path | None = None
    """Where it is stored: ``result.json`` and ``records.jsonl``."""
    engine: str = ""
    """Which engine answered, and why this one."""

    def __repr__(self) -> str:
        """Return one line: the run and its values, in percent; the records behind them are not shown."""
        values = (f"{name} {_shown(score)}" for name, score in self.columns.items())
        return f"Result({self.task}/{self.name}: {', '.join(values)})"


def _shown(score: Score) -> str:
    return "n/a" if score.value is None else f"{round(score.value, 2) + 0.0:.2f}"
