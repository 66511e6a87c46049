"""Engines: a model behind three questions (``types.Engine``), opened by name."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from muse_eval.config import HubRef, parse_params
from muse_eval.errors import UserError, unknown_name
from muse_eval.types import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class EngineKind:
    """One kind of engine, and what it needs."""

    summary: str
    packages: tuple[str, ...]
    install: str

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed here."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


ENGINES = {
    "hf": EngineKind("transformers in this process, on CPU or GPU", ("torch", "transformers"), "muse-eval"),
}


@dataclass(frozen=True)
class Settings:
    """What ``--set engine.NAME=VALUE`` can change; none of it changes an answer beyond rounding."""

    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1`` or ``auto``."""
    device_map: str | None = None
    """accelerate's placement for a model larger than one device: ``auto``, ``balanced`` …"""
    batch_tokens: Annotated[int, Field(gt=0)] | None = None
    """Padded tokens of a batch; by default as many as memory allows."""


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


def check_engine(name: str, settings: Mapping[str, Any]) -> Settings:
    """Return an engine's settings, checked without opening it.

    Raises:
        UserError: the engine is unknown or not installed, or a setting will not do.
    """
    if name not in ("auto", *ENGINES):
        raise unknown_name("engine", name, ("auto", *ENGINES))
    chosen = "hf" if name == "auto" else name
    missing = ENGINES[chosen].missing
    if missing:
        install = ENGINES[chosen].install
        raise UserError(f"engine {chosen} needs {', '.join(missing)}; run: pip install {install}")
    values: Settings = parse_params(Settings, settings, "--set engine")
    return values


def open_engine(
    name: str,
    source: ModelSource,
    settings: Mapping[str, Any],
    *,
    loaded: "tuple[PreTrainedModel, PreTrainedTokenizerBase] | None" = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Engine:
    """Open an engine; its weights load at the first question that the store cannot answer.

    Args:
        name: ``auto`` or one of ``ENGINES``.
        source: the model to open.
        settings: values of ``Settings``.
        loaded: a model and tokenizer in memory, used instead of the source's.
        progress: told of a download's megabytes.

    Raises:
        UserError: the engine, a setting, the model or its tokenizer will not do.
    """
    values = check_engine(name, settings)
    from muse_eval.engines.checkpoint import find_checkpoint
    from muse_eval.engines.hf import TransformersEngine
    from muse_eval.engines.loading import LoadOptions, load_tokenizer

    options = LoadOptions(
        dtype=source.dtype,
        device=values.device,
        device_map=values.device_map,
        allow_pickle=source.allow_pickle,
        trust_remote_code=source.trust_remote_code,
    )
    if loaded is not None:
        return TransformersEngine(*loaded, options, batch_tokens=values.batch_tokens)
    found = find_checkpoint(
        source.model,
        allow_pickle=source.allow_pickle,
        trust_remote_code=source.trust_remote_code,
        progress=progress,
    )
    tokenizer = load_tokenizer(found, source.tokenizer, source.fallbacks, source.trust_remote_code)
    return TransformersEngine(found, tokenizer, options, batch_tokens=values.batch_tokens)
