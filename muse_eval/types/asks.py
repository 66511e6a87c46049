"""What a metric asks, what an engine answers, and what an engine is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

Row = Mapping[str, str]
"""One example of a split: column name to text."""

Splits = Mapping[str, Sequence[Row]]
"""What a column scores: role (``qa``, ``icl``, ``forget`` …) to rows."""


# ── what a metric asks ───────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Generate:
    """Continue ``prompt`` by at most ``max_tokens`` tokens, greedily; the text ends before a stop string."""

    prompt: str
    max_tokens: int
    stop: tuple[str, ...] = ()
    truncate: bool = False
    """Keep only the end of a prompt that does not fit the context, instead of refusing it."""
    temperature: float = 0.0
    """Above 0 each token is drawn from softmax(logits / temperature)."""
    top_p: float = 1.0
    """Draw only among the likeliest tokens that together have this probability."""
    seed: int = 0
    sample: int = 0
    """Which of several draws for one prompt: with ``seed`` and the prompt it decides every draw."""
    name: str = field(default="", compare=False)
    """What errors call this example (``verbmem/forget[3]``); not part of the question."""


@dataclass(frozen=True)
class Logprobs:
    """Ask for log p of each token of ``text`` but the first (which is BOS where the tokenizer has one)."""

    text: str
    moments: bool = False
    """Also ask for mean and standard deviation of log p over the vocabulary (Min-K%++)."""
    truncate: bool = False
    """Score only the first context-full of a text that is longer, instead of refusing it; where there is an
    ``after``, the last."""
    ranks: bool = False
    """Also ask for the rank of each token among the vocabulary."""
    after: str = ""
    """Leave out the tokens that the text shares with this beginning of it, when that stands alone."""
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class GradientNorm:
    """Ask for the Euclidean norm, over all weights, of the gradient of ``text``'s mean loss in nats.

    The loss is that of its tokens but the first. Only the hf engine answers.
    """

    text: str
    truncate: bool = False
    """Take only the first context-full of a text that is longer, instead of refusing it."""
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class Truncate:
    """Cut ``text`` to ``max_tokens`` tokens of the model's tokenizer, BOS counted, and decode it again.

    Below 0 it is cut by so many at its end.
    """

    text: str
    max_tokens: int
    name: str = field(default="", compare=False)


Request = Generate | Logprobs | GradientNorm | Truncate


# ── what an engine answers ───────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Generation:
    """The continuation, decoded without special tokens, up to the first stop string."""

    text: str
    truncated: bool = False
    """Whether the prompt was cut to fit the context."""
    defined: bool = True
    """Whether the model's logits were finite at every token; where they were not, there is no text."""


@dataclass(frozen=True, eq=False)
class TokenLogprobs:
    """Log-probabilities of a text's tokens but the first: float32 arrays of shape (tokens − 1,), in nats.

    Where the request has an ``after``, of the tokens from the first in which text and beginning part.
    """

    logprobs: np.ndarray
    mean: np.ndarray | None = None
    """E[log p] over the vocabulary at each position, where it was asked for."""
    std: np.ndarray | None = None
    """Standard deviation of log p over the vocabulary at each position, where it was asked for."""
    truncated: bool = False
    ranks: np.ndarray | None = None
    """How many tokens of the vocabulary are as likely or likelier, int32: 1 is the argmax."""


Answer = Generation | TokenLogprobs | float | str
"""The answer to a ``Generate``, a ``Logprobs``, a ``GradientNorm`` and a ``Truncate``."""

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


@runtime_checkable
class TakesGradients(Protocol):
    """An engine that can take gradients as well."""

    def gradient_norms(self, asks: Sequence[GradientNorm]) -> Batches[float]:
        """Take each text's gradient, yielding norms as they are there; NaN where one is not finite.

        Raises:
            UserError: it takes none of such a model.
        """
