"""What a run comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_eval.types.metrics import Score


def run_line(run: Any) -> str:
    """Return a run as one line: its name and values, in percent; the records behind them are not shown."""
    values = (f"{name} {_shown(column.value)}" for name, column in run.columns.items())
    return f"{type(run).__name__}({run.task}/{run.name}: {', '.join(values)})"


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{round(value, 2) + 0.0:.2f}"


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

    __repr__ = run_line
