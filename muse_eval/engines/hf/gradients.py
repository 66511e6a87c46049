"""Norms of a text's gradient, one text at a time."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from muse_eval.engines.composed import parts_of
from muse_eval.errors import UserError


@contextmanager
def weights_of(model: PreTrainedModel, name: str) -> Iterator[list[nn.Parameter]]:
    """Yield a model's weights, ready to take gradients; they are left as they were.

    Raises:
        UserError: the model is composed of two, or its weights are quantized.
    """
    if len(parts_of(model)) > 1:
        raise UserError(f"{name} combines two models, and gradnorm takes the gradient of one; leave it out")
    weights = list(model.parameters())
    if not all(one.is_floating_point() for one in weights):
        raise UserError(f"the weights of {name} are quantized, and gradnorm needs plain ones; leave it out")
    wanted = [one.requires_grad for one in weights]
    for one in weights:
        one.requires_grad_(True)
    try:
        yield weights
    finally:
        for one, was in zip(weights, wanted, strict=True):
            one.requires_grad_(was)


@torch.enable_grad()
def gradient_norm(model: PreTrainedModel, weights: Sequence[nn.Parameter], text: list[int]) -> float:
    """Return ‖∇ℓ‖₂ over the weights, ℓ being the mean of −log p of a text's tokens but the first, in nats.

    NaN where it is not finite.
    """
    ids = torch.tensor([text], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    loss = nn.functional.cross_entropy(logits, ids[0, 1:].to(logits.device))
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    norms = [float(torch.linalg.vector_norm(one.float())) for one in found if one is not None]
    norm = math.hypot(*norms)
    return norm if math.isfinite(norm) else math.nan
