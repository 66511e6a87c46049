"""Where the project's own files in ``results/`` lie, apart from what a user makes there."""

from pathlib import Path

FOLDER = "project"
"""In the results folder of a checkout: the committed baseline, leaderboard and published numbers."""


def locate(path: Path) -> Path:
    """Return a file to read: ``path``, or where that is not there the project's own file of its name."""
    own = path.parent / FOLDER / path.name
    return own if own.is_file() and not path.exists() else path
