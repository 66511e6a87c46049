"""One-token attention against transformers' own function, and the swap that is undone."""

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from muse_eval.engines.hf.attention import attend, fast_steps


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("new", [1, 3])
def test_equal_to_the_stock_function(key_heads: int, masked: bool, scaling: float | None, new: int) -> None:
    made = torch.Generator().manual_seed(0)
    query = torch.randn(3, 4, new, 8, generator=made)
    key = torch.randn(3, key_heads, 7, 8, generator=made)
    value = torch.randn(3, key_heads, 7, 5, generator=made)
    mask = None
    if masked:
        mask = torch.ones(3, 1, new, 7, dtype=torch.bool)
        mask[0, :, :, :4] = False
        mask[2, :, :, :1] = False
    layer = nn.Module()
    layer.num_key_value_groups = 4 // key_heads  # type: ignore[assignment]
    stock, _ = sdpa_attention_forward(layer, query, key, value, mask, scaling=scaling, is_causal=False)
    found, _ = attend(layer, query, key, value, mask, scaling=scaling, is_causal=False)
    assert found.shape == stock.shape == (3, new, 4, 5)
    assert torch.allclose(found, stock, atol=1e-6)


def test_the_swap_is_undone_whatever_happens() -> None:
    with fast_steps():
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is attend
        with fast_steps():
            assert ALL_ATTENTION_FUNCTIONS["sdpa"] is attend
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is attend
    with pytest.raises(KeyError), fast_steps():
        raise KeyError
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward
