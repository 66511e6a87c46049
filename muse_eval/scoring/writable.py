"""Whether results can be written where they are wanted, which is asked before any work is done."""

import os
from pathlib import Path

from muse_eval.errors import UserError
from muse_eval.folders import nearest
from muse_eval.reading import typed_path


def check_writable(folder: Path) -> None:
    """Refuse a results folder that cannot be made or written, before any work is done."""
    there = nearest(typed_path(folder, "--results"))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"cannot write results to {folder}: {there} is no folder that can be written; "
            "give another --results"
        )
    for name in ("runs", "cache", "models"):
        require_folder(folder / name)


def require_folder(folder: Path) -> None:
    """Refuse a folder to write in whose place, or one above it, is taken by a file.

    Raises:
        UserError: it is.
    """
    if not (there := nearest(folder)).is_dir():
        raise UserError(f"{there} is a file, and {folder} must be a folder; move it, or choose another place")
