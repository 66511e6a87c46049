"""Prints stored runs as a table on the terminal."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def print_table(folders: list[Path]) -> None:
    """Print runs as a table in the published shape."""
    from muse_eval.results import draw, headings, load, title
    from muse_eval.results.grid import grid
    from muse_eval.results.rows import rows

    found = rows(stored for folder in folders if (stored := load(folder)) is not None)
    columns = headings(found[0]["task"], found)
    print(f"{title(found[0]['task'], found)} (± half of the 95 % interval)")
    console().print(draw(grid(columns, found)))


def console() -> "Console":
    """Return the terminal, or where there is none a page wide enough for a table."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120)
