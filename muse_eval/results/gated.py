"""The flag ``gated``: cells that fail the gate, where a table's rows are to be held against a baseline."""

from collections.abc import Sequence
from pathlib import Path

from muse_eval.reading import typed_path
from muse_eval.results.gate import Comparison, compare, load_baseline
from muse_eval.results.gate_lines import summary
from muse_eval.results.rows import RunRow
from muse_eval.types import Warn

FLAG = "gated"
CANNOT_TELL = 2
"""The exit code of a gate whose report tells nothing."""


def gated(rows: Sequence[RunRow], baseline: str | Path | None, warn: Warn) -> list[RunRow]:
    """Return rows with the flag on each cell that the gate fails; what it cannot tell has none.

    Args:
        rows: the table's.
        baseline: the gate's file; None: the rows stay as they are.
        warn: told, in one line, where some cell cannot be told and none fails.

    Raises:
        UserError: the baseline cannot be read, or a result does not say which way is better.
    """
    if baseline is None:
        return list(rows)
    expected = load_baseline(typed_path(baseline, "--baseline"))
    report = compare([row["stored"] for row in rows], expected, whole=False)
    if report.exit_code == CANNOT_TELL:
        warn(f"gate: {summary(report)}")
    failed = {(one.run, one.column): one for one in report.rows if one.verdict in ("worse", "moved")}
    return [_marked(row, failed) for row in rows]


def _marked(row: RunRow, failed: dict[tuple[str, str], Comparison]) -> RunRow:
    columns = dict(row["columns"])
    for name, cell in columns.items():
        if told := failed.get((row["stored"].key, name)):
            columns[name] = cell.flagged((*cell.flags, FLAG), {FLAG: _meaning(told)})
    return {**row, "columns": columns, "stored": row["stored"].model_copy(update={"columns": columns})}


def _meaning(told: Comparison) -> str:
    moved = f"{told.baseline:.2f} in the baseline, {told.now:.2f} now, tolerance ±{told.tolerance:.2f}"
    return f"fails the gate: {moved}"
