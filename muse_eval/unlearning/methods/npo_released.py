"""NPO as the published code of MUSE computes it, for reproducing its tables (muse_bench, issue 2).

ℓ = −(2/β) mean over rows, positions and vocabulary of log σ(−β (z_v − z_ref,v))

z are raw logits of every vocabulary entry at every position, the true token playing no part: not the
paper's loss (``npo``). Every entry's logit is pushed below the target's alike, which leaves the
probabilities as they are where all fall alike. Default β 0.1.
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

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    """β, the inverse temperature."""


def loss(logits: Tensor, target: Tensor | None, _following: Tensor, params: Params) -> Tensor:
    """Return the loss of each position, averaged over the vocabulary: (positions,)."""
    assert target is not None, "NPO compares with a reference"
    return -(2 / params.beta) * logsigmoid(-params.beta * (logits - target)).mean(-1)


METHOD = LogitMethod(loss=loss, params=Params, teacher=True, everywhere=True)
