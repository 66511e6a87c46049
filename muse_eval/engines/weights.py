"""Refuses weights that are not those of the model that a configuration describes, or that are no numbers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from muse_eval.engines.checkpoint import Checkpoint
from muse_eval.errors import UserError

WIDE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Dtypes that are looked at; the narrower ones of quantized weights have codes of their own."""

TABLES = ("masked_bias", "attn.bias", "attention.bias", "inv_freq")
"""Ends of the names of tables that old checkpoints hold beside the weights; a mask may be infinite."""


def require_fitting(checkpoint: Checkpoint, info: Mapping[str, Any]) -> None:
    """Refuse weights that leave parameters at random or that the model has no place for.

    transformers only warns of both. What an architecture declares ignorable is not among the latter.

    Args:
        checkpoint: whose weights they are.
        info: what transformers tells of loading (``output_loading_info``).

    Raises:
        UserError: a parameter is missing, of another shape, or unknown to the configuration.
    """
    for kind in ("missing_keys", "mismatched_keys"):
        # A mismatched key comes with both shapes.
        bad = sorted(key if isinstance(key, str) else key[0] for key in info.get(kind) or ())
        if bad:
            raise UserError(
                f"{checkpoint.name}: the weights lack or misshape {len(bad)} parameters of its config.json "
                f"(first: {bad[0]}); they would stay random. Save the checkpoint again"
            )
    if surplus := sorted(info.get("unexpected_keys") or ()):
        raise UserError(
            f"{checkpoint.name}: the weights hold {len(surplus)} parameters that its config.json does not "
            f"know (first: {surplus[0]}); another model would be scored than was saved. Mend config.json"
        )


def require_finite(name: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse a model with a weight that is NaN or infinite: it answers nothing, which looks like forgetting.

    Raises:
        UserError: there is one.
    """
    for key, tensor in tensors:
        if tensor.dtype not in WIDE or tensor.device.type == "meta" or not tensor.numel():
            continue
        # NaN is the lowest and the highest of what it is among.
        if not torch.stack(tensor.detach().aminmax()).isfinite().all():
            raise UserError(
                f"{name}: the weight {key} holds NaN or infinity; no score of such a model means anything. "
                "Its training has diverged, or the file is damaged"
            )


def require_finite_files(name: str, files: Iterable[Path]) -> None:
    """Refuse safetensors with a weight that is NaN or infinite; one tensor is in memory at a time.

    Raises:
        UserError: there is one.
    """
    for path in files:
        with safe_open(path, framework="pt") as file:
            keys = [key for key in file.keys() if not key.endswith(TABLES)]  # noqa: SIM118
            require_finite(name, ((key, file.get_tensor(key)) for key in keys))


def check_files(checkpoint: Checkpoint, trust_remote_code: bool) -> None:
    """Refuse a checkpoint whose safetensors do not fit its configuration or are no numbers.

    vLLM would cut them to size, or leave them out, and run.

    Raises:
        UserError: they do not, or are not.
    """
    files = [path for path in checkpoint.weights if path.suffix == ".safetensors"]
    if files:
        _check_keys(checkpoint, trust_remote_code)
    require_finite_files(checkpoint.name, files)


def _check_keys(checkpoint: Checkpoint, trust_remote_code: bool) -> None:
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        # No weight is read: a model on the meta device has shapes alone.
        loaded: Any = AutoModelForCausalLM.from_pretrained(  # nosec B615  # a folder on disk
            checkpoint.folder,
            device_map="meta",
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception:  # noqa: BLE001
        return  # Not one of transformers' own, or not loaded by it so; vLLM may know it all the same.
    model, info = loaded
    quantized = getattr(model.config, "quantization_config", None) is not None
    # vLLM knows scales and the like of quantized weights that transformers has no place for.
    require_fitting(checkpoint, {**info, "unexpected_keys": ()} if quantized else info)
