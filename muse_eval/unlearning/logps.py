"""Log-probabilities of sequences from a model's logits, in float32 and without a float32 copy of them all."""

import torch
from torch import Tensor

from muse_eval.types import SeqLogps
from muse_eval.unlearning.heads import Said, in_chunks

IGNORE = -100
"""Label of a position that is no target (padding), as in transformers."""

CHUNK = 1024
"""Positions whose float32 logits exist at a time: 131 MB of a vocabulary of 32,000."""


def targets(labels: Tensor) -> Tensor:
    """Return the token that each position predicts: labels (batch, length) moved one to the left.

    The last position predicts nothing and becomes ``IGNORE``; the first token is never a target.
    """
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)


def _chosen(logits: Tensor, _: None, chosen: Tensor) -> Tensor:
    """Return log p of one token a position: logits (positions, vocabulary), chosen (positions,)."""
    logits = logits.float()
    picked = logits.gather(-1, chosen.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (picked - logits.logsumexp(-1)).masked_fill(chosen == IGNORE, 0.0)


def each_logp(said: Said, labels: Tensor) -> Tensor:
    """Return log p(token | what precedes it) of each token, 0 at positions that predict none.

    Args:
        said: what a model says, of any float dtype.
        labels: (batch, length) token ids, ``IGNORE`` at padding.

    Returns:
        (batch, length) float32, in nats.
    """
    goal = targets(labels)
    return torch.cat(in_chunks(_chosen, CHUNK, said, None, goal.flatten())).view(goal.shape)


def sequence_logps(each: Tensor, labels: Tensor) -> SeqLogps:
    """Sum ``each_logp`` over the tokens of each row that are no padding; a row's sum is its own."""
    tokens = (targets(labels) != IGNORE).sum(-1).float()
    return SeqLogps(total=each.sum(-1), tokens=tokens, each=each)
