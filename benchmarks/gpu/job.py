"""What a stage of the check is told, and how its rows are kept: one that fails does not end the others."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.memory import release
from benchmarks.shapes import SHAPES, Shape
from muse_eval.errors import first_line

Row = dict[str, Any]
"""One line of a stage's table, by its columns' names; ``what`` says what it is of.

``skipped`` holds why it was left out, ``failed`` why it came to nothing; ``late`` says that time was short.
"""


@dataclass(frozen=True)
class Job:
    """What a stage is told."""

    shape: str
    device: str
    """``cuda`` or ``cpu``."""
    out: str
    """The folder of the check."""
    data_dir: str | None
    task: str
    seconds: float
    """What the stage may take; a row that would begin later is left out."""
    floor: dict[str, Any] = field(default_factory=dict)
    """The machine's rates, as the first stage measured them."""

    @property
    def place(self) -> torch.device:
        """The device that is checked."""
        return torch.device(self.device)

    @property
    def on_gpu(self) -> bool:
        """Whether that is a GPU."""
        return self.device == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that weights have: half precision on a GPU, float32 on a CPU."""
        if not self.on_gpu:
            return torch.float32
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16

    @property
    def sizes(self) -> Shape:
        """The sizes of the shape."""
        return SHAPES[self.shape]

    @property
    def small(self) -> bool:
        """Whether this only proves that the check runs."""
        return self.shape == "tiny"


class Rows:
    """A stage's rows, each written to a file as soon as it is there: a killed stage leaves them."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._end = path, time.monotonic() + seconds
        self.all: list[Row] = []

    @property
    def left(self) -> float:
        """Seconds that the stage has left."""
        return self._end - time.monotonic()

    def add(self, row: Row) -> None:
        """Keep a row."""
        self.all.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def skip(self, what: str, reason: str) -> None:
        """Keep that a row was left out, and why."""
        self.add({"what": what, "skipped": reason})

    def attempt(self, what: str, measure: Callable[[], Row], seconds: float = 0.0) -> Row | None:
        """Measure and keep a row; None where it failed, which is kept too, or where too little time is left.

        Args:
            what: what the row is of.
            measure: returns the rest of the row.
            seconds: what it takes, about.
        """
        if self.left < seconds:
            why = f"{max(self.left, 0):.0f} s were left of the stage's time, it takes about {seconds:.0f}"
            self.add({"what": what, "skipped": why, "late": True})
            return None
        try:
            row = {"what": what, **measure()}
        except Exception as error:  # noqa: BLE001 - whatever a driver or a library says is a finding
            row = {"what": what, "failed": reason(error)}
        self.add(row)
        # Outside the handler, whose traceback holds on to what was being computed.
        release()
        return None if "failed" in row else row


def reason(error: BaseException) -> str:
    """Return an error in one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return f"out of memory: {first_line(error)}"
    return f"{type(error).__name__}: {first_line(error)}"
