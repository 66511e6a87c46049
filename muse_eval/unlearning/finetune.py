"""Fine-tuning, which makes target and retrain model from a base model (MUSE, section 3 and appendix B).

ℓ = E_(x,y) [ −(1/|y|) log π(y|x) ]

It is no unlearning method and stands in no list of them; it has their form, so that one trainer serves both.
"""

from dataclasses import dataclass

from torch import Tensor

from muse_eval.types import Method, SeqLogps
from muse_eval.unlearning import retain


@dataclass(frozen=True)
class Params:
    """Fine-tuning has none."""


def loss(policy: SeqLogps, _reference: SeqLogps | None, _params: Params) -> Tensor:
    """Return the mean over rows of a token's mean negative log-likelihood, in nats: a scalar."""
    return retain.nll(policy)


METHOD = Method(loss=loss, params=Params)
