"""SatImp: gradient ascent weighted by saturation and importance (Yang et al., arXiv 2505.11953).

ℓ = E_(x,y)∈Df [ (1/|y|) Σ_i w_i log p_i ],  w_i = p_i^β₁ (1 − p_i)^β₂,  p_i = π(y_i|x, y_<i)

p^β₁ turns to what is still remembered, (1 − p)^β₂ away from what is certain in any text; the weights are
constants, no gradient passes through them. β₂ = 0 is WGA. Defaults β₁ 5.0 and β₂ 1.0, the authors'; they
weigh the retain term by 0.1 (λ).
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from muse_eval.types import Method, SeqLogps


@dataclass(frozen=True)
class Params:
    """SatImp's parameters."""

    beta1: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    """β₁, the weight of saturation."""
    beta2: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """β₂, the weight of importance."""


def loss(policy: SeqLogps, _reference: SeqLogps | None, params: Params) -> Tensor:
    """Return the mean over rows of a token's mean weighted log-probability, in nats: a scalar."""
    assert policy.each is not None, "SatImp weighs each token"
    known = policy.each.detach()
    weights = (params.beta1 * known).exp() * (-known.expm1()) ** params.beta2
    return ((weights * policy.each).sum(-1) / policy.tokens).mean()


METHOD = Method(loss=loss, params=Params)
