"""UNDIAL, self-distillation from adjusted logits (Dong et al., arXiv 2402.10052).

ℓ = E_(x,y)∈Df [ −(1/|y|) Σ_i Σ_v q_i(v) log π(v|x, y_<i) ],  q_i = softmax(z_i − β · onehot(y_i))

z are the logits of the target before unlearning. The model learns the target's own distribution with the
true token's logit lowered by β, so the loss has a minimum and does not run away. Default β 10, that of
open-unlearning; the authors' code gives 3.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from muse_eval.types import LogitMethod


@dataclass(frozen=True)
class Params:
    """UNDIAL's parameters."""

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    """β, by how much the true token's logit is lowered."""


def loss(logits: Tensor, target: Tensor | None, following: Tensor, params: Params) -> Tensor:
    """Return the cross entropy of each position, in nats: (positions,)."""
    assert target is not None, "UNDIAL distils from the target"
    true = following.clamp(min=0).unsqueeze(-1)
    wanted = target.scatter_add(-1, true, target.new_full(true.shape, -params.beta)).softmax(-1)
    return -(wanted * logits.log_softmax(-1)).sum(-1)


METHOD = LogitMethod(loss=loss, params=Params, teacher=True)
