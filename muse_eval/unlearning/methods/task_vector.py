"""Task vector (Ilharco et al., arXiv 2212.04089; MUSE, section 4.1).

θ = θ_target − α (θ_reinforced − θ_target)

The reinforced model is the target fine-tuned further on the forget text (mean negative log-likelihood of
a token, the optimiser and epochs of every method here); what that changed is taken away from the target
instead of added. There is no retain term. Differences are taken in float32: in bfloat16 most of them
would be lost. Default α 1.0, as in MUSE's formula; its Table 4 gives 512.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from muse_eval.types import WeightMethod


@dataclass(frozen=True)
class Params:
    """The task vector's parameters."""

    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """α, how far to go."""


def merge(target: Tensor, reinforced: Tensor, params: Params) -> Tensor:
    """Return a weight of the unlearned model, from those of target and reinforced model of the same shape."""
    start = target.float()
    return (start - params.alpha * (reinforced.float() - start)).to(target.dtype)


METHOD = WeightMethod(merge=merge, params=Params)
