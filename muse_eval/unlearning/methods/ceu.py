"""CE-U, cross entropy unlearning (Yang, arXiv 2503.01224).

ℓ = E_(x,y)∈Df [ −(1/|y|) Σ_i Σ_v q_i(v) log π(v|x, y_<i) ],  q_i = softmax(z_i − ∞ · onehot(y_i))

z are the model's own logits: it learns its own next-token distribution without the true token. q is a
constant, no gradient passes through it; there is no reference and nothing to set. The gradient of y_i's
logit is π(y_i), so it is bounded and vanishes where y_i is unlikely already.
"""

from dataclasses import dataclass

from torch import Tensor

from muse_eval.types import LogitMethod


@dataclass(frozen=True)
class Params:
    """CE-U has none."""


def loss(logits: Tensor, _target: Tensor | None, following: Tensor, _params: Params) -> Tensor:
    """Return the cross entropy of each position, in nats: (positions,)."""
    true = following.clamp(min=0).unsqueeze(-1)
    wanted = logits.detach().scatter(-1, true, float("-inf")).softmax(-1)
    return -(wanted * logits.log_softmax(-1)).sum(-1)


METHOD = LogitMethod(loss=loss, params=Params)
