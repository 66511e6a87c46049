"""Which rows of a table may be compared in a column, and what each has to be read with there."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from muse_eval import plugins
from muse_eval.config import canonical_json, deciding, departures
from muse_eval.errors import UserError
from muse_eval.results.lineage import part
from muse_eval.results.runs import REFERENCES, StoredResult

if TYPE_CHECKING:
    from muse_eval.results.rows import Goal, RunRow

MISFITS = ("answer-space", "no-answer-space", "unanswered")
"""Flags under which the target's or the retrain model's column shows nothing of forgetting."""


@cache
def params_kind(metric: str) -> type | None:
    """Return a metric's dataclass of parameters, or None where it is not installed."""
    try:
        return plugins.metric(metric).params
    except UserError:
        return None


def _stored(result: StoredResult, column: str) -> tuple[type | None, dict[str, Any]]:
    """Return a stored column's kind of parameters and their values, as far as the result tells them."""
    spec = part(part(part(result.config, "task"), "columns"), column)
    columns = part(result.config, "columns")
    # What the task gives may have been set back to the default, which is not stored.
    values = part(columns, column) if column in columns else part(spec, "params")
    return params_kind(str(spec.get("metric", ""))), dict(values)


def stored_params(result: StoredResult, column: str) -> dict[str, Any]:
    """Return all parameters of a stored column that can change its value."""
    kind, values = _stored(result, column)
    return values if kind is None else deciding(kind, values)


def asked(result: StoredResult) -> dict[str, str]:
    """Return, for each column, a text of all parameters that can change its value; equal ones compare."""
    return {name: canonical_json(stored_params(result, name)) for name in result.columns}


def departed(result: StoredResult, column: str) -> dict[str, Any]:
    """Return the parameters in which a stored column departs from the protocol's letter."""
    kind, values = _stored(result, column)
    return {} if kind is None else departures(kind, values)


def asked_notes(result: StoredResult) -> list[str]:
    """Return what a result says of its departures from the protocol's letter."""
    told = part(result.extras, "notes").get("asked")
    return [str(told)] if told else []


def rivals(row: "RunRow", column: str, rows: Sequence["RunRow"]) -> list["RunRow"]:
    """Return the rows that a row is compared with in a column: of one forget set, asked in the same way."""

    def key(one: "RunRow") -> tuple[str, str | None]:
        return one["forgot"], one["asked"].get(column)

    return [other for other in rows if key(other) == key(row)]


def misfits(row: "RunRow", column: str, rows: Sequence["RunRow"]) -> list[str]:
    """Say which of target and retrain model, asked like a row, has a column that shows nothing."""
    found = []
    for other in rows:
        cell = other["columns"].get(column)
        same = other["asked"].get(column) == row["asked"].get(column)
        flags = [flag for flag in MISFITS if cell is not None and flag in cell.flags]
        if flags and same and other["name"] in REFERENCES and row["name"] not in REFERENCES:
            found.append(f"{other['name']} is flagged {', '.join(flags)}: this column shows no forgetting")
    return found


def is_best(row: "RunRow", column: str, goal: "Goal | None", rows: Sequence["RunRow"]) -> bool:
    """Tell whether an unlearned model's cell is the best of its rivals, as printed."""
    own = _badness(row, column, goal)
    if own is None or misfits(row, column, rows):
        return False
    others = (_badness(other, column, goal) for other in rivals(row, column, rows))
    return own == min(value for value in others if value is not None)


def _badness(row: "RunRow", name: str, goal: "Goal | None") -> float | None:
    """Return how far from ideal an unlearned model's cell is as printed; None where it cannot be the best."""
    column = row["columns"].get(name)
    if column is None or column.value is None or goal is None or row["name"] in REFERENCES:
        return None
    value = round(column.value, 2)
    if goal == "zero":
        collapsed = any("collapsed" in other.flags for other in row["columns"].values())
        return None if collapsed else abs(value)
    return value if goal == "lower" else -value
