"""The reckoning of activations against what autograd keeps, in a forward pass on a CPU."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from muse_eval.unlearning.recipe import configure
from muse_eval.unlearning.training.memory import Means, reckon
from muse_eval.unlearning.training.sizing import sizes_of

TOKENS = 512
SHAPE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
}
EAGER: dict[str, Any] = {"attn_implementation": "eager"}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE)),
    "gemma": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, **EAGER)),
}


def kept_bytes(model: PreTrainedModel, dtype: str, checkpointing: bool) -> int:
    """Return the bytes that a forward pass leaves for the backward pass, weights not counted."""
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    if dtype == "bfloat16":
        for weight in model.parameters():
            weight.data = weight.data.bfloat16()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "mixed", cache_enabled=not checkpointing)
    hooks: Any = torch.autograd.graph.saved_tensors_hooks
    with hooks(pack, lambda tensor: tensor), cast:
        model.base_model(input_ids=torch.arange(TOKENS)[None] % 90, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.few(5)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_the_reckoning_bounds_what_is_kept_and_not_by_far(name: str, dtype: str, checkpointing: bool) -> None:
    model = MODELS[name]()
    # No logits: the base model has no head.
    sizes = replace(sizes_of(model, configure(method="simnpo", model="made here")), vocabulary=0)
    means = Means(dtype, "adamw", checkpointing, TOKENS, TOKENS)
    parts = reckon(sizes, means)
    reckoned = parts["activations"] + parts["casts"]
    kept = kept_bytes(model, dtype, checkpointing)
    assert kept < reckoned
    if not checkpointing:  # else the layer that is computed again is reckoned too
        assert kept > 0.4 * reckoned
