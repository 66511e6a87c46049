"""What a probe is: it alters a model, or it asks otherwise; then everything else is an ordinary run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from muse_eval.types.metrics import Metric

if TYPE_CHECKING:
    from torch import Tensor


class Subject(Protocol):
    """A model under a probe: its task's texts, and two ways to make other models of it.

    Each model that is made lies in a folder of its own, named by all that it is made from; what is there
    already is not made again, and what was stopped goes on.
    """

    def texts(self, of: Literal["forget", "retain", "given"]) -> list[str]:
        """Return the task's texts to forget or to keep, or those of ``--texts``.

        Raises:
            UserError: there are none.
        """

    def train(
        self, texts: Sequence[str], stops: Sequence[int], *, lr: float | None, batch_size: int
    ) -> dict[int, Path]:
        """Fine-tune the model on texts and return its checkpoint after each of some optimiser steps.

        One training: each goes on from the one before. AdamW, constant rate; ``lr`` None is the task's rate
        of unlearning.
        """

    def reweigh(self, label: str, change: Callable[[Tensor], Tensor]) -> Path:
        """Change the weight of every linear layer but the output head, and return the model's folder.

        Args:
            label: what tells this change from any other; a part of the folder's name.
            change: float32 (out, in), on the CPU → the new weight of the same shape.
        """


@dataclass(frozen=True)
class ModelProbe:
    """A probe that alters a model at several strengths; each altered model is scored as any other."""

    params: type
    """Frozen dataclass of its parameters; its defaults are the published protocol's."""
    strengths: Callable[[Any], Sequence[str]]
    """(params) → what each strength is called, from the weakest on: ``25``, ``int8`` …"""
    alter: Callable[[Subject, Any], Mapping[str, Path]]
    """(model, params) → the folder of the model altered at each strength.

    Called first with a subject that makes nothing, to learn what will be done: opens no folder it is given.
    """
    says: str
    """How a strength is told: ``after {} steps``."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the small budget, where they differ from the published ones."""
    lacks: Callable[[Any], str] = lambda _params: ""
    """(params) → in a line what it needs and this machine has not; empty where that is nothing."""
    steps: Callable[[Any], int] = lambda _params: 0
    """(params) → optimiser steps that a model takes in all, for the forecast of time."""


@dataclass(frozen=True)
class AskProbe:
    """A probe that puts other questions to the model as it is: it makes a metric into one that asks them."""

    params: type
    strengths: Callable[[Any], Sequence[str]]
    metrics: tuple[str, ...]
    """Names of the metrics that it can turn."""
    turn: Callable[[Metric, str, Any], Metric]
    """(metric, strength, params) → the metric whose requests and score are the probe's."""
    says: str
    """How a strength is told: ``from {} of the prompt``."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    lacks: Callable[[Any], str] = lambda _params: ""
    beside: tuple[Literal["forget", "retain"], ...] = ()
    """Texts of the task that the turned metric also reads, as the role ``forget_texts`` or
    ``retain_texts``, rows of ``text``."""
    cost: Callable[[Any], int] = lambda _params: 1
    """(params) → how many plain scorings all its strengths are together, for the forecast."""


AnyProbe = ModelProbe | AskProbe
"""Both forms that a probe can have."""
