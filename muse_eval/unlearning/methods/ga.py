"""Gradient ascent (Jang et al., arXiv 2210.01504; GA in MUSE, arXiv 2407.06460, section 4.1).

ℓ = E_(x,y)∈Df [ (1/|y|) log π(y|x) ]

The language-model loss with its sign turned: minimising it raises the negative log-likelihood of the
forget text, without bound. It has no parameters. The mean is over rows of the mean over their tokens: on
MUSE's windows, all of one length, that is the mean over tokens, and it does not depend on the micro-batch.
"""

from dataclasses import dataclass

from torch import Tensor

from muse_eval.types import Method, SeqLogps


@dataclass(frozen=True)
class Params:
    """Gradient ascent has none."""


def loss(policy: SeqLogps, _reference: SeqLogps | None, _params: Params) -> Tensor:
    """Return the mean over rows of a token's mean log-probability, in nats: a scalar."""
    return (policy.total / policy.tokens).mean()


METHOD = Method(loss=loss, params=Params)
