"""Loads a checkpoint's model and tokenizer through transformers, with one clear line for what can fail."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from muse_eval.config import HubRef, fingerprint
from muse_eval.engines.checkpoint import TOKENIZER_FILES, Checkpoint, download, hub_ref, is_folder
from muse_eval.engines.composed import ComposedModel
from muse_eval.engines.described import check_tokenizer, require_known_method
from muse_eval.engines.weights import require_finite, require_fitting
from muse_eval.errors import UserError, first_line
from muse_eval.provenance import joined_digest
from muse_eval.reading import require_files, typed_path

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadOptions:
    """How a checkpoint is loaded."""

    dtype: str = "auto"
    """``float32``, ``bfloat16``, ``float16``, or ``auto``: bfloat16 on a GPU, float32 on a CPU."""
    device: str = "auto"
    """``cpu``, ``cuda`` …, or ``auto``: the GPU where there is one."""
    device_map: str | None = None
    """accelerate's placement for models larger than one device, e.g. ``auto``."""
    allow_pickle: bool = False
    trust_remote_code: bool = False

    @property
    def torch_device(self) -> torch.device:
        """The device that ``device`` names on this machine."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise UserError(f"no engine.device {self.device!r}; give cpu, cuda, cuda:1 or auto") from None
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise UserError(
                f"engine.device={self.device}: this machine has {torch.cuda.device_count()} GPUs "
                "that torch can use; give another one, cpu or auto"
            )
        if device.type not in ("cpu", "cuda"):
            try:  # ``meta`` holds no numbers, others are not built in
                torch.zeros(1, device=device).item()
            except (RuntimeError, AssertionError, ImportError) as error:
                raise UserError(
                    f"engine.device={self.device} cannot be used here ({first_line(error)}); "
                    "give cpu, cuda or auto"
                ) from None
        return device

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype that ``dtype`` names on this machine."""
        if self.dtype == "auto":
            return torch.float32 if self.torch_device.type == "cpu" else torch.bfloat16
        if self.dtype not in DTYPES:
            raise UserError(f"no dtype {self.dtype!r}; dtypes: auto, {', '.join(sorted(DTYPES))}")
        return DTYPES[self.dtype]


def load_config(checkpoint: Checkpoint, trust_remote_code: bool = False) -> Any:
    """Return the configuration of a checkpoint's language model; of a composed one the target's.

    Raises:
        UserError: it cannot be read, or the models of a composed checkpoint do not read the same tokens.
    """
    if checkpoint.composition is not None:
        configs = [load_config(part, trust_remote_code) for part in checkpoint.parts]
        _require_alike(checkpoint, configs)
        return configs[0]
    return _whole_config(checkpoint, trust_remote_code).get_text_config()


def _whole_config(checkpoint: Checkpoint, trust_remote_code: bool) -> Any:
    try:
        return AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=trust_remote_code)  # nosec B615  # a folder on disk
    except Exception as error:
        raise UserError(f"cannot read the configuration of {checkpoint.name}: {first_line(error)}") from error


def _require_alike(checkpoint: Checkpoint, configs: Sequence[Any]) -> None:
    """Refuse to combine models of which one knows other tokens, or reads more of them, than the other."""
    for what, values in (
        ("vocabulary", [config.vocab_size for config in configs]),
        ("context", [context_of(config) for config in configs]),
    ):
        if len(set(values)) > 1:
            first, second = (
                f"{part.folder.name}: {n}" for part, n in zip(checkpoint.parts, values, strict=True)
            )
            raise UserError(
                f"{checkpoint.name} combines models that differ in their {what} ({first}, {second}); "
                "reinforce the target itself"
            )


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, in this process or in a worker's words."""
    told = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in told
        or "can't allocate memory" in told
    )


def has_soft_caps(config: Any) -> bool:
    """Tell whether attention caps its scores (Gemma 2), which transformers' default attention leaves out."""
    return getattr(config, "attn_logit_softcapping", None) is not None


def cache_bytes(config: Any, itemsize: int) -> int:
    """Return the bytes that a token's keys and values take in the cache, over all layers.

    0 for a model that keeps none but a state (Mamba).
    """
    attending = getattr(config, "num_attention_heads", None)
    if not attending:
        return 0
    heads = getattr(config, "num_key_value_heads", None) or attending
    size = getattr(config, "head_dim", None) or config.hidden_size // attending
    return int(2 * config.num_hidden_layers * heads * size * itemsize)


def context_of(config: Any) -> int | None:
    """Return how many tokens a model reads at once, where its configuration says so."""
    found = getattr(config, "max_position_embeddings", None)
    return int(found) if found else None


def eos_ids(generation: Any, config: Any) -> set[int]:
    """Return the ids that end an answer: those of the generation configuration, else the model's."""
    found = getattr(generation, "eos_token_id", None) or config.eos_token_id
    return set() if found is None else {found} if isinstance(found, int) else set(found)


def load_model(checkpoint: Checkpoint, options: LoadOptions) -> PreTrainedModel:
    """Load a checkpoint for causal language modelling, in evaluation mode, on its device.

    Raises:
        UserError: the architecture is unknown, the weights do not fit the model or are no numbers, or memory
            runs out.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    config = load_config(checkpoint, options.trust_remote_code)
    if checkpoint.composition is not None:
        return ComposedModel([load_model(part, options) for part in checkpoint.parts], checkpoint.composition)
    require_known_method(checkpoint.name, getattr(config, "quantization_config", None))
    quantized = getattr(config, "quantization_config", None) is not None
    # Each weight goes where it stays as it is read; those that are quantized go where their kind wants them.
    whole = None if quantized else {"": options.torch_device}
    placement: dict[str, Any] = {"device_map": options.device_map or whole}
    if has_soft_caps(config):
        placement["attn_implementation"] = "eager"
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(  # nosec B615  # a folder on disk
            checkpoint.folder,
            dtype=options.torch_dtype,
            use_safetensors=not options.allow_pickle or None,
            trust_remote_code=options.trust_remote_code,
            ignore_mismatched_sizes=True,  # told below which ones, and refused
            output_loading_info=True,
            **placement,
        )
        model, info = loaded
        if placement["device_map"] is None:
            model = model.to(options.torch_device)
    except Exception as error:
        if out_of_memory(error):
            raise UserError(
                f"{checkpoint.name} does not fit on {options.torch_device}; "
                "give --set engine.device_map=auto, --dtype bfloat16, or a larger device"
            ) from None
        # Where it did not foresee a value, transformers says no more than the value.
        unforeseen = isinstance(error, (LookupError, TypeError, AttributeError, ArithmeticError))
        told = f"{type(error).__name__}: {first_line(error)}; look at its config.json" if unforeseen else ""
        raise UserError(f"cannot load {checkpoint.name}: {told or first_line(error)}") from error
    require_fitting(checkpoint, info)
    require_finite(checkpoint.name, model.named_parameters())
    ready: PreTrainedModel = model.eval()
    return ready


def load_tokenizer(
    model: Checkpoint | None, given: str | None, fallbacks: Sequence[HubRef], trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer: the given one, else the model's own, else the task's.

    Raises:
        UserError: none of them can be had.
    """
    if given is not None:
        return _tokenizer(_tokenizer_files(given), given, trust_remote_code)
    if model is not None and model.has_tokenizer:
        return _tokenizer(model, model.name, trust_remote_code)
    refused = []
    for ref in fallbacks:
        try:
            return _tokenizer(_fetch_tokenizer(ref), ref.repo, trust_remote_code)
        except UserError as error:
            refused.append(str(error))
    name = model.name if model else "the model"
    why = f" ({'; '.join(refused)})" if refused else ", and the task names no other"
    raise UserError(f"{name} carries no tokenizer{why}; give --tokenizer with a folder or a hub id")


def _tokenizer_files(given: str) -> Checkpoint:
    if not is_folder(given):
        return _fetch_tokenizer(hub_ref(given))
    folder = typed_path(given, "--tokenizer")
    found = Checkpoint(folder.name, folder, None)
    if not found.has_tokenizer:
        raise UserError(f"--tokenizer {given} holds no tokenizer ({', '.join(TOKENIZER_FILES)})")
    return found


def _fetch_tokenizer(ref: HubRef) -> Checkpoint:
    return download(ref, ["*token*", "vocab*", "merges.txt", "spiece.model", "config.json", "*.jinja"])


def _tokenizer(files: Checkpoint, name: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    require_files(files.folder)
    check_tokenizer(files.folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(  # nosec B615  # a folder on disk
                files.folder, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # noqa: BLE001 - see _whole_config
        raise UserError(f"cannot load the tokenizer of {name}: {first_line(error)}") from None
    return loaded


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of all that shapes token ids: vocabulary, merges, special tokens, BOS rule."""
    # Asked first: it resets the padding and truncation that an earlier call left in the backend.
    probe = tokenizer("The quick brown fox.\n\nQuestion: 1", verbose=False).input_ids
    backend = getattr(tokenizer, "backend_tokenizer", None)
    table = backend.to_str() if backend is not None else fingerprint(tokenizer.get_vocab())
    return fingerprint([table, tokenizer.all_special_tokens, tokenizer.all_special_ids, probe])


def state_digest(model: PreTrainedModel) -> str:
    """Return the SHA-256 of a loaded model's configuration, EOS and parameters."""
    eos = getattr(model.generation_config, "eos_token_id", None)
    # Where it was loaded from is no part of what it is.
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    lines = [json.dumps(config, sort_keys=True, default=str), f"eos {eos}"]
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        lines.append(f"{name} {tensor.dtype} {tuple(tensor.shape)} {sha256(data.data).hexdigest()}")
    return joined_digest(lines)
