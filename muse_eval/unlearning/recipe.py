"""The recipe of an unlearned model: its config, and everything else that decides the weights."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from muse_eval import plugins
from muse_eval.config import (
    Positive,
    PositiveInt,
    Rising,
    Spec,
    UnlearnSpec,
    explain,
    fingerprint,
    parse_params,
)
from muse_eval.errors import UserError, unknown_name
from muse_eval.own_code import code_digest


class LoraSpec(Spec):
    """Low-rank adapters (Hu et al., arXiv 2106.09685): W + (alpha / r) · B A; A and B alone train."""

    r: PositiveInt
    """Rank of the update."""
    alpha: PositiveInt
    """The update is scaled by alpha / r; 2 r unless given."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapters' input that is dropped in training."""
    targets: Annotated[str, Field(pattern=r"^[^+]+(\+[^+]+)*$")] = "all-linear"
    """``all-linear`` (every linear layer but the output head), or layers' names joined by ``+``."""

    @model_validator(mode="before")
    @classmethod
    def _double_rank(cls, given: Any) -> Any:
        """Fill in alpha."""
        if not isinstance(given, Mapping) or "alpha" in given or not str(given.get("r")).isdecimal():
            return given
        return {**given, "alpha": 2 * int(given["r"])}


def parse_lora(text: str) -> LoraSpec:
    """Parse ``r=16,alpha=32,dropout=0.0,targets=q_proj+v_proj``, in any order; only ``r`` is required.

    Raises:
        UserError: a part is no ``key=value``, a key is unknown, missing or given twice, or a value wrong.
    """
    where, given = f"--lora {text}", dict[str, str]()
    for part in text.split(","):
        key, separator, value = (piece.strip() for piece in part.partition("="))
        if key not in LoraSpec.model_fields:
            raise UserError(f"{where}: {unknown_name('key', key, LoraSpec.model_fields)}")
        if not separator or not value:
            raise UserError(f"{where}: give {key} a value: {key}=…")
        if key in given:
            raise UserError(f"{where}: {key} is given twice")
        given[key] = value
    if "r" not in given:
        raise UserError(f"{where}: give the rank, for example r=16")
    try:
        return LoraSpec.model_validate(given)
    except ValidationError as error:
        raise explain(error, where, LoraSpec.model_fields) from None


def _read_lora(given: Any) -> Any:
    return parse_lora(given) if isinstance(given, str) else given


class UnlearnConfig(Spec):
    """What to unlearn with.

    The defaults are MUSE's (AdamW, constant lr 1e-5, batch 32, 10 epochs, windows of 2048 tokens) and
    those of the model card of OPTML-Group/SimNPO-MUSE-Books-iclm-7b (lr 1e-5, λ 1.0; β 0.7 and γ 0.0 are
    in ``methods/simnpo.py``).
    """

    model_config = ConfigDict(populate_by_name=True)

    method: str
    """``simnpo``, ``npo_gdr`` … as ``plugins.method`` knows it."""
    model: str
    """Folder, or hub id with or without ``@revision``, of the target."""
    tokenizer: str | None = None
    """Folder or hub id where it is not the model's own."""
    task: str | None = None
    preset: str | None = None
    """The published hyper-parameters that it started from."""
    lr: Annotated[Positive, Field(le=1e36)] = 1e-5
    """Learning rate, constant: no warm-up, no decay."""
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 32
    """Forget rows behind an optimiser step, over all devices."""
    micro_batch_size: PositiveInt | None = None
    """Forget rows in memory at a time, a device; None: the whole batch on a CPU, on a GPU as many as fit, at
    most 4."""
    max_len: Annotated[int, Field(gt=1)] = 2048
    """Tokens of a row, BOS counted."""
    lambda_: Annotated[float, Field(ge=0, allow_inf_nan=False, alias="lambda")] = 1.0
    """λ, the weight of the retain term."""
    rows: Literal["chunk", "document"] = "chunk"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    dtype: Literal["auto", "float32", "mixed", "bfloat16"] = "auto"
    """``mixed``: float32 weights, bfloat16 arithmetic. ``bfloat16``: weights too, half the memory; at
    lr 1e-5 many updates are then lost to rounding. ``auto``: ``mixed`` on a GPU, ``float32`` on a CPU."""
    gradient_checkpointing: bool | None = None
    """Trade a third more time for the memory of the activations; None: on a GPU, where they would not fit."""
    lora: Annotated[LoraSpec | None, BeforeValidator(_read_lora)] = None
    """Train low-rank adapters, merged into the weights at the end; also as text (``parse_lora``)."""
    optim: Literal["auto", "adamw", "adamw_8bit"] = "auto"
    """``adamw_8bit``: AdamW's states in 8 bits each (bitsandbytes), a quarter of their memory. ``auto``:
    ``adamw``, and ``adamw_8bit`` on a GPU that has not the memory for it, where bitsandbytes is installed."""
    report_to: Literal["tensorboard", "trackio", "wandb"] | None = None
    """Where a copy of the log goes, step by step; what is written lies below the output folder."""
    allow_pickle: bool = False
    trust_remote_code: bool = False
    params: dict[str, Any] = Field(default_factory=dict)
    """The method's own parameters (β, γ …) that differ from its defaults."""
    stops: Rising = Field(default=(), exclude_if=lambda stops: not stops)
    """Optimiser steps after which a checkpoint is left, rising; the last ends the training, whatever
    ``epochs`` says. Empty: one after each epoch."""


TRAINING = {"lr", "epochs", "batch_size", "max_len", "rows", "seed"}
"""Fields of a config that shape the weights, beside the method's own."""

OPTIMIZERS = {"adamw": "AdamW", "adamw_8bit": "AdamW, states in 8 bits (bitsandbytes)"}
"""The optimisers as a recipe calls them."""


def configure(spec: UnlearnSpec | None = None, /, **values: Any) -> UnlearnConfig:
    """Build a config from a task's values, over them a preset's and loose ones; None counts as not given.

    λ may be called ``lambda_`` or ``lambda``. What the task says of one method alone stands under the name
    of its file (``simnpo``) or its full name (``simnpo_gdr``), which goes before, and goes before what it
    says of all.

    Raises:
        UserError: a name is unknown, a value is of a wrong kind or out of bounds, or λ is given where there
            is nothing to weigh.
    """
    given = {
        {"lambda": "lambda_"}.get(name, name): value for name, value in values.items() if value is not None
    }
    name = str(given.get("method", ""))
    stem, _, term = plugins.method(name)
    if term is None and "lambda_" in given:
        weighed = [full for full in plugins.method_names() if full.startswith(f"{name}_")]
        hint = f"; use {weighed[0]}" if weighed else ""
        raise UserError(f"λ weighs a retain term, and {name} takes none beside it{hint}")
    params = dict(given.get("params", {}))
    published: dict[str, Any] = {}
    if preset := given.get("preset"):
        found = plugins.preset(preset, name)
        published = found.model_dump(exclude={"source", "methods", "params", "note"}, exclude_none=True)
        params = found.params.get(stem, {}) | params
    if spec is not None:
        own = spec.of(stem, name)
        params = own.params | params
        published = spec.model_dump(exclude={"forget", "retain", "methods"}) | own.settings | published
    given = published | given | {"params": params}
    try:
        return UnlearnConfig.model_validate(given)
    except ValidationError as error:
        raise explain(error, "unlearn", UnlearnConfig.model_fields) from None


def _draws(config: UnlearnConfig) -> dict[str, Any] | None:
    """Return what decides which inputs an adapter's dropout drops; None without dropout."""
    if not (config.lora and config.lora.dropout):
        return None
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return {"micro_batch_size": config.micro_batch_size, "processes": processes}


def write_recipe(
    config: UnlearnConfig,
    forget: Sequence[str],
    retain: Sequence[str],
    target: Mapping[str, str | None],
    dtype: str,
) -> dict[str, Any]:
    """Describe everything that decides the resulting weights; its fingerprint names the result.

    Args:
        config: what was asked for; where the target lies and how memory is saved are no part of the recipe.
        forget: the texts to forget.
        retain: the texts to keep.
        target: what identifies the target: digests of its weights and tokenizer, its revision.
        dtype: the precision that ``config.dtype`` comes to on this machine.

    Raises:
        UserError: the method or one of its parameters is unknown or out of bounds.
    """
    from muse_eval.unlearning.objectives import uses_retain

    loss, method, term = plugins.method(config.method)
    params = parse_params(method.params, config.params, f"method {config.method}")
    retains = uses_retain(method, term)
    return {
        "method": {
            "loss": loss,
            "params": asdict(params),
            "retain": term or ("own" if retains else None),
            "lambda": config.lambda_ if term else None,
        },
        "target": dict(target),
        "data": {
            "forget": {"texts": len(forget), "sha256": fingerprint(list(forget))},
            "retain": {"texts": len(retain), "sha256": fingerprint(list(retain))} if retains else None,
        },
        "lora": config.lora and config.lora.model_dump(),
        "dropped": _draws(config),
        "optimizer": {
            "name": OPTIMIZERS[config.optim],
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 0.0,
        }
        | {"schedule": "constant", "warmup": 0, "max_grad_norm": 1.0},
        "training": config.model_dump(include=TRAINING)
        | {"dtype": dtype}
        | ({"stops": list(config.stops)} if config.stops else {}),
        "code": code_digest("unlearning"),
    }
