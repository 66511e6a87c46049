"""How long a probing will take: what is left to do, times what was measured of it so far."""

from dataclasses import dataclass


@dataclass
class Forecast:
    """What is left of a probing, and the seconds that a scoring and a training step took."""

    scorings: float
    """Plain scorings of a model that are left."""
    steps: int
    """Optimiser steps that are left."""
    scoring_seconds: float | None = None
    step_seconds: float | None = None

    def scored(self, seconds: float, share: float = 1.0) -> None:
        """Take a scoring as done that was as much as ``share`` plain ones."""
        self.scorings = max(0.0, self.scorings - share)
        if share > 0:
            # The longest counts: where answers were there already it took next to nothing.
            self.scoring_seconds = max(self.scoring_seconds or 0.0, seconds / share)

    def stepped(self, seconds: float) -> None:
        """Take an optimiser step as done."""
        self.steps = max(0, self.steps - 1)
        before = self.step_seconds
        # The first step also warms up: what came after counts more.
        self.step_seconds = seconds if before is None else 0.5 * (before + seconds)

    @property
    def outset(self) -> str:
        """What there is to do."""
        trained = f" and {self.steps:,} training steps" if self.steps else ""
        return f"{self.scorings:,.0f} scorings{trained}"

    def expected(self, seconds: float | None) -> str:
        """Say what there is to do, and how long the scorings take if each takes as long as an earlier one."""
        if seconds is None:
            return self.outset
        return f"{self.outset}; to score, about {span(seconds * self.scorings)} by the run that is stored"

    @property
    def left(self) -> str:
        """How long what is left will take; what was not measured yet is said to come on top."""
        known = (self.scoring_seconds or 0.0) * self.scorings + (self.step_seconds or 0.0) * self.steps
        if self.steps and self.step_seconds is None:
            return f"about {span(known)} to score; the {self.steps:,} training steps come on top"
        return f"about {span(known)}"


def span(seconds: float) -> str:
    """Return seconds as a person says them: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
