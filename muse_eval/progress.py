"""Shows how far a command is: live bars on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as BarTask
from rich.text import Text

Report = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it and its whole."""

LINE_EVERY = 5.0
"""Seconds between two plain lines of one stage."""
WORTH_A_LINE = 2.0
"""Seconds from which a stage is worth a plain line at its end."""


class Rate(ProgressColumn):
    """Units a second, over the last half minute."""

    def render(self, task: BarTask) -> Text:
        """Render the rate, or nothing before there is one."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


@contextmanager
def display(quiet: bool = False) -> Iterator[Report]:
    """Show progress on standard error until the block ends."""
    if quiet:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _bars(Console(stderr=True)) as report:
            yield report
    else:
        yield _Lines()


@contextmanager
def _bars(console: Console) -> Iterator[Report]:
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        known: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total)
            bars.update(known[stage], completed=done, total=total)

        yield report


class _Lines:
    """Prints a line now and then, with rate and time left."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, int]] = {}
        self._printed: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        began, already = self._began.setdefault(stage, (now, done))
        printed = self._printed.setdefault(stage, began)
        spent, fresh = now - began, done - already
        over = done >= total
        if not ((over and spent > WORTH_A_LINE) or now - printed > LINE_EVERY):
            return
        self._printed[stage] = now
        rate = f"{fresh / spent:.1f}/s" if spent > 0 and fresh else "…"
        left = "" if over or not fresh else f", {(total - done) * spent / fresh:.0f} s left"
        print(f"{stage}: {done}/{total} ({rate}, {spent:.0f} s{left})", file=sys.stderr, flush=True)
