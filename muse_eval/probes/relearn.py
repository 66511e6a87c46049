"""Relearning: fine-tuning on the forget text itself, scored at every strength.

The published protocol for MUSE (arXiv 2502.05374) fine-tunes all weights on the forget text with AdamW at
lr 1e-5, four rows a step, and scores after 50, 75 and 100 steps (Books) or 100, 125 and 150 (News). There the
rate falls along a cosine; here it stays, so that one training passes through every strength.
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

    steps: Annotated[Rising, Field(min_length=1)] = (50, 75, 100, 125, 150)
    """After how many optimiser steps it is scored."""
    lr: Annotated[float, Field(gt=0, le=1e36)] | None = 1e-5
    """None: the task's own rate of unlearning."""
    batch_size: Annotated[int, Field(gt=0)] = 4


def strengths(params: Params) -> Sequence[str]:
    """Name the strengths: numbers of steps."""
    return [str(step) for step in params.steps]


def alter(subject: Subject, params: Params) -> Mapping[str, Path]:
    """Fine-tune on the forget text."""
    made = subject.train(subject.texts("forget"), params.steps, lr=params.lr, batch_size=params.batch_size)
    return {str(step): folder for step, folder in made.items()}


PROBE = ModelProbe(
    params=Params,
    strengths=strengths,
    alter=alter,
    says="after {} steps",
    quick={"steps": (10, 25, 50), "lr": None},
    steps=lambda params: max(params.steps),
)
