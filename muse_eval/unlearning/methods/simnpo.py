"""SimNPO (Fan et al., arXiv 2410.07163), exactly as on the published MUSE-Books model card.

ℓ = −(2/β) E log σ(−(β/|y|) log π(y|x) − γ)

The log-probability is divided by the number of tokens |y|, and there is no reference model: nothing but
the model being unlearned is run. β is the inverse temperature, γ a reward margin that stands outside β
(open-unlearning's δ is inside: β(nll/|y| − δ), so γ = βδ). Defaults β 0.7, γ 0.0: the card of
OPTML-Group/SimNPO-MUSE-Books-iclm-7b, which also gives lr 1e-5 and λ 1.0.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from muse_eval.types import Method, SeqLogps


@dataclass(frozen=True)
class Params:
    """SimNPO's parameters."""

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.7
    """β, the inverse temperature."""
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """γ, the reward margin."""


def loss(policy: SeqLogps, _reference: SeqLogps | None, params: Params) -> Tensor:
    """Return the mean loss of a sequence: a scalar."""
    per_token = policy.total.float() / policy.tokens
    return -(2 / params.beta) * logsigmoid(-params.beta * per_token - params.gamma).mean()


METHOD = Method(loss=loss, params=Params)
