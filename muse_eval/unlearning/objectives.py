"""The forget and retain loss of one micro-batch, for each form that a method can have."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any, cast

import torch
from torch import Tensor, nn

from muse_eval.types import (
    ActivationMethod,
    AnyMethod,
    LogitMethod,
    LogitMixture,
    Method,
    PreferenceMethod,
    SeqLogps,
    WeightMethod,
)
from muse_eval.unlearning import heads, retain, rows
from muse_eval.unlearning.logps import IGNORE, each_logp, sequence_logps, targets

CHUNK = 512
"""Positions whose float32 distributions exist at a time."""


@dataclass(frozen=True)
class Step:
    """What a loss can draw on in one micro-batch."""

    model: nn.Module
    """The model being unlearned."""
    target: Callable[[], AbstractContextManager[nn.Module]]
    """Lends the target as it was before unlearning; no gradient is taken within."""
    batch: dict[str, Any]
    """As ``rows.collate`` makes it."""
    params: Any
    """The method's own parameters."""
    seed: int


def logps(model: nn.Module, batch: rows.Batch) -> SeqLogps:
    """Run the model on a padded batch: log-probabilities of its sequences."""
    labels = batch["labels"]
    each = heads.read(model, batch, partial(each_logp, labels=labels))
    return sequence_logps(each, labels)


def said_by_target(step: Step, batch: rows.Batch) -> heads.Said:
    """Run the target as it was before unlearning on a padded batch, without a gradient."""
    with step.target() as target, torch.no_grad():
        return cast(heads.Said, heads.read(target, batch, lambda said: said))


def activations(model: nn.Module, batch: rows.Batch, method: ActivationMethod, params: Any) -> Tensor:
    """Run the model on a padded batch: the output of the method's layer, (batch, length, hidden)."""
    result = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        use_cache=False,
        output_hidden_states=True,
        logits_to_keep=1,
    ).hidden_states
    # The first of them is the embedding.
    return cast(Tensor, result[method.layer(len(result) - 1, params) + 1])


def uses_retain(method: AnyMethod, term: str | None) -> bool:
    """Say whether retain text is looked at."""
    return term is not None or isinstance(method, ActivationMethod)


def uses_target(method: AnyMethod, term: str | None) -> bool:
    """Say whether the target is run beside the model being unlearned."""
    teacher = isinstance(method, LogitMethod) and method.teacher
    return term == "kl" or teacher or isinstance(method, ActivationMethod)


# ── forget losses ────────────────────────────────────────────────────────────────────────────────
@singledispatch
def forget_loss(method: AnyMethod, step: Step) -> Tensor:  # noqa: ARG001
    """Return a micro-batch's mean forget loss: a scalar."""
    raise AssertionError(f"no such form: {method}")


@forget_loss.register
def _(method: Method, step: Step) -> Tensor:
    policy = logps(step.model, step.batch["forget"])
    reference = None
    if method.reference:
        reference = SeqLogps(step.batch["reference"]["forget"], policy.tokens)
    return method.loss(policy, reference, step.params)


@forget_loss.register
def _(method: PreferenceMethod, step: Step) -> Tensor:
    forget, refusal = (logps(step.model, step.batch[name]) for name in ("forget", "refusal"))
    sums = step.batch["reference"]
    references = SeqLogps(sums["forget"], forget.tokens), SeqLogps(sums["refusal"], refusal.tokens)
    return method.loss(forget, references[0], refusal, references[1], step.params)


@forget_loss.register
def _(method: LogitMethod, step: Step) -> Tensor:
    batch = step.batch["forget"]
    theirs = said_by_target(step, batch) if method.teacher else None
    goal = targets(batch["labels"])
    counts = batch["attention_mask"].bool() if method.everywhere else goal != IGNORE
    weights = counts / counts.sum(-1, keepdim=True) / len(counts)

    def part(ours: Tensor, theirs: Tensor | None, goal: Tensor, weights: Tensor) -> Tensor:
        losses = method.loss(ours.float(), None if theirs is None else theirs.float(), goal, step.params)
        return (losses * weights).sum()

    def loss(ours: heads.Said) -> Tensor:
        parts = heads.in_chunks(part, CHUNK, ours, theirs, goal.flatten(), weights.flatten())
        return torch.stack(parts).sum()

    return cast(Tensor, heads.read(step.model, batch, loss))


@forget_loss.register
def _(method: ActivationMethod, step: Step) -> Tensor:
    batch = step.batch["forget"]
    found = activations(step.model, batch, method, step.params)
    goal = method.goal(found.shape[-1], step.seed, step.params).to(found)
    return method.forget(found, batch["attention_mask"], goal, step.params)


@forget_loss.register(WeightMethod)
@forget_loss.register(LogitMixture)
def _(_method: WeightMethod | LogitMixture, step: Step) -> Tensor:
    """Fine-tune: these methods set a model that is reinforced on the forget text against the target."""
    return retain.nll(logps(step.model, step.batch["forget"]))


# ── retain losses ────────────────────────────────────────────────────────────────────────────────
def retain_loss(method: AnyMethod, term: str | None, step: Step) -> Tensor:
    """Return a micro-batch's mean retain loss, as yet without λ: a scalar."""
    batch = step.batch["retain"]
    if isinstance(method, ActivationMethod):
        ours = activations(step.model, batch, method, step.params)
        with step.target() as target, torch.no_grad():
            theirs = activations(target, batch, method, step.params)
        return method.retain(ours, theirs, batch["attention_mask"], step.params)
    if term == "nll":
        return retain.nll(logps(step.model, batch))
    said, predicts = said_by_target(step, batch), targets(batch["labels"]) != IGNORE
    return cast(Tensor, heads.read(step.model, batch, lambda ours: retain.kl(ours, said, predicts)))
