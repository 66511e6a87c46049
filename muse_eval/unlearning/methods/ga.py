"""Gradient ascent (Jang et al., arXiv 2210.01504; GA in MUSE, arXiv 2407.06460, section 4.1).

ℓ = mean over the batch's tokens of log π(y_t | x, y_<t)

The language-model loss with its sign turned: minimising it raises the negative log-likelihood of the
forget text, without bound. It has no parameters. The mean is over tokens, as in that loss.
"""

from dataclasses import dataclass

from torch import Tensor

from muse_eval.types import Method, SeqLogps


@dataclass(frozen=True)
class Params:
    """Gradient ascent has none."""


def loss(policy: SeqLogps, _reference: SeqLogps | None, _params: Params) -> Tensor:
    """Return the mean log-probability of a token, in nats: a scalar."""
    return policy.total.sum() / policy.tokens.sum()


METHOD = Method(loss=loss, params=Params)
