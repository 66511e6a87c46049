"""SimNPO as its published code computes it, for reproducing its tables (Unlearn-Simple, issue 5).

ℓ = −(2/β) mean over rows, positions and vocabulary of log σ(−β (z_v + γ))

z are raw logits of every vocabulary entry at every position: no labels, no length, not the paper's loss
(``simnpo``). It falls without end when all logits fall alike, which leaves the probabilities as they are.
γ stands inside β there. Defaults β 0.7, γ 0.0, those of ``simnpo``.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from muse_eval.types import LogitMethod


@dataclass(frozen=True)
class Params:
    """Its parameters."""

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.7
    """β, the inverse temperature."""
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """γ, the reward margin."""


def loss(logits: Tensor, _target: Tensor | None, _following: Tensor, params: Params) -> Tensor:
    """Return the loss of each position, averaged over the vocabulary: (positions,)."""
    return -(2 / params.beta) * logsigmoid(-params.beta * (logits + params.gamma)).mean(-1)


METHOD = LogitMethod(loss=loss, params=Params, everywhere=True)
