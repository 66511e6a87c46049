"""Fine-tuning on other text: the task's retain text, or ``--texts FILE``; nothing of the forget text is told.

The published protocol (arXiv 2510.07626) takes 250 steps of 32 rows at lr 2e-5 on GSM8K, SST-2 or MNLI; a
file of such texts goes in with ``--texts``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from muse_eval.config import Rising
from muse_eval.types import ModelProbe, Subject


@dataclass(frozen=True)
class Params:
    """Its parameters."""

    steps: Annotated[Rising, Field(min_length=1)] = (50, 100, 250)
    """After how many optimiser steps it is scored."""
    lr: Annotated[float, Field(gt=0, le=1e36)] | None = 2e-5
    """None: the task's own rate of unlearning."""
    batch_size: Annotated[int, Field(gt=0)] = 32


def strengths(params: Params) -> Sequence[str]:
    """Name the strengths: numbers of steps."""
    return [str(step) for step in params.steps]


def alter(subject: Subject, params: Params) -> Mapping[str, Path]:
    """Fine-tune on the texts given, else on the retain text."""
    made = subject.train(subject.texts("given"), params.steps, lr=params.lr, batch_size=params.batch_size)
    return {str(step): folder for step, folder in made.items()}


PROBE = ModelProbe(
    params=Params,
    strengths=strengths,
    alter=alter,
    says="after {} steps",
    quick={"steps": (10, 25), "lr": None, "batch_size": 4},
    steps=lambda params: max(params.steps),
)
