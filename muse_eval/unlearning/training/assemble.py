"""The methods whose trained model is not yet the unlearned one, and what makes that of a saved one."""

import shutil
from dataclasses import asdict
from functools import singledispatch
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, PreTrainedModel

from muse_eval.engines.composition import COMPOSED, PARTS, ComposedSpec
from muse_eval.engines.weights import require_finite_files
from muse_eval.errors import DivergedError, UserError
from muse_eval.types import AnyMethod, LogitMixture, WeightMethod
from muse_eval.unlearning import cards
from muse_eval.unlearning.training import output


@singledispatch
def assemble(method: AnyMethod, name: str, params: Any, folder: Path, target: PreTrainedModel) -> None:  # noqa: ARG001
    """Turn the reinforced model that was saved in ``folder`` into the unlearned one, in place.

    Args:
        method: whose model it is, of a form that ``plugins.ASSEMBLED_LAST`` names.
        name: the method's file.
        params: the method's parameters.
        folder: a saved model.
        target: the target as it was before unlearning, on the CPU.
    """
    raise AssertionError(f"the trained model is the unlearned one: {method}")


@assemble.register
def _(method: WeightMethod, _name: str, params: Any, folder: Path, target: PreTrainedModel) -> None:
    trained = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")  # nosec B615  # a folder on disk
    start = dict(target.named_parameters())
    for name, weight in trained.named_parameters():
        weight.data = method.merge(start[name].data, weight.data, params)
    trained.save_pretrained(folder)


@assemble.register
def _(_method: LogitMixture, name: str, params: Any, folder: Path, target: PreTrainedModel) -> None:
    before, after = (folder / part for part in PARTS)
    for part in (before, after):
        shutil.rmtree(part, ignore_errors=True)
    after.mkdir()
    for file in [file for pattern in output.WEIGHTS for file in folder.glob(pattern)]:
        file.replace(after / file.name)
    for file in (*folder.glob("config.json"), *folder.glob("generation_config.json")):
        shutil.copy(file, after)
    target.save_pretrained(before)
    spec = ComposedSpec(schema_version=1, method=name, params=asdict(params))
    cards.write_json(folder / COMPOSED, spec.model_dump())


def check_weights(folder: Path) -> None:
    """Refuse a model that its last step made of no numbers: no loss was taken after it.

    Raises:
        DivergedError: a weight is NaN or infinite.
    """
    made = [
        *folder.glob("*.safetensors"),
        *(path for part in PARTS for path in (folder / part).glob("*.safetensors")),
    ]
    try:
        require_finite_files(str(folder), made)
    except UserError:
        remedy = "try a smaller --lr; complete checkpoints are kept in"
        raise DivergedError(
            "the last step left weights that are NaN or infinite", f"{remedy} {folder / output.CHECKPOINTS}"
        ) from None
