"""Attention of one new token per row: faster on a CPU than torch's kernel, and its mask made unseen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


@contextmanager
def fast_steps() -> Iterator[None]:
    """Let models whose attention is transformers' own "sdpa" use ``attend`` and ``step_mask`` within."""
    with (
        _swapped(ALL_ATTENTION_FUNCTIONS, sdpa_attention_forward, attend),
        _swapped(ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask, step_mask),
    ):
        yield


@contextmanager
def _swapped(functions: Any, stock: Callable[..., Any], own: Callable[..., Any]) -> Iterator[None]:
    if functions["sdpa"] is not stock:
        yield
        return
    functions["sdpa"] = own
    try:
        yield
    finally:
        functions["sdpa"] = stock


def step_mask(
    attention_mask: Tensor | None = None, allow_is_causal_skip: bool = True, **kwargs: Any
) -> Tensor | None:
    """Return the mask that transformers makes for a step, without a look into the padding.

    Where there is a padding mask, transformers looks whether it hides nothing, for which the host waits for
    the device. Who calls gives one only where some row is padded.

    Args:
        attention_mask: (batch, seen), true where there is a token; none: everywhere.
        allow_is_causal_skip: whether no mask may be made where all would be true.
        kwargs: all else that transformers' function takes; it is called by name.
    """
    skip = allow_is_causal_skip and attention_mask is None
    made: Tensor | None = sdpa_mask(attention_mask=attention_mask, allow_is_causal_skip=skip, **kwargs)
    return made


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend by two plain products where that is exact and faster, else by transformers' own function.

    Args:
        module: the attention layer.
        query: (batch, heads, new, dim).
        key: (batch, key heads, seen, dim); each serves as many heads in a row.
        value: (batch, key heads, seen, value dim).
        attention_mask: (batch, 1, new, seen), true where a query may look; none: everywhere.
        dropout: of the weights.
        scaling: of the scores.
        kwargs: more for transformers' function.
    """
    batch, heads, new, dim = query.shape
    plain = new == 1 and query.device.type == "cpu" and query.dtype == torch.float32
    simple = attention_mask is None or (attention_mask.dtype == torch.bool and attention_mask.shape[1] == 1)
    if not (plain and simple) or dropout or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    scaled = query * (dim**-0.5 if scaling is None else scaling)
    # Heads that share keys are rows of one product, so that the keys are read once and not repeated.
    scores = scaled.reshape(batch, key.shape[1], -1, dim) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores += torch.where(attention_mask, 0.0, -torch.inf)
    return (scores.softmax(-1) @ value).reshape(batch, 1, heads, value.shape[-1]), None
