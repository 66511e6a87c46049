"""Mean and standard deviation of each cell over seeds: of the built-in world, or of the unlearning."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev

from muse_eval.results.grid import Cell, Grid, flagged, mark, numbered
from muse_eval.results.rows import ARROWS, Heading, RunRow


def of_one_seed(rows: Iterable[RunRow], seed: int, names: Mapping[str, str]) -> list[RunRow]:
    """Return a task's runs under one training seed as ``over_seeds`` takes them: as a world of their own.

    Args:
        rows: the runs.
        seed: the seed.
        names: the names of the runs that depend on it, and what each is called whatever the seed.
    """
    own = (row for row in rows if row["name"] in names)
    return [{**row, "name": names[row["name"]], "task": f"{row['task']}, seed {seed}"} for row in own]


def over_seeds(columns: Mapping[str, Heading], rows: Sequence[RunRow], shared: Sequence[RunRow] = ()) -> Grid:
    """Lay out one line per run name: each cell the mean over its tasks ± their standard deviation.

    ``shared`` are runs that are the same for all seeds; they stand above, with no deviation.

    What any of a cell's worlds is flagged with, or lacks, is a numbered note, as in the table of one world;
    so is in how many worlds it was scored, where that is not in all. What was asked in different ways has
    no mean.
    """
    notes: dict[str, int] = {}
    lines = [
        [_name(name, some, notes), *(_cell(name, column, some, notes) for column in columns)]
        for some in (shared, rows)
        for name in dict.fromkeys(row["name"] for row in some)
    ]
    header = ["model", *(f"{heading.title}{ARROWS[heading.goal]}" for heading in columns.values())]
    count = len({row["task"] for row in rows})
    same = f"; {' and '.join(row['name'] for row in shared)} are the same for all" if shared else ""
    return Grid(header, lines, [f"mean ± standard deviation over {count} seeds{same}", *numbered(notes)])


def _name(name: str, rows: Sequence[RunRow], notes: dict[str, int]) -> Cell:
    texts = dict.fromkeys(text for row in rows if row["name"] == name for text in row["notes"].values())
    return Cell(name, mark(texts, notes))


def _cell(name: str, column: str, rows: Sequence[RunRow], notes: dict[str, int]) -> Cell:
    own = [row for row in rows if row["name"] == name and column in row["columns"]]
    cells = [row["columns"][column] for row in own]
    if len({row["asked"].get(column) for row in own}) > 1:
        return Cell("n/a", mark(["asked in different ways"], notes))
    values = [cell.value for cell in cells if cell.value is not None]
    worlds = len({row["task"] for row in rows})
    fewer = [f"in {len(cells)} of {worlds} seeds"] if 0 < len(cells) < worlds else []
    marks = mark(dict.fromkeys([*fewer, *(text for cell in cells for text in flagged(cell))]), notes)
    if not values or len(values) < len(cells):
        return Cell("n/a", marks)
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return Cell(f"{mean(values):.1f}", spread + marks)
