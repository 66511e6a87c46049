"""Two and more ways of doing the same work that take turns, and what each costs."""

from dataclasses import dataclass, field
from itertools import islice

from benchmarks.baseline import Outcome, Steps
from benchmarks.measure import Meter


@dataclass(frozen=True)
class Cost:
    """What a column took one side."""

    cpu: float
    """CPU seconds."""
    wall: float
    peak: float
    """GiB over the loaded model's."""
    same: str = ""
    """How its value compares with muse-eval's."""


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    what: str
    ours: Cost
    theirs: dict[str, Cost]
    """By opponent; one that does not do this work has none."""
    floor: float
    """CPU seconds of the arithmetic alone."""
    turns: int
    """How many times the sides took turns."""


@dataclass
class Opponent:
    """An opponent's way through a column."""

    steps: Steps
    examples: int
    meter: Meter = field(default_factory=Meter)
    outcomes: list[Outcome] = field(default_factory=list)

    def go_on(self, done: int, total: int) -> None:
        """Do as large a share of its examples as muse-eval has done of its questions."""
        with self.meter:
            self.outcomes.extend(islice(self.steps, done * self.examples // total - len(self.outcomes)))

    def finish(self) -> Outcome:
        """Do the rest."""
        with self.meter:
            self.outcomes.extend(self.steps)
        return self.outcomes[-1]
