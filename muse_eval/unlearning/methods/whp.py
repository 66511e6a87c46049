"""Who's Harry Potter (Eldan & Russinovich, arXiv 2310.02238, equation 1; WHP in MUSE, section 4.1).

v = v_target − α ReLU(v_reinforced − v_target)

v are next-token logits; the reinforced model is the target trained further on the forget text. What the
reinforced model finds likelier than the target does is taken down, everything else is left. α is the
strength: at 0 it is the target. Default α 1.0, as in MUSE's released code, which combines logits so, too.

MUSE's text states p = p_target − α (p_reinforced − p_target) on probabilities instead. That falls below 0
wherever p_reinforced > (1 + 1/α) p_target, which can be forget text, all the more at the 4 and 256 of MUSE's
Table 4: cut at 0, its log-probability would be −∞, and PrivLeak's means with it. So this is the equation of
the method's own paper, and of MUSE's released code.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from muse_eval.types import LogitMixture


@dataclass(frozen=True)
class Params:
    """WHP's parameters."""

    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """α, how far down what the reinforced model prefers goes."""


def combine(target: Tensor, reinforced: Tensor, params: Params) -> Tensor:
    """Return the logits of the unlearned model: (…, vocabulary), as both of the others are."""
    return target - params.alpha * (reinforced - target).relu()


METHOD = LogitMixture(combine=combine, params=Params)
