"""Numbers published elsewhere, each with its source."""

import csv
import io
from pathlib import Path

from muse_eval import reading
from muse_eval.errors import UserError
from muse_eval.results.cells import read_cell

VALUES = ("verbmem_f", "knowmem_f", "privleak", "knowmem_r")
PUBLISHED = ("task", "method", "base_model", *VALUES, "source", "locator", "note")
"""The columns of ``published.csv``; values are kept as printed by their source."""


def load_published(path: Path) -> list[dict[str, str]]:
    """Read numbers published elsewhere, each with its source; values stay the text that was printed.

    Raises:
        UserError: the file cannot be read, lacks a column, or has a line (named) that is not whole.
    """
    reader = csv.DictReader(io.StringIO(reading.read_text(path, "file of published numbers")), strict=True)
    if tuple(reader.fieldnames or ()) != PUBLISHED:
        raise UserError(f"{path}:1: the columns must be {','.join(PUBLISHED)}")
    lines = []
    try:
        for line in reader:
            if None in line or None in line.values():
                raise UserError(f"{path}:{reader.line_num}: a line must have {len(PUBLISHED)} cells")
            line = {name: read_cell(cell) for name, cell in line.items()}
            lines.append(line)
            for name in VALUES:
                float(line[name] or 0)
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from None
    return lines
