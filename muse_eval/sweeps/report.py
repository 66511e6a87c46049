"""How a sweep tells of its models: one after the other by stages, several at once by steps."""

import threading
from collections.abc import Callable

from muse_eval.types import Note, Progress, Warn


class Report:
    """Tells of one model after the other by stages, of several at once by steps named after them."""

    def __init__(
        self,
        several: int | None,
        at_once: int,
        stage: Callable[[str], None],
        progress: Progress,
        warn: Warn,
        note: Note,
    ) -> None:
        self._lock = threading.Lock()
        self._stage, self._progress, self._warn, self._note = stage, progress, warn, note
        self._noted: set[str] = set()
        self._several, self._at_once, self._over = several, at_once, 0

    def open(self) -> None:
        """Say what is to be done, now that nothing stands in its way."""
        if self._several is not None:
            self._stage(f"models: {self._several}, {self._at_once} at a time")
            self._progress("models", 0, self._several)

    def begin(self, name: str) -> None:
        """Say that a model's turn has come."""
        with self._lock:
            if self._several is None:
                self._stage(f"score {name}")

    def step(self, name: str, step: str, done: int, total: int) -> None:
        """Pass on how far a model is."""
        with self._lock:
            self._progress(step if self._several is None else f"{name}: {step}", done, total)

    def warn(self, name: str, message: str) -> None:
        """Pass on a model's warning."""
        with self._lock:
            self._warn(f"{name}: {message}")

    def note(self, message: str) -> None:
        """Pass on what was decided, which most models have in common."""
        with self._lock:
            if message not in self._noted:
                self._noted.add(message)
                self._note(message)

    def end(self) -> None:
        """Say that a model is over, one way or the other."""
        with self._lock:
            self._over += 1
            if self._several is not None:
                self._progress("models", self._over, self._several)
