"""Low-rank adapters (LoRA, arXiv 2106.09685) through peft: put on, taken off for a look, merged."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from muse_eval.errors import UserError, unknown_name
from muse_eval.unlearning.recipe import LoraSpec
from muse_eval.unlearning.training import output

if TYPE_CHECKING:
    from peft import PeftModel


def has_adapters(model: nn.Module) -> bool:
    """Tell whether a model, wrapped for several processes or not, carries adapters."""
    return hasattr(extract_model_from_parallel(model), "peft_config")


def check_installed() -> None:
    """Raise ``UserError`` where peft is missing."""
    if find_spec("peft") is None:
        raise UserError("--lora needs the package peft; in the checkout, pip install '.[lora]'")


def put_on(model: PreTrainedModel, spec: LoraSpec, seed: int) -> "PeftModel":
    """Freeze a model and add adapters; they start as no change at all (B = 0), A drawn with the seed.

    Raises:
        UserError: a target is no linear layer of the model's, or is its head.
    """
    from peft import LoraConfig, get_peft_model

    targets: str | list[str] = spec.targets
    if spec.targets != "all-linear":
        targets = spec.targets.split("+")
        check_targets(model, targets)
    config = LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # An adapter model is no PreTrainedModel, but stands in for one wherever the Trainer asks.
        return cast("PeftModel", get_peft_model(model, config))


def check_targets(model: PreTrainedModel, targets: list[str]) -> None:
    """Raise ``UserError`` where a target names no linear layer; the head, often tied, counts as none."""
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    for target in targets:
        if target not in linear:
            raise UserError(
                f"--lora targets={'+'.join(targets)}: {unknown_name('linear layer', target, linear)}"
            )


def frozen_copy(model: nn.Module) -> nn.Module | None:
    """Return a copy of the model as it is now, never to be trained; None where adapters make it needless."""
    if has_adapters(model):
        return None
    return copy.deepcopy(model).eval().requires_grad_(False)


@contextmanager
def frozen_view(model: nn.Module, frozen: nn.Module | None = None) -> Iterator[nn.Module]:
    """Yield the model as it was before training: its frozen copy, or else itself with its adapters off.

    Call it without gradients, and only within the block.
    """
    if frozen is not None:
        yield frozen
        return
    inner = cast("PeftModel", extract_model_from_parallel(model))
    training = inner.training
    with inner.disable_adapter():
        inner.eval()
        try:
            yield inner
        finally:
            inner.train(training)


def merged_state(model: "PeftModel") -> dict[str, Tensor]:
    """Return the base model's weights with the adapters' update added, under their own names.

    The model stays as it is: taking a merged update off again would not give back the same bits.
    """
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model()
    state = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in base.state_dict().items()
        if ".lora_" not in name
    }
    with torch.no_grad():
        for name, layer in base.named_modules():
            if isinstance(layer, LoraLayer):
                weight = cast(Tensor, layer.get_base_layer().weight)
                update: Tensor = cast(Any, layer).get_delta_weight(layer.active_adapters[0])
                # On the CPU, so that no second model stands on the device.
                state[f"{name}.weight"] = (weight + update.to(weight.dtype)).cpu()
    return state


def save_merged(model: nn.Module, folder: Path) -> None:
    """Write the model with its adapters merged as an ordinary checkpoint, without its tokenizer."""
    inner = cast("PeftModel", extract_model_from_parallel(model))
    cast(PreTrainedModel, inner.get_base_model()).save_pretrained(folder, state_dict=merged_state(inner))


class MergeOnSave(TrainerCallback):
    """Writes the merged model beside the adapters of each checkpoint that is kept; see ``output.shed``.

    It is added before the callback that marks a checkpoint as complete.
    """

    def __init__(self, model: nn.Module, folder: Path):
        self.model, self.folder = model, folder

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Merge what was just saved."""
        if args.should_save:
            save_merged(self.model, output.checkpoint(self.folder, state.global_step) / output.MERGED)
