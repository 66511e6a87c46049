"""What becomes of trained weights once they are saved: mostly nothing, with some methods another model."""

from collections.abc import Callable
from functools import singledispatch
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, PreTrainedModel

from muse_eval.types import AnyMethod, WeightMethod


@singledispatch
def assemble(_method: AnyMethod, _params: Any, _folder: Path, _target: Callable[[], PreTrainedModel]) -> None:
    """Turn the trained model that was saved in ``folder`` into the unlearned one, in place.

    Args:
        method: whose model it is.
        params: the method's parameters.
        folder: a saved model.
        target: loads the target as it was before unlearning, on the CPU.
    """


@assemble.register
def _(method: WeightMethod, params: Any, folder: Path, target: Callable[[], PreTrainedModel]) -> None:
    trained = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    start = dict(target().named_parameters())
    for name, weight in trained.named_parameters():
        weight.data = method.merge(start[name].data, weight.data, params)
    trained.save_pretrained(folder)
