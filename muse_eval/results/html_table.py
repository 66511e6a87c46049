"""The leaderboard as a page of plain tables, without a script; foreign text is text in it."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from muse_eval.printable import one_line
from muse_eval.results.captions import caption
from muse_eval.results.grid import Cell, grid
from muse_eval.results.rows import RunRow, by_task, headings

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MUSE leaderboard</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin-block: 1rem; }
caption { text-align: left; padding-block: .5rem; }
th, td { padding: .25rem .6rem; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child { text-align: left; }
thead { border-block: 1px solid; }
</style>
</head>
<body>
"""


def to_html(rows: Iterable[RunRow], published: Iterable[Mapping[str, str]] = ()) -> str:
    """Return a page with a table a task, and the published numbers; the same runs give the same bytes."""
    published, blocks = list(published), [HEAD]
    for task, runs in by_task(rows).items():
        columns = headings(task, runs)
        laid = grid(columns, runs)
        blocks.append(_table(caption(task, columns, runs), laid.header, laid.lines, task))
        if laid.notes:
            items = "".join(f"<li>{text(note)}</li>\n" for note in laid.notes)
            blocks.append(f"<ul>\n{items}</ul>\n")
        elsewhere = [line for line in published if line["task"] == task]
        if elsewhere:
            lines = [
                [
                    Cell(line["method"]),
                    *(Cell(line.get(name, "")) for name in columns),
                    Cell(f"{line['source']}, {line['locator']}"),
                ]
                for line in elsewhere
            ]
            blocks.append(_table("Published elsewhere, not measured here.", [*laid.header, "source"], lines))
    return "".join([*blocks, "</body>\n</html>\n"])


def text(foreign: str) -> str:
    """Return a text on one line in which HTML sees no sign of its own, also within quotes."""
    return escape(one_line(foreign))


def _table(heading: str, header: Sequence[str], lines: Iterable[Sequence[Cell]], task: str = "") -> str:
    """Return a table; where a task is given, its rows say which run they are (``replaced`` reads it)."""
    titles = "".join(f'<th scope="col">{text(name)}</th>' for name in header)
    body = []
    for first, *cells in lines:
        run = f' data-run="{text(f"{task}/{first.value}")}"' if task else ""
        name = f'<th scope="row">{_cell(first)}</th>'
        body.append(f"<tr{run}>{name}{''.join(f'<td>{_cell(cell)}</td>' for cell in cells)}</tr>\n")
    return (
        f'<div class="wide">\n<table>\n<caption>{text(heading)}</caption>\n<thead>\n<tr>{titles}</tr>\n'
        f"</thead>\n<tbody>\n{''.join(body)}</tbody>\n</table>\n</div>\n"
    )


def _cell(cell: Cell) -> str:
    value = f"<b>{text(cell.value)}</b>" if cell.best else text(cell.value)
    # The space before ± is the cell's own.
    return value + escape(cell.spread)
