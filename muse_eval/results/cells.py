"""Cells of tables in files: CSV in which a spreadsheet runs nothing, Markdown in which text is text."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

from muse_eval.printable import one_line, printable

FORMULA = "=+-@＝＋－＠"
"""With one of these a spreadsheet takes a cell for a formula, and runs it (OWASP, CSV injection)."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?")
_NOTE = re.compile(r"\[\d+\] ")


def csv_text(lines: Iterable[Sequence[object]]) -> str:
    """Return lines of cells as CSV; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([csv_cell(cell) if isinstance(cell, str) else cell for cell in line] for line in lines)
    return text.getvalue()


def csv_cell(text: str) -> str:
    """Return a cell's text; an apostrophe goes in front of what a spreadsheet would run, numbers stay."""
    bare = text.strip()
    runs = bare[:1] in tuple(FORMULA) and len(bare) > 1 and not _NUMBER.fullmatch(bare)
    return f"'{printable(text)}" if runs or text[:1] in ("\t", "\r") else printable(text)


def read_cell(cell: str) -> str:
    """Return the text that ``csv_cell`` made a cell of, as far as it can be shown."""
    return cell[1:] if cell[:1] == "'" and csv_cell(cell[1:]) == cell else cell


def markdown_text(text: str) -> str:
    """Return a text on one line in which Markdown and HTML see no sign of theirs."""
    return re.sub(r"([\\|*`<\[\]!&])", r"\\\1", one_line(text))


def markdown_note(note: str) -> str:
    """Return a table's note likewise; its number, ``[1]``, stays as it is."""
    number = _NOTE.match(note)
    head = number[0] if number else ""
    return head + markdown_text(note.removeprefix(head))


def markdown_read(text: str) -> str:
    """Return the text that ``markdown_text`` was given, as far as it can be shown."""
    return re.sub(r"\\([\\|*`<\[\]!&])", r"\1", text)
