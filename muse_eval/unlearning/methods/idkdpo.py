"""IdkDPO: prefer "I do not know" to the forget text (DPO, Rafailov et al., arXiv 2305.18290, equation 7).

ℓ = −(2/β) E_(x,y)∈Df log σ( β log π(y_w|x)/π_ref(y_w|x) − β log π(y|x)/π_ref(y|x) )

y_w is a refusal, π_ref the target before unlearning; log-probabilities are sums over tokens. TOFU (arXiv
2401.06121) prefers refusals to answers; MUSE's forget text has no questions, so here x is the first part
of a row and y the rest of it, which is our choice. Factor 2/β as in NPO, whose loss this is with the
refusal's half left out (arXiv 2404.05868, section 3). Default β 0.1.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from muse_eval.types import PreferenceMethod, SeqLogps

REFUSALS = (
    " I do not know how this goes on.",
    " I cannot tell what comes next.",
    " That is something I have never read.",
    " I have no knowledge of this text.",
    " I am not able to continue this.",
    " What follows here is unknown to me.",
    " I was not told about this.",
    " I am sorry, I do not know.",
)


@dataclass(frozen=True)
class Params:
    """IdkDPO's parameters."""

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    """β, the inverse temperature."""
    prompt: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of a row's tokens that is x."""


def loss(
    forget: SeqLogps,
    forget_reference: SeqLogps,
    refusal: SeqLogps,
    refusal_reference: SeqLogps,
    params: Params,
) -> Tensor:
    """Return the mean loss of a pair: a scalar, (2/β) log 2 where policy and reference agree."""
    gained = refusal.total.float() - refusal_reference.total.float()
    kept = forget.total.float() - forget_reference.total.float()
    return -(2 / params.beta) * logsigmoid(params.beta * (gained - kept)).mean()


METHOD = PreferenceMethod(loss=loss, params=Params, refusals=REFUSALS)
