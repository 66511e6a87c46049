"""Prints stored runs as a table on the terminal."""

from pathlib import Path

from muse_eval.printable import console

PAGE = 120
"""Characters of a line of a table where there is no terminal."""


def print_table(folders: list[Path]) -> None:
    """Print runs as a table in the published shape."""
    from muse_eval.results import draw, headings, load, title
    from muse_eval.results.grid import grid
    from muse_eval.results.rows import rows

    found = rows(stored for folder in folders if (stored := load(folder)) is not None)
    columns = headings(found[0]["task"], found)
    print(f"{title(found[0]['task'], found)} (± half of the 95 % interval)")
    console(width=PAGE).print(draw(grid(columns, found)))
