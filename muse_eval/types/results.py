"""What a run comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from muse_eval.types.metrics import Score


def run_line(run: Any) -> str:
    """Return a run as one line: its name and values, in percent; the records behind them are not shown."""
    values = (f"{name} {_shown(column.value)}" for name, column in run.columns.items())
    return f"{type(run).__name__}({run.task}/{run.name}: {', '.join(values)})"


def run_html(run: Any) -> str:
    """Return a run as a small HTML table, for a notebook: foreign text is text in it, no script runs."""
    titles = _below(_below(run.config, "task"), "columns")
    lines = [
        _line(str(_below(titles, name).get("title", name)), column) for name, column in run.columns.items()
    ]
    head = "".join(f"<th>{name}</th>" for name in ("column", "value", "95 % interval", "n", "flags"))
    return (
        f"<table><caption>{_text(f'{run.task}/{run.name}')}, in percent</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _below(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a section of what a result says of itself; empty where it is none."""
    found = mapping.get(key)
    return found if isinstance(found, Mapping) else {}


def _line(title: str, column: Any) -> str:
    interval = f"{_shown(column.ci[0])} to {_shown(column.ci[1])}" if column.ci else ""
    told = ", ".join(column.flags) if column.value is not None else str(column.reason or "undefined")
    cells = (title, _shown(column.value), interval, str(column.n), told)
    return f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>"


def _text(foreign: str) -> str:
    signs = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in foreign)
    return escape("".join(signs))


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
    _repr_html_ = run_html
