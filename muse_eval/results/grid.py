"""A table laid out: a cell for each row and column, the best marked, what must be read with it numbered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from muse_eval.results.best import best_cells, mixed
from muse_eval.results.comparable import misfits
from muse_eval.results.rows import ARROWS, FLAGS, Heading, RunRow, meaning
from muse_eval.results.runs import StoredColumn

SPREADLESS = "n = {n}, all equal however drawn again: no interval can be told"
"""Said of a cell instead of ± 0.00."""


def _number(value: float | None, places: int = 2) -> str:
    if value is None:
        return ""
    # Adding 0.0 turns the −0.0 that rounding leaves into 0.0.
    return f"{round(value, places) + 0.0:.{places}f}"


# ── one rendering for Markdown and the terminal ──────────────────────────────────────────────────
@dataclass(frozen=True)
class Cell:
    """One printed cell."""

    value: str
    spread: str = ""
    """The half-interval with its sign, and the numbers of the notes."""
    best: bool = False


@dataclass(frozen=True)
class Grid:
    """One printed table: every cell's text and style, and the notes below."""

    header: list[str]
    lines: list[list[Cell]]
    notes: list[str]


def grid(columns: Mapping[str, Heading], rows: Sequence[RunRow]) -> Grid:
    """Lay out one task's rows: the best unlearned models marked, flags and gaps as numbered notes."""
    notes: dict[str, int] = {}
    lines, best = [], best_cells(columns, rows)
    for place, row in enumerate(rows):
        cells = [Cell(row["name"], mark(row["notes"].values(), notes))]
        for name in columns:
            is_best = (place, name) in best.cells
            cells.append(_cell(row["columns"].get(name), is_best, misfits(row, name, rows), notes))
        lines.append(cells)
    header = ["model", *(f"{heading.title}{ARROWS[heading.goal]}" for heading in columns.values())]
    return Grid(header, lines, [*numbered(notes), *best.notes, *mixed(rows)])


def remarks(column: StoredColumn) -> list[str]:
    """Return what a cell has to be read with: its flags' meaning, and why it shows no interval."""
    spreadless = column.value is not None and _is_spreadless(column)
    return [*flagged(column), *([SPREADLESS.format(n=column.n)] if spreadless else [])]


def flagged(column: StoredColumn) -> list[str]:
    """Return why a cell is undefined, else what its flags mean."""
    if column.value is None:
        return [column.reason or "undefined"]
    return [f"{flag}: {meaning(column, flag)}" if flag in FLAGS else flag for flag in column.flags]


def _is_spreadless(column: StoredColumn) -> bool:
    """Tell whether an interval has no width: of equal examples, or of a model compared with itself.

    An AUC at its bound has none either, which its flag says.
    """
    return column.ci is not None and column.ci[0] == column.ci[1] and "saturated" not in column.flags


def mark(texts: Iterable[str], notes: dict[str, int]) -> str:
    """Return the numbers of texts among the notes, as a cell shows them; new texts join the notes."""
    numbers = [str(notes.setdefault(text, len(notes) + 1)) for text in texts]
    return f" [{', '.join(numbers)}]" if numbers else ""


def numbered(notes: Mapping[str, int]) -> list[str]:
    """Return the notes as they stand below a table."""
    return [f"[{number}] {text}" for text, number in notes.items()]


def _cell(column: StoredColumn | None, best: bool, more: Sequence[str], notes: dict[str, int]) -> Cell:
    if column is None:
        return Cell("")
    plain = plain_cell(column, best)
    return replace(plain, spread=plain.spread + mark([*remarks(column), *more], notes))


def plain_cell(column: StoredColumn, best: bool) -> Cell:
    """Return a column's value and half of its interval, without the numbers of notes."""
    spread = ""
    if column.value is not None and column.ci is not None and not _is_spreadless(column):
        spread = f" ± {_number((column.ci[1] - column.ci[0]) / 2)}"
    return Cell("n/a" if column.value is None else _number(column.value), spread, best)
