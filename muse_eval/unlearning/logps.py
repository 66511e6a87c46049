"""Log-probabilities of sequences from a model's logits, in float32 and without a float32 copy of them all."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from muse_eval.types import SeqLogps

IGNORE = -100
"""Label of a position that is no target (padding), as in transformers."""

CHUNK = 1024
"""Positions whose float32 logits exist at a time: 131 MB of a vocabulary of 32,000."""


def targets(labels: Tensor) -> Tensor:
    """Return the token that each position predicts: labels (batch, length) moved one to the left.

    The last position predicts nothing and becomes ``IGNORE``; the first token is never a target.
    """
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)


def _chosen(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return log p of one token a position: logits (positions, vocabulary), chosen (positions,)."""
    logits = logits.float()
    picked = logits.gather(-1, chosen.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (picked - logits.logsumexp(-1)).masked_fill(chosen == IGNORE, 0.0)


def in_chunks(part: Callable[..., Tensor], size: int, *tensors: Tensor | None) -> list[Tensor]:
    """Apply a function to tensors piece by piece, and again in the backward pass.

    What it computes in between is thrown away: else autograd would keep the float32 logits of every piece.

    Args:
        part: takes a piece of each tensor.
        size: rows of a piece.
        tensors: of one first dimension each; None is passed on as it is. The first is none.
    """
    assert tensors[0] is not None
    count = -(-len(tensors[0]) // size)
    pieces = [[None] * count if tensor is None else torch.split(tensor, size) for tensor in tensors]
    return [
        cast(Tensor, checkpoint(part, *piece, use_reentrant=False, preserve_rng_state=False))
        for piece in zip(*pieces, strict=True)
    ]


def sequence_logps(logits: Tensor, labels: Tensor) -> SeqLogps:
    """Sum log p(token | what precedes it) over the tokens of each row that are no padding.

    Args:
        logits: (batch, length, vocabulary), of any float dtype.
        labels: (batch, length) token ids, ``IGNORE`` at padding.

    Returns:
        Sums in nats and token counts, (batch,) each, and log p of each token, (batch, length), in float32;
        a row's do not depend on the others.
    """
    goal = targets(labels)
    each = torch.cat(in_chunks(_chosen, CHUNK, logits.flatten(0, 1), goal.flatten())).view(goal.shape)
    return SeqLogps(total=each.sum(-1), tokens=(goal != IGNORE).sum(-1).float(), each=each)
