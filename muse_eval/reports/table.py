"""The table of a page: the cells as they are printed, and how far each is from retrain's."""

from dataclasses import dataclass

from muse_eval.printable import one_line
from muse_eval.reports.chosen import Chosen
from muse_eval.reports.distances import Distances
from muse_eval.results import ARROWS, RunRow, plain_cell
from muse_eval.results.comparable import misfits
from muse_eval.results.grid import grid, remarks
from muse_eval.results.rows import meaning


@dataclass(frozen=True)
class Shown:
    """One cell."""

    value: str
    spread: str
    best: bool
    number: float | None
    """What the column is sorted by."""
    flags: list[tuple[str, str]]
    """Each flag and what it means."""
    interval: str
    """Both ends, in words; empty where there is none."""
    distance: str
    """From retrain's value, with its sign; empty where nothing can be told."""


@dataclass(frozen=True)
class Line:
    """One model's row."""

    name: str
    notes: list[str]
    cells: list[Shown]


@dataclass(frozen=True)
class Table:
    """The whole table."""

    header: list[str]
    lines: list[Line]
    notes: list[str]
    """What its cells must be read with, each once, with the models and columns that it holds for."""

    @property
    def has_distances(self) -> bool:
        """Whether a cell tells how far from retrain it is."""
        return any(cell.distance for line in self.lines for cell in line.cells)


def table(chosen: Chosen, distances: Distances) -> Table:
    """Lay out the runs as the tables of the command line do, flags in words."""
    laid = grid(chosen.headings, chosen.rows)
    notes: dict[str, list[str]] = {}
    lines = []
    for row, line in zip(chosen.rows, laid.lines, strict=True):
        cells = [
            _cell(chosen, distances, row, name, printed.best, notes)
            for name, printed in zip(chosen.headings, line[1:], strict=True)
        ]
        lines.append(Line(row["name"], [one_line(note) for note in row["notes"].values()], cells))
    header = [f"{one_line(heading.title)}{ARROWS[heading.goal]}" for heading in chosen.headings.values()]
    told = [f"{one_line(said)} ({'; '.join(where)})" for said, where in notes.items()]
    # What is said of the whole table has no number.
    return Table(header, lines, [*told, *(one_line(note) for note in laid.notes if not note.startswith("["))])


def _cell(
    chosen: Chosen, distances: Distances, row: RunRow, name: str, best: bool, notes: dict[str, list[str]]
) -> Shown:
    column = row["columns"].get(name)
    if column is None:
        return Shown("", "", False, None, [], "", "")
    for said in [*remarks(column), *misfits(row, name, chosen.rows)]:
        notes.setdefault(said, []).append(f"{row['name']}: {one_line(chosen.headings[name].title)}")
    printed = plain_cell(column, best)
    ends = f"95 % interval {column.ci[0]:.2f} to {column.ci[1]:.2f}, n = {column.n}" if column.ci else ""
    flags = [(flag, meaning(column, flag)) for flag in column.flags]
    return Shown(
        printed.value,
        printed.spread.strip(),
        best,
        column.value,
        flags,
        ends,
        _distance(chosen, distances, row, name),
    )


def _distance(chosen: Chosen, distances: Distances, row: RunRow, name: str) -> str:
    """Return what a cell has more than retrain's, with its paired interval.

    Of PrivLeak, which is relative to retrain already, nothing.
    """
    found = None if chosen.headings[name].goal == "zero" else distances.of(row, name)
    if found is None:
        return ""
    value, low, high = (f"{round(one, 2) + 0.0:+.2f}" for one in (found.value, found.low, found.high))
    return value if low == high else f"{value} ({low} to {high})"
