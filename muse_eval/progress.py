"""Shows how far a command is: live bars on a terminal or in a notebook, plain lines elsewhere."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Timer
from typing import Any, Protocol

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

from muse_eval import types
from muse_eval.errors import UserError
from muse_eval.printable import console, one_line

TRAININGS = ("finetune", "unlearn")
"""What a training calls its progress: its units are optimiser steps."""
SLOW = 0.1
"""Units a second under which a rate is told in seconds a unit."""
LINE_EVERY = 5.0
"""Seconds between two plain lines of one step."""
WORTH_A_LINE = 2.0
"""Seconds from which a step is worth a plain line at its end."""
SOON = 10.0
"""Seconds after which what is about to be done is said, whatever has come of it by then."""


class Display(Protocol):
    """What a command tells of its progress: the stage it is in, and the step within it."""

    def stage(self, name: str) -> None:
        """Begin a stage; the one before is over."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Tell what is done of a step, and its whole."""

    def losses(self, line: Mapping[str, Any]) -> None:
        """Tell the losses of the optimiser step under way, as ``log.jsonl`` has them."""

    def tell(self, line: str) -> None:
        """Tell what is about to be done, or what came of it."""

    def say(self) -> None:
        """Say what was told and waits to be said."""


@contextmanager
def display(quiet: bool = False) -> Iterator[Display]:
    """Show progress on standard error until the block ends."""
    if quiet:
        yield Silence()
    elif has_widgets() if in_notebook() else sys.stderr.isatty():
        with Bars(console(stderr=True)) as bars:
            yield bars
    else:
        lines = Lines()
        try:
            yield lines
        except UserError:
            lines.drop()
            raise
        finally:
            lines.say()
        lines.finish()


@contextmanager
def shown(progress: types.Progress | None) -> Iterator[types.Progress]:
    """Yield what was handed in, else what shows progress on a terminal or in a notebook, else nothing."""
    if progress is not None:
        yield progress
        return
    with display(quiet=not (in_notebook() or sys.stderr.isatty())) as bars:
        yield bars


def in_notebook() -> bool:
    """Tell whether a notebook's kernel runs this, whose streams are no terminal."""
    return Console().is_jupyter


def has_widgets() -> bool:
    """Tell whether a notebook can redraw bars; where not, plain lines say how far it is."""
    return importlib.util.find_spec("ipywidgets") is not None


class Silence:
    """Shows nothing."""

    def stage(self, name: str) -> None:
        """Say nothing."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Say nothing."""

    def losses(self, line: Mapping[str, Any]) -> None:
        """Say nothing."""

    def tell(self, line: str) -> None:
        """Say nothing."""

    def say(self) -> None:
        """Say nothing."""


def in_order(shown: Display, speak: Callable[[str], None]) -> Callable[[str], None]:
    """Return what speaks, but only after what was told before."""

    def said(line: str) -> None:
        shown.say()
        speak(line)

    return said


def losses_text(line: Mapping[str, Any]) -> str:
    """Return a step's epoch, losses and speed: ``epoch 1.5, forget 0.41, retain 0.02, 1,234 tokens/s``."""
    losses = [f"loss {line['loss']:.3g}"]
    if line["retain_loss"] is not None:
        losses = [f"forget {line['forget_loss']:.3g}", f"retain {line['retain_loss']:.3g}"]
    parts = [f"epoch {line['epoch']:.1f}", *losses]
    return ", ".join([*parts, f"{line['tokens_per_second']:,.0f} tokens/s"])


def rate_text(rate: float, step: str) -> str:
    """Return a rate in units a second, or a slow one in seconds a unit: ``4.2/s``, ``26 s a step``."""
    if rate >= SLOW:
        return f"{rate:.1f}/s"
    return f"{1 / rate:.0f} s {'a step' if step in TRAININGS else 'each'}"


class Rate(ProgressColumn):
    """Units a second, over the last half minute, or seconds a unit."""

    def render(self, task: BarTask) -> Text:
        """Render the rate, or nothing before there is one."""
        speed = task.finished_speed or task.speed
        step = task.description.rpartition(": ")[2]
        return Text(rate_text(speed, step) if speed else "", style="progress.data.speed")


class Bars:
    """A bar for each step of the stage under way, and a line for each stage that is over."""

    def __init__(self, page: Console) -> None:
        self._console = page
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}", style="dim", markup=False),
            console=page,
        )
        self._steps: dict[str, TaskID] = {}
        self._stage: str | None = None
        self._losses = ""
        self._began = time.monotonic()

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish_stage()
        self._progress.stop()

    def stage(self, name: str) -> None:
        """Put a line in the place of the last stage's bars."""
        self._finish_stage()
        self._stage, self._began = name, time.monotonic()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Move a step's bar."""
        if step not in self._steps:
            name = step if self._stage is None else f"{self._stage}: {step}"
            self._steps[step] = self._progress.add_task(name, total=total, losses="")
        self._progress.update(self._steps[step], completed=done, total=total, losses=self._losses)
        self._losses = ""

    def losses(self, line: Mapping[str, Any]) -> None:
        """Show them behind the step's bar."""
        self._losses = losses_text(line)

    def tell(self, line: str) -> None:
        """Put it above the bars."""
        self._console.print(Text(f"  {one_line(line)}", style="dim"))

    def say(self) -> None:
        """Nothing waits: what is told is there at once."""

    def _finish_stage(self) -> None:
        if self._stage is None:
            return
        took = f"{time.monotonic() - self._began:.0f} s" if self._steps else "was there already"
        self._console.print(Text.assemble(("✓ ", "green"), self._stage, (f"  {took}", "dim")))
        for step in self._steps.values():
            self._progress.remove_task(step)
        self._steps, self._stage = {}, None


def _print(line: str, indent: str = "") -> None:
    print(f"{indent}{one_line(line)}", file=sys.stderr, flush=True)


class Lines:
    """Prints a line for each stage, and for a step now and then one with rate and time left."""

    def __init__(self) -> None:
        self._told: float | None = None
        self._began: dict[str, tuple[float, int]] = {}
        self._printed: dict[str, float] = {}
        self._losses = ""
        self._in_stage = False
        self._waiting = ""
        self._clock: Timer | None = None

    def stage(self, name: str) -> None:
        """Name the stage; of the one before say where it had nothing to do."""
        self.say()
        self.finish()
        self._in_stage = True
        self._told, self._began, self._printed, self._losses = None, {}, {}, ""
        _print(name)

    def __call__(self, step: str, done: int, total: int) -> None:
        """Say how far a step is, if it is worth a line."""
        now = time.monotonic()
        if step not in self._began:
            # Of a training the first that is heard is that a step is done; it began when it was told of.
            told = self._told if step in TRAININGS else None
            self._began[step] = (now, done) if told is None else (told, done - 1)
        began, already = self._began[step]
        printed = self._printed.setdefault(step, began)
        spent, fresh = now - began, done - already
        over = done >= total
        if not ((over and spent > WORTH_A_LINE) or now - printed > LINE_EVERY):
            return
        self.say()
        self._printed[step] = now
        rate = rate_text(fresh / spent, step) if spent > 0 and fresh else "…"
        left = "" if over or not fresh else f", {(total - done) * spent / fresh:.0f} s left"
        losses = f", {self._losses}" if self._losses else ""
        _print(f"{step}: {done}/{total} ({rate}, {spent:.0f} s{left}{losses})", "  ")

    def losses(self, line: Mapping[str, Any]) -> None:
        """Say them with the step's next line."""
        self._losses = losses_text(line)

    def tell(self, line: str) -> None:
        """Say it with the next line, or by itself where none comes soon: an error that does is one line."""
        self.say()
        self._told, self._waiting = time.monotonic(), line
        clock = self._clock = Timer(SOON, self.say)
        clock.daemon = True
        clock.start()

    def say(self) -> None:
        """Say what was told and waits to be said."""
        waiting, self._waiting = self._waiting, ""
        if self._clock:
            self._clock.cancel()
        if waiting:
            _print(waiting, "  ")

    def drop(self) -> None:
        """Forget what was told and is not said yet."""
        self._waiting = ""

    def finish(self) -> None:
        """Say that the last stage had nothing to do, where it told of no step."""
        if self._in_stage and not self._began:
            _print("was there already", "  ")
        self._in_stage = False
