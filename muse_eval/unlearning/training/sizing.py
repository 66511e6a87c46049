"""The sizes of a target, read off its configuration before any of its weights is."""

from contextlib import suppress
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from muse_eval import plugins
from muse_eval.engines.loading import has_soft_caps
from muse_eval.types import ActivationMethod, LogitMethod, PreferenceMethod
from muse_eval.unlearning.objectives import uses_retain, uses_target
from muse_eval.unlearning.recipe import LoraSpec, UnlearnConfig
from muse_eval.unlearning.training.memory import Sizes
from muse_eval.unlearning.training.start import Start, trained_weights

NAMED = ("hidden_size", "num_hidden_layers", "vocab_size")
"""What a configuration has to tell."""


def skeleton(start: Start, config: UnlearnConfig) -> PreTrainedModel | None:
    """Return a model with the target's shapes, without numbers unless it is loaded already.

    None where its shapes cannot be told: its configuration calls them otherwise, or it is quantized, so that
    it takes less than they say.
    """
    made: Any = start.model
    if made is None:
        # A model's own code, or a configuration that loading refuses, may raise anything: loading says what.
        with suppress(Exception), torch.device("meta"):
            whole = start.configuration(config.trust_remote_code)
            made = AutoModelForCausalLM.from_config(whole, trust_remote_code=config.trust_remote_code)
    if made is None or getattr(made.config, "quantization_config", None) is not None:
        return None
    known = made.config.get_text_config()
    return cast(PreTrainedModel, made) if all(hasattr(known, name) for name in NAMED) else None


def sizes_of(model: PreTrainedModel, config: UnlearnConfig) -> Sizes:
    """Return what of a model, on whatever device, decides the memory of a training.

    Raises:
        UserError: the method trains none of its weights.
    """
    _, method, term = plugins.method(config.method)
    counts = {name: weight.numel() for name, weight in model.named_parameters()}
    table = model.get_input_embeddings().weight
    embedding = cast(torch.Tensor, table).numel()
    trained = sum(counts.values())
    if config.lora:
        trained, embedding = _adapters(model, config.lora), 0
    elif isinstance(method, ActivationMethod):
        trained, embedding = sum(counts[name] for name in trained_weights(config, model, method)), 0
    known = model.config.get_text_config()
    return Sizes(
        weights=sum(counts.values()),
        trained=trained,
        embedding=embedding,
        hidden=known.hidden_size,
        inner=max((max(shape) for shape in _linear(model).values()), default=known.hidden_size),
        layers=known.num_hidden_layers,
        vocabulary=0 if isinstance(method, ActivationMethod) else known.vocab_size,
        scores=known.num_attention_heads if has_soft_caps(known) else 0,
        adapters=config.lora is not None,
        frozen=not config.lora and uses_target(method, term),
        reads="all" if term == "kl" or isinstance(method, LogitMethod) else "chosen",
        item=None if table.device.type == "meta" else cast(torch.Tensor, table).itemsize,
        rows=1 + uses_retain(method, term) + isinstance(method, PreferenceMethod),
    )


def _linear(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of every linear layer's weight but the head's; GPT-2 calls its own ``Conv1D``."""
    head = model.get_output_embeddings()
    return {
        name: tuple(cast(torch.Tensor, module.weight).shape)
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D") and module is not head
    }


def _adapters(model: PreTrainedModel, spec: LoraSpec) -> int:
    """Return the weights of the adapters: r rows and r columns for each layer that has one."""
    named = None if spec.targets == "all-linear" else spec.targets.split("+")
    shapes = (
        shape
        for name, shape in _linear(model).items()
        if named is None or any(f".{name}".endswith(f".{one}") for one in named)
    )
    return sum(spec.r * sum(shape) for shape in shapes)
