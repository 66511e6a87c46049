"""The nouns of muse-eval: requests and answers, engines, metrics and methods, scores and results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Row = Mapping[str, str]
"""One example of a split: column name to text."""

Splits = Mapping[str, Sequence[Row]]
"""What a column scores: role (``qa``, ``icl``, ``forget`` …) to rows."""


# ── what a metric asks ───────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Generate:
    """Continue ``prompt`` greedily by at most ``max_tokens`` tokens; the text ends before a stop string."""

    prompt: str
    max_tokens: int
    stop: tuple[str, ...] = ()
    truncate: bool = False
    """Keep only the end of a prompt that does not fit the context, instead of refusing it."""
    name: str = field(default="", compare=False)
    """What errors call this example (``verbmem/forget[3]``); not part of the question."""


@dataclass(frozen=True)
class Logprobs:
    """Ask for log p of each token of ``text`` but the first (which is BOS where the tokenizer has one)."""

    text: str
    moments: bool = False
    """Also ask for mean and standard deviation of log p over the vocabulary (Min-K%++)."""
    truncate: bool = False
    """Score only the first context-full of a text that is longer, instead of refusing it."""
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class Truncate:
    """Cut ``text`` to ``max_tokens`` tokens of the model's tokenizer, BOS counted, and decode it again.

    Below 0 it is cut by so many at its end.
    """

    text: str
    max_tokens: int
    name: str = field(default="", compare=False)


Request = Generate | Logprobs | Truncate


# ── what an engine answers ───────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Generation:
    """The continuation, decoded without special tokens, up to the first stop string."""

    text: str
    truncated: bool = False
    """Whether the prompt was cut to fit the context."""


@dataclass(frozen=True, eq=False)
class TokenLogprobs:
    """Log-probabilities of a text's tokens but the first: float32 arrays of shape (tokens − 1,), in nats."""

    logprobs: np.ndarray
    mean: np.ndarray | None = None
    """E[log p] over the vocabulary at each position, where it was asked for."""
    std: np.ndarray | None = None
    """Standard deviation of log p over the vocabulary at each position, where it was asked for."""
    truncated: bool = False


Answer = Generation | TokenLogprobs | str
"""The answer to a ``Generate``, a ``Logprobs`` and a ``Truncate``."""

AnswerT = TypeVar("AnswerT", covariant=True)
Batches = Iterator[Sequence[tuple[int, AnswerT]]]
"""Finished batches, each a sequence of (index of the request, its answer)."""


class Engine(Protocol):
    """A model that answers in batches; a context manager: leaving it frees the device.

    An answer depends on the request alone, never on the other requests or on their order.
    A request that does not fit the context raises ``UserError`` naming it before any is answered.
    """

    @property
    def id(self) -> str:
        """Everything that can change an answer: weights and tokenizer digest, dtype, backend, version."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the model came from and how it runs: model, revision, digests, dtype, device, versions."""

    def generate(self, asks: Sequence[Generate]) -> Batches[Generation]:
        """Continue each prompt greedily, yielding batches as they finish."""

    def logprobs(self, asks: Sequence[Logprobs]) -> Batches[TokenLogprobs]:
        """Score each text, yielding batches as they finish."""

    def truncate(self, asks: Sequence[Truncate]) -> list[str]:
        """Cut each text with the model's own tokenizer, in order."""

    def __enter__(self) -> Self:
        """Return the engine itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the device."""


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
    records: tuple[Record, ...] = ()


@dataclass(frozen=True)
class Metric:
    """A metric as two pure functions; it never sees a model."""

    goal: Literal["lower", "higher", "zero"]
    """Which way is better for a forget column; a task's column may say otherwise (KnowMem Dr: higher)."""
    roles: Mapping[str, tuple[str, ...]]
    """The splits it needs: role to the text columns of its rows."""
    params: type
    """Frozen dataclass of its parameters, with the protocol's values as defaults."""
    requests: Callable[[Splits, Any], list[Request]]
    score: Callable[[Splits, Sequence[Answer], Any, Context], Score]
    few_shot: tuple[str, ...] = ()
    """Roles whose rows are context, not examples: ``--limit`` leaves them whole."""
    relative: bool = False
    """Whether ``score`` compares with a retrain model's answers to the same requests."""


# ── unlearning ───────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class SeqLogps:
    """Log-probabilities of a batch of sequences under one model."""

    total: Tensor
    """(batch,) summed log π(y|x), in nats."""
    tokens: Tensor
    """(batch,) |y|, the number of tokens summed over."""
    each: Tensor | None = None
    """(batch, length) log π of each token, 0 at positions that predict none; None of a stored reference."""


@dataclass(frozen=True)
class Method:
    """The usual form of a method: a forget loss over sequences; the retain term is a separate choice."""

    loss: Callable[[SeqLogps, SeqLogps | None, Any], Tensor]
    """(policy, reference, params) → scalar; the reference is the target before unlearning."""
    params: type
    """Frozen dataclass of its parameters (β, γ …), with the published values as defaults."""
    reference: bool = False
    """Whether the loss needs the reference's log-probabilities (sums, taken once before the first step)."""


@dataclass(frozen=True)
class LogitMethod:
    """A forget loss over whole next-token distributions; the retain term is a separate choice."""

    loss: Callable[[Tensor, Tensor | None, Tensor, Any], Tensor]
    """(logits, the target's logits, next tokens, params) → a loss for each position.

    Logits are float32 (positions, vocabulary), next tokens and losses (positions,). The losses are averaged
    over a row's positions, then over rows.
    """
    params: type
    teacher: bool = False
    """Whether the loss needs the target's logits: a second model in memory."""
    everywhere: bool = False
    """Whether a row's last position counts too, which predicts nothing (its next token is −100)."""


@dataclass(frozen=True)
class PreferenceMethod:
    """A loss that prefers a refusal to the forget text, both after the text's beginning."""

    loss: Callable[[SeqLogps, SeqLogps, SeqLogps, SeqLogps, Any], Tensor]
    """(forget policy, forget reference, refusal policy, refusal reference, params) → scalar."""
    params: type
    """Has ``prompt``, the share of a row's tokens that both continue."""
    refusals: tuple[str, ...]
    """What is to be said instead; forget row i gets refusal i mod their number."""


@dataclass(frozen=True)
class ActivationMethod:
    """A loss over one layer's activations with a retain term of its own, which trains some weights alone."""

    forget: Callable[[Tensor, Tensor, Tensor, Any], Tensor]
    """(activations (batch, length, hidden), mask (batch, length), goal (hidden,), params) → scalar."""
    retain: Callable[[Tensor, Tensor, Tensor, Any], Tensor]
    """(activations, the target's activations, mask, params) → scalar, already weighted."""
    goal: Callable[[int, int, Any], Tensor]
    """(hidden size, seed, params) → (hidden,) what forget activations are driven to."""
    layer: Callable[[int, Any], int]
    """(the model's number of layers, params) → the layer whose output is taken, from 0."""
    trains: Callable[[str, int], bool]
    """(weight name, that layer) → whether the weight is trained."""
    params: type


@dataclass(frozen=True)
class WeightMethod:
    """Weights computed from those of the target and of a model reinforced on the forget text."""

    merge: Callable[[Tensor, Tensor, Any], Tensor]
    """(the target's weight, the reinforced model's, params) → the unlearned model's."""
    params: type


@dataclass(frozen=True)
class LogitMixture:
    """Next-token logits computed at every step from those of the target and of a reinforced model."""

    combine: Callable[[Tensor, Tensor, Any], Tensor]
    """(the target's logits, the reinforced model's, params) → logits, or log-probabilities.

    All are float32 (…, vocabulary) of one shape, and finite where both are finite.
    """
    params: type
    """Frozen dataclass of its parameters (α …), with the published values as defaults."""


AnyMethod = Method | LogitMethod | PreferenceMethod | ActivationMethod | WeightMethod | LogitMixture
"""Every form a method can have."""


# ── results ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Result:
    """One run: a model scored on a task."""

    task: str
    name: str
    model: Mapping[str, Any]
    """``id``, ``revision`` and ``digest``."""
    columns: Mapping[str, Score]
    extras: Mapping[str, Any]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    seconds: float
    """Engine seconds spent on the answers, whichever run asked for them."""
