"""What a training is about to do, and whether it has steps enough and learned anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from muse_eval.errors import counted

STEPS = 12
"""Steps an epoch that a batch chosen here leaves at least, where there are as many rows."""
LARGEST = 32
"""MUSE's own batch: none chosen here is larger."""
FEW_STEPS = 36
"""Steps in all under which, at less than ``STEPS`` an epoch, little is learned by heart.

SmolLM2-135M knew 24 news texts of 130 words word for word after 48 steps at lr 2e-4 (VerbMem 100), and not
after 30 at 1e-4 (31); five at 1e-5 left its loss where it was.
"""
HARDLY = 0.8
"""Share of the first loss; where more is left at the end, the texts have hardly been learned."""
FIRST = 0.25
"""Of an epoch: the steps whose mean loss is the first one."""


def fitting_batch(rows: int) -> int:
    """Return the largest power of two that leaves ``STEPS`` steps an epoch: at most 32, at least 1."""
    sizes = [1]
    while sizes[-1] < LARGEST and rows // (2 * sizes[-1]) >= STEPS:
        sizes.append(2 * sizes[-1])
    return sizes[-1]


@dataclass(frozen=True)
class Workload:
    """What a training is about to do."""

    rows: int
    """Rows that an epoch goes through: of an unlearning, the forget rows."""
    tokens: int
    """Tokens that an epoch reads, those of retain rows and refusals counted."""
    epochs: int
    batch: int
    lr: float
    device: str
    more: tuple[str, ...] = ()
    """What else is told: how it is carried out, what it takes."""

    @property
    def steps_an_epoch(self) -> int:
        """Optimiser steps an epoch, the last with what is left over."""
        return -(-self.rows // self.batch)

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.steps_an_epoch

    @property
    def few(self) -> bool:
        """Whether there are too few steps to learn texts by heart."""
        return self.steps_an_epoch < STEPS and self.steps < FEW_STEPS

    def __str__(self) -> str:
        """Return it as one line."""
        return "; ".join(
            (
                f"{counted(self.rows, 'row')}, {counted(self.tokens, 'token')} an epoch",
                f"{counted(self.steps_an_epoch, 'step')} an epoch, {self.steps:,} in all",
                f"batch {self.batch}, lr {self.lr:g}",
                f"on {self.device}",
                *self.more,
            )
        )


@dataclass(frozen=True)
class Learned:
    """How the loss on a training's own rows moved, in nats a token."""

    first: float
    last: float

    @property
    def hardly(self) -> bool:
        """Whether it hardly moved."""
        return self.last > HARDLY * self.first

    def __str__(self) -> str:
        """Return both: ``loss 3.07 → 2.90``."""
        return f"loss {self.first:.2f} → {self.last:.2f}"


def learned(log: Sequence[Mapping[str, Any]]) -> Learned | None:
    """Return the mean loss of the first quarter of an epoch and that of the last epoch; None without a step.

    Args:
        log: lines of ``log.jsonl``.
    """
    if not log:
        return None
    begin = [line["loss"] for line in log if line["epoch"] <= FIRST] or [log[0]["loss"]]
    end = [line["loss"] for line in log if line["epoch"] > log[-1]["epoch"] - 1]
    return Learned(fmean(begin), fmean(end))
