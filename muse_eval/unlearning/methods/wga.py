"""Weighted gradient ascent (Wang et al., arXiv 2502.19301).

ℓ = E_(x,y)∈Df [ (1/|y|) Σ_i w_i log π(y_i|x, y_<i) ],  w_i = π(y_i|x, y_<i)^α

Gradient ascent whose pull on a token fades as the token becomes unlikely, so that it does not run away;
the weights are constants, no gradient passes through them. α = 0 is gradient ascent, α = 1 takes away the
1/π of its gradient. Default α 1.0, open-unlearning's.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from muse_eval.types import Method, SeqLogps


@dataclass(frozen=True)
class Params:
    """WGA's parameters."""

    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """α, how fast the pull fades."""


def loss(policy: SeqLogps, _reference: SeqLogps | None, params: Params) -> Tensor:
    """Return the mean over rows of a token's mean weighted log-probability, in nats: a scalar."""
    assert policy.each is not None, "WGA weighs each token"
    weights = (params.alpha * policy.each.detach()).exp()
    return ((weights * policy.each).sum(-1) / policy.tokens).mean()


METHOD = Method(loss=loss, params=Params)
