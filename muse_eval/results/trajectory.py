"""How an unlearning went: every epoch's scores, with the target's or what else it started from, as CSV."""

from collections.abc import Sequence
from dataclasses import dataclass

from muse_eval.results.cells import csv_text
from muse_eval.results.composites import COLUMNS, composite
from muse_eval.results.rows import Heading, stored_headings
from muse_eval.results.runs import StoredColumn, StoredResult
from muse_eval.results.selection import Selection


def scores(result: StoredResult) -> dict[str, float | None]:
    """Return a run's values by column."""
    return {name: column.value for name, column in result.columns.items()}


@dataclass(frozen=True)
class Trajectory:
    """Every epoch of one unlearning, scored."""

    name: str
    title: str
    """The task's."""
    start: StoredResult
    """The model that the unlearning began with: epoch 0."""
    epochs: Sequence[StoredResult]
    retrain: StoredResult
    selection: Selection
    composite: str

    @property
    def headings(self) -> dict[str, Heading]:
        """The columns that were scored."""
        return {
            name: head for name, head in stored_headings(self.start).items() if name in self.start.columns
        }

    @property
    def ranked(self) -> bool:
        """Whether the task has the columns that composites are made of."""
        return set(COLUMNS) <= set(self.start.columns)


def to_csv(trajectory: Trajectory) -> str:
    """Return a line an epoch, 0 being the start: each column with its 95 % interval, in percent.

    Behind them the composite, under its name, where the task has its columns, and ``selected``: the rule
    in the line of the epoch it came to, with ``(selected none)`` where it is the last one for want of
    another.
    """
    columns = list(trajectory.headings)
    header = ["epoch", *(f"{name}{part}" for name in columns for part in ("", "_low", "_high"))]
    header += [*([trajectory.composite] if trajectory.ranked else []), "selected"]
    lines = []
    for epoch, result in enumerate([trajectory.start, *trajectory.epochs]):
        line = [str(epoch), *(text for name in columns for text in cells(result.columns.get(name)))]
        if trajectory.ranked:
            line.append(number(composite(trajectory.composite, scores(result))))
        chosen = trajectory.selection
        rule = chosen.rule if chosen.fired else f"{chosen.rule} (selected none)"
        lines.append([*line, rule if epoch == chosen.epoch else ""])
    return csv_text([header, *lines])


def cells(column: StoredColumn | None) -> list[str]:
    """Return a cell's value and the ends of its interval; empty where there is none."""
    low, high = (column.ci if column else None) or (None, None)
    return [number(column.value if column else None), number(low), number(high)]


def number(value: float | None) -> str:
    """Return a value with four decimals, empty where it is undefined."""
    # Adding 0.0 turns the −0.0 that rounding leaves into 0.0.
    return "" if value is None else f"{round(value, 4) + 0.0:.4f}"
