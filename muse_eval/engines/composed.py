"""A model made of two that read the same tokens; their next-token logits are combined at every step."""

from collections.abc import Sequence
from typing import Any, cast

from torch import FloatTensor, Tensor, nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from muse_eval.engines.composition import PARTS, Composition


class ComposedConfig(PreTrainedConfig):
    """Both models' configurations and what decides how they are combined: all that tells it from others."""

    model_type = "composed"

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the target's, whose vocabulary and context are the other's too."""
        text: PreTrainedConfig = getattr(self, PARTS[0]).get_text_config(decoder, encoder)
        return text


class JoinedCache(DynamicCache):
    """The models' caches side by side: rows are chosen and repeated in both."""

    def __init__(self, parts: Sequence[DynamicCache]) -> None:
        super().__init__()
        self.parts = parts
        self.layers = [layer for part in parts for layer in part.layers]


class ComposedModel(PreTrainedModel):
    """Two causal language models that answer as one; it can be asked, not trained or saved."""

    def __init__(self, parts: Sequence[PreTrainedModel], composition: Composition) -> None:
        """Take the models in the order in which the composition combines them."""
        known: dict[str, Any] = {name: part.config for name, part in zip(PARTS, parts, strict=True)}
        super().__init__(ComposedConfig(**known | {"composition": composition.identity}))
        self.composition = composition
        self.parts = nn.ModuleList(parts)
        self.generation_config = parts[0].generation_config

    def forward(self, past_key_values: JoinedCache | None = None, **given: Any) -> CausalLMOutputWithPast:
        """Run both models on the same input, each with its own cache, and combine their logits.

        Args:
            past_key_values: a cache of both; without one nothing is kept.
            given: what each model's own forward takes.
        """
        caches = [None] * len(self.parts) if past_key_values is None else past_key_values.parts
        logits = []
        for part, cache in zip(parts_of(self), caches, strict=True):
            here = {name: v.to(part.device) if isinstance(v, Tensor) else v for name, v in given.items()}
            logits.append(part(past_key_values=cache, **here).logits)
        together = cast(FloatTensor, self.mix(logits))
        return CausalLMOutputWithPast(logits=together, past_key_values=past_key_values)

    def mix(self, logits: Sequence[Tensor]) -> Tensor:
        """Combine the models' logits, each (…, vocabulary), in float32 and on the first's device."""
        target, reinforced = (one.to(logits[0].device).float() for one in logits)
        return self.composition.combine(target, reinforced, self.composition.params)


def parts_of(model: PreTrainedModel) -> Sequence[PreTrainedModel]:
    """Return the models that a composed one is made of, in order; any other is its only part."""
    return cast(Sequence[PreTrainedModel], model.parts) if isinstance(model, ComposedModel) else [model]


def mixed(model: PreTrainedModel, logits: Sequence[Tensor]) -> Tensor:
    """Return a model's logits from those of its parts."""
    return model.mix(logits) if isinstance(model, ComposedModel) else logits[0]
