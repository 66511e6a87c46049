"""Which imports of which modules wait, and the hook in ``import`` that lets them.

Loading a language model or a trainer loads scikit-learn, SciPy, pandas, NLTK, peft and torch's compiler
along: for assisted decoding, scores of classifiers, losses of object detection, adapters, sharded weights
and compiled graphs. They are half of what a command needs to begin. Here a known module's import of a known
name gives a stand-in that loads it once it is used. Every other import goes its usual way: what a new
version imports elsewhere costs time alone.

Most of what a package makes while it is loaded stays. Python's collector goes through it hundreds of times
on the way, a seventh of what a command needs to begin. It rests until an import is done, and never looks at
what there is when torch has come along with one: no model can be among it.
"""

import builtins
import gc
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from muse_eval.late import compiler, once
from muse_eval.late.distributions import looked_up
from muse_eval.late.stand_in import StandIn

LATE: Mapping[str, Sequence[str]] = {
    "accelerate.accelerator": ("torch.distributed.tensor",),
    "accelerate.utils.other": (
        "torch.distributed.fsdp.fully_sharded_data_parallel",
        "torch.distributed.tensor",
    ),
    "huggingface_hub.serialization._torch": ("torch.distributed.tensor",),
    "muse_eval.unlearning.heads": ("torch.distributed.fsdp",),
    "muse_eval.unlearning.training.processes": ("torch.distributed.fsdp",),
    "rouge_score.rouge_scorer": ("nltk",),
    "rouge_score.tokenizers": ("nltk.stem",),
    "torch._compile": ("torch._dynamo",),
    "torch.compiler": ("torch._dynamo",),
    "torch.optim.optimizer": ("torch._dynamo",),
    "transformers.core_model_loading": ("transformers.distributed.sharding_utils",),
    "transformers.data.metrics": ("scipy.stats", "sklearn.metrics"),
    "transformers.distributed.fsdp": (
        "torch.distributed._composable.fsdp",
        "torch.distributed.fsdp",
        "transformers.distributed.tensor_parallel",
    ),
    "transformers.distributed.mixin": ("transformers.distributed.tensor_parallel",),
    "transformers.distributed.utils": ("torch.distributed.tensor",),
    "transformers.generation.candidate_generator": ("sklearn.metrics",),
    "transformers.loss.loss_deformable_detr": ("scipy.optimize",),
    "transformers.loss.loss_for_object_detection": ("scipy.optimize",),
    "transformers.loss.loss_grounding_dino": ("scipy.optimize",),
    "transformers.loss.loss_lw_detr": ("scipy.optimize",),
    "transformers.loss.loss_rf_detr": ("scipy.optimize",),
    "transformers.loss.loss_rt_detr": ("scipy.optimize",),
    "transformers.masking_utils": ("torch._dynamo._trace_wrapped_higher_order_op",),
    "transformers.modeling_utils": (
        "transformers.distributed.sharding_utils",
        "transformers.distributed.tensor_parallel",
    ),
    "transformers.quantizers.quantizer_torchao": (
        "torchao.prototype.safetensors.safetensors_support",
        "torchao.prototype.safetensors.safetensors_utils",
    ),
    "transformers.trainer": ("datasets", "peft"),
    "transformers.trainer_optimizer": ("torch.distributed.tensor",),
    "transformers.trainer_utils": ("peft",),
}
"""By module, what it imports only to call it, to take a name from it or to ask for instances, some day."""
COMPILING = "vllm"
"""It compiles, and a compiler looks into what it compiles: from its import on nothing waits any more."""

_import = builtins.__import__


def start() -> None:
    """Let what ``LATE`` names wait, from here on and in this process."""
    builtins.__import__ = _late_import


def stop() -> None:
    """Let imports go their usual way again; what waits already goes on waiting."""
    if builtins.__import__ is _late_import:
        builtins.__import__ = _import


def _late_import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """Do what ``import`` does, but for what ``LATE`` names."""
    late = LATE.get((globals or {}).get("__name__", ""))
    if late:
        module = _absolute(name, globals or {}, level)
        if module in late and module not in sys.modules:
            if fromlist or "." not in module:
                return StandIn(module)
            if module == compiler.NAME:  # `import a.b` binds a, and there its stand-in is.
                return sys.modules["torch"]
    elif name == COMPILING:
        stop()
    with looked_up() if name == "transformers" and name not in sys.modules else nullcontext():
        found = _uncollected(name, globals, locals, fromlist or (), level)
    if name == "torch" and not level:
        compiler.stand_in()
    elif name == "utils.import_utils" and (globals or {}).get("__name__") == "transformers":
        once.remember_folders()
    return found


def _uncollected(name: str, *how: Any) -> Any:
    """Import without looking for garbage."""
    collecting, torch_was_here = gc.isenabled(), "torch" in sys.modules
    gc.disable()
    try:
        return _import(name, *how)
    finally:
        if collecting:  # Not within another import, nor where nobody wants it.
            if not torch_was_here and "torch" in sys.modules:
                gc.freeze()
            gc.enable()


def _absolute(name: str, importer: Mapping[str, Any], level: int) -> str:
    if not level:
        return name
    package = importer["__package__"].rsplit(".", level - 1)[0]
    return f"{package}.{name}" if name else package
