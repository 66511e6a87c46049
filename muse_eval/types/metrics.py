"""What a metric is, what it is given to score with, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from muse_eval.types.asks import Answer, Request, Splits


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Reference:
    """The retrain model that PrivLeak is relative to (MUSE, section 3)."""

    source: Literal["measured", "published"]
    model: str
    """The retrain model's name, or where the numbers were published."""
    auc: Mapping[str, float] = field(default_factory=dict)
    """Published AUC by attack, empty when measured."""
    answers: Sequence[Answer] = ()
    """The retrain model's own answers to the same requests, empty when published."""


@dataclass(frozen=True)
class Context:
    """What scoring needs beside the answers."""

    seed: int = 0
    resamples: int = 9_999
    reference: Reference | None = None
    no_reference: str = ""
    """Why there is none."""


@dataclass(frozen=True)
class Record:
    """The evidence for one example: what was asked, answered and scored."""

    split: str
    index: int
    scores: Mapping[str, float | None]
    texts: Mapping[str, str] = field(default_factory=dict)
    """``question``, ``response``, ``truth`` … as the metric has them."""
    prompt_sha256: str = ""


@dataclass(frozen=True)
class Score:
    """One cell of the table, in percent, with its evidence."""

    value: float | None
    """None where it is undefined; ``reason`` then says why."""
    ci: tuple[float, float] | None
    """95 % interval."""
    n: int
    """Examples behind the value."""
    flags: tuple[str, ...] = ()
    reason: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[Record, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Metric:
    """A metric as two pure functions; it never sees a model."""

    goal: Literal["lower", "higher", "zero"]
    """Which way is better for a forget column; a task's column may say otherwise (KnowMem Dr: higher)."""
    roles: Mapping[str, tuple[str, ...]]
    """The splits it needs, or that it can read ``beside`` others: role to the text columns of its rows."""
    params: type
    """Frozen dataclass of its parameters, with the protocol's values as defaults."""
    requests: Callable[[Splits, Any], list[Request]]
    score: Callable[[Splits, Sequence[Answer], Any, Context], Score]
    few_shot: tuple[str, ...] = ()
    """Roles whose rows are context, not examples: ``--limit`` leaves them whole."""
    relative: bool = False
    """Whether ``score`` compares with a retrain model's answers to the same requests."""
    beside: tuple[str, ...] = ()
    """Metrics beside whose columns it stands, of the same splits and asked like them: ``--metrics +NAME``."""
