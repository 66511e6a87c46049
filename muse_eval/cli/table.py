"""Prints stored runs as a table on the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from muse_eval.printable import console

if TYPE_CHECKING:
    from muse_eval.results.rows import Heading, RunRow

PAGE = 120
"""Characters of a line of a table where there is no terminal."""
COLUMNS = 6
"""Columns of a table at the most: more leave their titles no room, and stand in tables below it."""


def print_table(folders: list[Path]) -> None:
    """Print runs as a table in the published shape; further columns stand in tables of their own."""
    from muse_eval.results import draw, headings, load, title
    from muse_eval.results.grid import grid
    from muse_eval.results.rows import rows, task_spec

    found = rows(stored for folder in folders if (stored := load(folder)) is not None)
    task = found[0]["task"]
    spec = task_spec(task)
    print(f"{title(task, found)} (± half of the 95 % interval)")
    for columns in _tables(headings(task, found), len(spec.columns) if spec else COLUMNS):
        console(width=PAGE).print(draw(grid(columns, found)))
    for line in dict.fromkeys(line for row in found for line in _model_free(row)):
        console(width=PAGE).print(line, markup=False, highlight=False)


def _tables(columns: Mapping[str, "Heading"], own: int) -> Iterator[dict[str, "Heading"]]:
    """Yield the columns of each table: one where they fit, else first the task's own."""
    names = list(columns)
    first = len(names) if len(names) <= COLUMNS else min(own, COLUMNS)
    cuts = [0, *range(first, len(names), COLUMNS), len(names)]
    for start, end in pairwise(cuts):
        yield {name: columns[name] for name in names[start:end]}


def _model_free(row: "RunRow") -> Sequence[str]:
    """Return what tells each PrivLeak's forget texts from its holdout texts without a model, as lines."""
    from muse_eval.results.model_free import lines

    return lines(row["stored"])
