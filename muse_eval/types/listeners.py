"""Who is told of what while it goes on: functions that a caller hands in."""

from collections.abc import Callable, Mapping
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it and its whole."""
Note = Callable[[str], None]
"""Called with a line that says what was decided."""
Warn = Callable[[str], None]
"""Called with a line that says what is odd but not fatal."""
Stage = Callable[[str], None]
"""Called with the name of each stage as it begins."""
Log = Callable[[Mapping[str, Any]], None]
"""Called with each optimiser step's line of ``log.jsonl``."""


def ignore(*_: object) -> None:
    """Take no notice of progress or of a warning."""
