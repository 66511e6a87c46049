"""What becomes of trained weights once they are saved: mostly nothing, with some methods another model."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import singledispatch
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, PreTrainedModel

from muse_eval.engines.composition import COMPOSED, PARTS
from muse_eval.types import AnyMethod, LogitMixture, WeightMethod

REINFORCED = (WeightMethod, LogitMixture)
"""Forms whose trained model is not yet the unlearned one: it is reinforced on the forget text."""


@singledispatch
def assemble(
    _method: AnyMethod, _name: str, _params: Any, _folder: Path, _target: Callable[[], PreTrainedModel]
) -> None:
    """Turn the trained model that was saved in ``folder`` into the unlearned one, in place.

    Args:
        method: whose model it is.
        name: the method's file.
        params: the method's parameters.
        folder: a saved model.
        target: loads the target as it was before unlearning, on the CPU.
    """


@assemble.register
def _(
    method: WeightMethod, _name: str, params: Any, folder: Path, target: Callable[[], PreTrainedModel]
) -> None:
    trained = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    start = dict(target().named_parameters())
    for name, weight in trained.named_parameters():
        weight.data = method.merge(start[name].data, weight.data, params)
    trained.save_pretrained(folder)


@assemble.register
def _(
    _method: LogitMixture, name: str, params: Any, folder: Path, target: Callable[[], PreTrainedModel]
) -> None:
    before, after = (folder / part for part in PARTS)
    for part in (before, after):
        shutil.rmtree(part, ignore_errors=True)
    after.mkdir()
    for file in [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]:
        file.replace(after / file.name)
    for file in (*folder.glob("config.json"), *folder.glob("generation_config.json")):
        shutil.copy(file, after)
    target().save_pretrained(before)
    spec = {"schema_version": 1, "method": name, "params": asdict(params)}
    (folder / COMPOSED).write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
