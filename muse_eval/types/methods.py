"""What a method of unlearning is: a loss of some form, or what makes weights or logits of two models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


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
