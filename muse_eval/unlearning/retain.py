"""Retain terms: what keeps the model useful while it forgets (MUSE, section 4.1).

``nll`` is MUSE's GDR, gradient descent on the retain set; ``kl`` its KLR, closeness to the target before
unlearning. Both are means over rows of the mean over their tokens, in nats, and enter the loss times λ.
"""

import torch
from torch import Tensor

from muse_eval.types import SeqLogps
from muse_eval.unlearning.heads import Said, in_chunks

CHUNK = 512
"""Positions whose pair of float32 distributions exists at a time."""


def nll(policy: SeqLogps) -> Tensor:
    """Return the mean over rows of a token's mean negative log-likelihood: a scalar."""
    return -(policy.total / policy.tokens).mean()


def _divergence(policy: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return KL(target ‖ policy) summed over weighted positions, from logits (positions, vocabulary)."""
    log_p, log_q = target.float().log_softmax(-1), policy.float().log_softmax(-1)
    return (weights * (log_p.exp() * (log_p - log_q)).sum(-1)).sum()


def kl(policy: Said, target: Said, predicts: Tensor) -> Tensor:
    """Return the mean over rows of a token's mean KL(π_target ‖ π): a scalar, 0 where they agree.

    It is taken between log-probabilities (softmax over the vocabulary), so it is never negative.

    Args:
        policy: what the model being unlearned says.
        target: what the target before unlearning says.
        predicts: (batch, length) bool, the positions that predict a token.
    """
    weights = predicts / predicts.sum(-1, keepdim=True) / len(predicts)
    return torch.stack(in_chunks(_divergence, CHUNK, policy, target, weights.flatten())).sum()
