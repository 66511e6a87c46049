"""Tables of stored results: CSV, Markdown and for the terminal, in the shape of the published table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from muse_eval.printable import one_line
from muse_eval.results.cells import csv_text, markdown_note, markdown_text
from muse_eval.results.grid import Cell, Grid, _number, grid
from muse_eval.results.rows import RunRow, by_task, headings, title

if TYPE_CHECKING:
    from rich.table import Table


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────
def to_csv(rows: Iterable[RunRow], published: Iterable[Mapping[str, str]] = ()) -> str:
    """Return one line per run, then one per published row; the same runs give the same bytes.

    What was not scored is an empty cell; ``source`` is empty for what was measured here.
    """
    tasks = by_task(rows)
    names = dict.fromkeys(name for task, runs in tasks.items() for name in headings(task, runs))
    lines = [_csv_line(row, names) for runs in tasks.values() for row in runs]
    lines += [_published_line(line, names) for line in published if line["task"] in tasks]
    header = ["task", "name", "model", "revision", "digest"]
    header += [f"{name}{end}" for name in names for end in ("", "_low", "_high", "_n", "_flags")]
    header += ["auc", "reference", "seed", "notes", "source", "engine", "dtype", "limit"]
    return csv_text([header, *lines])


def _csv_line(row: RunRow, names: Iterable[str]) -> list[str]:
    cells = [row["task"], row["name"], row["model"], row["revision"], row["digest"]]
    for name in names:
        column = row["columns"].get(name)
        if column is None:
            cells += [""] * 5
            continue
        low, high = column.ci or (None, None)
        cells += [_number(column.value), _number(low), _number(high), str(column.n), ";".join(column.flags)]
    seed = "" if row["seed"] is None else str(row["seed"])
    cells += [_number(row["auc"], 4), row["reference"], seed, "; ".join(row["notes"].values()), ""]
    return [*cells, row["engine"], row["dtype"], "" if row["limit"] is None else str(row["limit"])]


def _published_line(line: Mapping[str, str], names: Iterable[str]) -> list[str]:
    cells = [line["task"], line["method"], line["base_model"], "", ""]
    for name in names:
        cells += [line.get(name, ""), "", "", "", ""]
    return [*cells, "", "", "", "", f"{line['source']}, {line['locator']}", "", "", ""]


def to_markdown(rows: Iterable[RunRow], published: Iterable[Mapping[str, str]] = ()) -> str:
    """Return a table per task, each followed by the task's published numbers where they are given."""
    published = list(published)
    blocks = []
    for task, runs in by_task(rows).items():
        columns = headings(task, runs)
        laid = grid(columns, runs)
        blocks.append(f"## {markdown_text(title(task, runs))}\n")
        blocks.append(_markdown_table(laid.header, laid.lines))
        if laid.notes:
            blocks.append("".join(f"- {markdown_note(note)}\n" for note in laid.notes))
        elsewhere = [line for line in published if line["task"] == task]
        if elsewhere:
            blocks.append("Published elsewhere, not measured here:\n")
            blocks.append(_published_table(columns, laid.header, elsewhere))
    return "\n".join(blocks)


def grid_markdown(laid: Grid, extra: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Return a laid-out table and its notes as Markdown; ``extra`` is title to row name to a cell more."""
    added = extra or {}
    lines = [
        [*line, *(Cell(cells.get(line[0].value, "")) for cells in added.values())] for line in laid.lines
    ]
    return (
        _markdown_table([*laid.header, *added], lines)
        + "\n"
        + "".join(f"- {markdown_note(n)}\n" for n in laid.notes)
    )


def _published_table(columns: Iterable[str], header: list[str], lines: list[Mapping[str, str]]) -> str:
    cells = [
        [
            Cell(line["method"]),
            *(Cell(line.get(name, "")) for name in columns),
            Cell(f"{line['source']}, {line['locator']}"),
        ]
        for line in lines
    ]
    return _markdown_table([*header, "source"], cells)


def _markdown_table(header: Sequence[str], lines: Iterable[Sequence[Cell]]) -> str:
    rule = ["---", *("---:" for _ in header[1:])]
    body = [[_markdown_cell(cell) for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in [[markdown_text(h) for h in header], rule, *body])


def _markdown_cell(cell: Cell) -> str:
    value = f"**{markdown_text(cell.value)}**" if cell.best else markdown_text(cell.value)
    return value + cell.spread


def draw(laid: Grid) -> "Table":
    """Return a laid-out table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    caption = Text("\n".join(map(one_line, laid.notes))) if laid.notes else None
    result = Table(caption=caption, caption_justify="left")
    for index, name in enumerate(laid.header):
        result.add_column(Text(one_line(name)), justify="right" if index else "left")
    for line in laid.lines:
        result.add_row(
            *(Text.assemble((one_line(c.value), "bold" if c.best else ""), c.spread) for c in line)
        )
    return result
