"""Negative preference optimisation (Zhang et al., arXiv 2404.05868, equation 3; MUSE, section 4.1).

ℓ = −(2/β) E log σ(−β log(π(y|x) / π_ref(y|x)))

π is the model being unlearned, π_ref the target before unlearning; both log-probabilities are sums over
the sequence's tokens. β is the inverse temperature: as β → 0 the gradient becomes gradient ascent's
(on sequence sums). Default β 0.1, as MUSE unlearns with.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from muse_eval.types import Method, SeqLogps


@dataclass(frozen=True)
class Params:
    """NPO's parameters."""

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    """β, the inverse temperature."""


def loss(policy: SeqLogps, reference: SeqLogps | None, params: Params) -> Tensor:
    """Return the mean loss of a sequence: a scalar, (2/β) log 2 where policy and reference agree."""
    assert reference is not None, "NPO compares with a reference"
    log_ratio = policy.total.float() - reference.total.float()
    return -(2 / params.beta) * logsigmoid(-params.beta * log_ratio).mean()


METHOD = Method(loss=loss, params=Params, reference=True)
