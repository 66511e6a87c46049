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

NEVER_BEST = ("collapsed", "degenerate", "utility-gate", "gated", "limited")
"""Flags of any of a row's cells under which no cell of it is the best: ruined, failed, or hardly asked."""
NEVER_BEST_CELL = ("reference-published",)
"""Flags under which a cell is not the best: it is relative to what was not measured here."""


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
    """Return the rows that a row is compared with in a column: of one forget set and data, asked alike."""

    def key(one: "RunRow") -> tuple[str, str | None, str, int | None]:
        return one["forgot"], one["asked"].get(column), data_of(one["stored"], column), one["limit"]

    return [other for other in rows if key(other) == key(row)]


def data_of(result: StoredResult, column: str) -> str:
    """Return a text of the digests of the splits behind a column; equal ones compare."""
    spec = part(part(part(result.config, "task"), "columns"), column)
    digests = part(part(result.config, "data"), "sha256")
    return canonical_json({str(split): digests.get(split) for split in part(spec, "splits").values()})


def held_alike(one: StoredResult, other: StoredResult, column: str) -> bool:
    """Tell whether two runs' values in a column may be held against each other: of one data, asked alike."""
    return (
        column in one.columns
        and column in other.columns
        and one.config.get("limit") == other.config.get("limit")
        and stored_params(one, column) == stored_params(other, column)
        and data_of(one, column) == data_of(other, column)
    )


def competes(row: "RunRow", column: str, rows: Sequence["RunRow"]) -> bool:
    """Tell whether a cell can be the best: an unlearned model's, not ruined, gated, limited, borrowed."""
    cell = row["columns"].get(column)
    if cell is None or cell.value is None or row["name"] in REFERENCES or misfits(row, column, rows):
        return False
    flags = {flag for other in row["columns"].values() for flag in other.flags}
    return not flags & set(NEVER_BEST) and not set(cell.flags) & set(NEVER_BEST_CELL)


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
    """Tell whether an unlearned model's cell is the best of its rivals by its value alone, as printed."""
    if goal is None or not competes(row, column, rows):
        return False
    others = [one for one in rivals(row, column, rows) if competes(one, column, rows)]
    return _badness(row, column, goal) == min(_badness(other, column, goal) for other in others)


def _badness(row: "RunRow", name: str, goal: "Goal") -> float:
    """Return how far from ideal a cell is as printed."""
    value = round(row["columns"][name].value or 0.0, 2)
    return {"zero": abs(value), "lower": value, "higher": -value}[goal]
