"""RMU, representation misdirection for unlearning (Li et al., arXiv 2403.03218, section 4).

ℓ = E_Df [ ‖h(x) − c·u‖² ] + α E_Dr [ ‖h(x) − h_target(x)‖² ]

h are the activations of one layer at each token, u a random unit vector drawn once, c how long it is
made; the squares are averaged over dimensions, tokens and rows. Forget text is driven to nonsense inside
the model, retain text stays where it was. Only the MLP's output matrices of that layer and the two before
it are trained. RMU has this retain loss of its own, weighted by α, and takes no other. Defaults: c 6.5,
α 1200 and layer 7 of 32, the authors' for Zephyr-7B.
"""

import re
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from muse_eval.types import ActivationMethod

OUTPUT = re.compile(r"\.(\d+)\.(?:mlp\.)?(?:down_proj|c_proj|fc2|dense_4h_to_h)\.weight$")
"""The MLP's output matrix of a layer, as the families of models call it."""
LAYERS = 3
"""Layers that are trained, up to the one whose activations are steered."""


@dataclass(frozen=True)
class Params:
    """RMU's parameters."""

    layer: Annotated[int, Field(ge=0)] | None = None
    """The layer whose output is steered, from 0; None: 7/32 of the way up, as in Zephyr-7B."""
    c: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 6.5
    """c, the length of what forget activations are driven to."""
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1200.0
    """α, the weight of the retain loss."""


def layer(layers: int, params: Params) -> int:
    """Return which of a model's layers is steered, from 0."""
    return layers * 7 // 32 if params.layer is None else params.layer


def goal(hidden: int, seed: int, params: Params) -> Tensor:
    """Return c·u: u uniform in the positive orthant, of length 1, the same for a seed; (hidden,)."""
    drawn = torch.rand(hidden, generator=torch.Generator().manual_seed(seed))
    steered: Tensor = params.c * drawn / drawn.norm()
    return steered


def distance(activations: Tensor, where: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared distance of a dimension, of two (batch, length, hidden): a scalar."""
    squares = (activations.float() - where.float()).square().mean(-1) * mask
    return (squares.sum(-1) / mask.sum(-1)).mean()


def forget(activations: Tensor, mask: Tensor, steered: Tensor, _params: Params) -> Tensor:
    """Return how far forget activations (batch, length, hidden) are from c·u (hidden,): a scalar."""
    return distance(activations, steered.expand_as(activations), mask)


def retain(activations: Tensor, target: Tensor, mask: Tensor, params: Params) -> Tensor:
    """Return α times how far retain activations are from the target's: a scalar."""
    return params.alpha * distance(activations, target, mask)


def trains(weight: str, steered: int) -> bool:
    """Say whether a weight is the MLP's output matrix of the layer or one of the two before it."""
    found = OUTPUT.search(weight)
    return found is not None and steered - LAYERS < int(found[1]) <= steered


METHOD = ActivationMethod(forget=forget, retain=retain, layer=layer, goal=goal, trains=trains, params=Params)
