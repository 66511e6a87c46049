"""What of optimiser, recomputation and micro-batch fits a device: chosen where none is given, or refused."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from muse_eval import plugins
from muse_eval.errors import UserError
from muse_eval.results import part
from muse_eval.types import ActivationMethod
from muse_eval.unlearning import cards
from muse_eval.unlearning.recipe import OPTIMIZERS, LoraSpec, UnlearnConfig
from muse_eval.unlearning.training import output
from muse_eval.unlearning.training.arguments import micro_batches, split_batch
from muse_eval.unlearning.training.memory import GIGA, Means, Sizes, least, reckon

SHARE = 0.92
"""Of the free memory that a reckoning may fill: what is left goes to gaps and to the libraries' own needs."""
SAVED = ("gradient_checkpointing", "micro_batch_size")
"""How memory is saved: what of a choice is no part of the recipe."""
MOST = 16
"""Processes that a refusal proposes at most."""


@dataclass(frozen=True)
class Room:
    """The memory for a training on each of its devices."""

    free: int
    """Bytes."""
    on_gpu: bool
    processes: int = 1
    sharded: bool = False
    """Whether the processes share one model out (FSDP)."""


def free_memory(device: torch.device, model: nn.Module | None) -> int:
    """Return the bytes that a training may take on a device, a model that is loaded already counted in.

    On a CPU that is RAM and swap, and what this process already has of it, which it may use again.
    """
    if device.type != "cuda":
        own = psutil.Process().memory_info().rss
        return int(psutil.virtual_memory().available + psutil.swap_memory().free + own)
    weights = model.parameters() if model is not None else ()
    loaded = sum(weight.nbytes for weight in weights if weight.device.type == "cuda")
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + cached + loaded)


def longest_row(config: UnlearnConfig, texts: Sequence[str]) -> int:
    """Return a bound on the tokens of a row: no token is shorter than a byte."""
    sizes = [len(text.encode()) for text in texts]
    bound = max(sizes, default=0) if config.rows == "document" else sum(sizes)
    return min(config.max_len, bound + 2)  # BOS and EOS


def means_of(config: UnlearnConfig, room: Room, longest: int) -> Means:
    """Return how a config is carried out in a room, what is left open as on a device that has enough."""
    micro, _ = split_batch(config, room.processes, room.on_gpu)
    return Means(
        dtype=config.dtype,
        optim="adamw" if config.optim == "auto" else config.optim,
        checkpointing=bool(config.gradient_checkpointing),
        tokens=micro * longest,
        longest=longest,
        processes=room.processes,
        sharded=room.sharded,
        on_gpu=room.on_gpu,
    )


# ── what is left open ────────────────────────────────────────────────────────────────────────────
def former(out: Path, share: int) -> dict[str, Any]:
    """Return what was chosen when a folder was made, or begun: what is left open stays what it was then.

    A micro-batch that does not divide a process's share of the batch was chosen for other processes.
    """
    begun = output.partial(out)
    recipe = cards.read_card(out) or cards.read_json(begun / cards.RECIPE) or {}
    named = part(recipe, "optimizer").get("name")
    found: dict[str, Any] = {}
    for optim, name in OPTIMIZERS.items():
        if name == named:
            found["optim"] = optim
    kept = cards.read_json(begun / output.MEMORY) or {}
    recomputing, micro = (kept.get(name) for name in SAVED)
    divides = micro is None or (isinstance(micro, int) and micro > 0 and share % micro == 0)
    if isinstance(recomputing, bool) and divides:
        found |= dict(zip(SAVED, (recomputing, micro), strict=True))
    return found


def fill_in(config: UnlearnConfig, known: dict[str, Any]) -> UnlearnConfig:
    """Return a config with what it leaves open taken from what is known."""
    left = {name: known[name] for name in known if getattr(config, name) in (None, "auto")}
    return config.model_copy(update=left)


def choose(config: UnlearnConfig, sizes: Sizes | None, room: Room, longest: int) -> UnlearnConfig:
    """Return the config with nothing left open: the first of ``options`` whose reckoning fits the room.

    Where none does, the leanest, which ``check`` may refuse. On a CPU, or where sizes are not known, it is
    AdamW as it is.
    """
    if sizes is None or not room.on_gpu:
        return fill_in(config, {"optim": "adamw", "gradient_checkpointing": False})
    found = config
    for found in options(config, room):
        if fits(found, sizes, room, longest):
            break
    return found


def options(config: UnlearnConfig, room: Room) -> Iterator[UnlearnConfig]:
    """Yield what an open config may come to, the best first.

    A smaller micro-batch goes before recomputing activations, and both before states in 8 bits, since they
    change the weights by rounding alone. Precision is never given up here: weights in bfloat16 lose small
    updates.
    """
    eight_bits = not room.sharded and not config.lora and find_spec("bitsandbytes") is not None
    optims = ["adamw", *(["adamw_8bit"] if eight_bits else [])] if config.optim == "auto" else [config.optim]
    given = config.gradient_checkpointing
    # Which inputs an adapter drops depends on the micro-batch.
    drops = config.lora is not None and config.lora.dropout > 0
    micros: Sequence[int | None] = [config.micro_batch_size]
    if config.micro_batch_size is None and not drops:
        micros = micro_batches(config, room.processes)
    for optim in optims:
        for checkpointing in [False, True] if given is None else [given]:
            for micro in micros:
                yield config.model_copy(
                    update=dict(zip(("optim", *SAVED), (optim, checkpointing, micro), strict=True))
                )


def fits(config: UnlearnConfig, sizes: Sizes, room: Room, longest: int) -> bool:
    """Tell whether a reckoning fits a room, with something to spare."""
    return sum(reckon(sizes, means_of(config, room, longest)).values()) <= SHARE * room.free


# ── what cannot be done ──────────────────────────────────────────────────────────────────────────
def check(config: UnlearnConfig, sizes: Sizes, room: Room, longest: int) -> str | None:
    """Refuse what cannot fit, naming what does; return a warning where it may not fit.

    Only what no step can do without is held against all the memory there is, so nothing that would run is
    refused.

    Raises:
        UserError: weights, gradients and states alone take more than the room.
    """
    means = means_of(config, room, longest)
    needed, reckoned = least(sizes, means), sum(reckon(sizes, means).values())
    kind = "GPU memory" if room.on_gpu else "memory"
    if needed > room.free:
        each = " on each GPU" if room.on_gpu and room.processes > 1 else ""
        raise UserError(
            f"this training takes at least {_size(needed)} of {kind}{each}, and {_size(room.free)} are free; "
            f"{_advice(config, sizes, room, longest)}"
        )
    if not room.on_gpu or reckoned <= room.free:
        return None
    return (
        f"this training is reckoned to take {_size(reckoned)} of {kind}, and {_size(room.free)} are free; "
        f"should it run out, {_advice(config, sizes, room, longest)}"
    )


def _advice(config: UnlearnConfig, sizes: Sizes, room: Room, longest: int) -> str:
    """Name the settings that fit by the reckoning."""
    left = {
        "--gradient-checkpointing": not config.gradient_checkpointing,
        "--micro-batch-size 1": config.micro_batch_size != 1,
    }
    sparing = " and ".join(option for option, more in left.items() if more)
    found = remedies(config, sizes, room, longest)
    if sparing and fits(_lean(config), sizes, room, longest):
        return f"{sparing} will do"
    if not found:
        return "take a smaller model or a larger machine"
    return f"{f'with {sparing} ' if sparing else ''}these fit: {', '.join(found)}"


def _lean(config: UnlearnConfig) -> UnlearnConfig:
    """Return a config that spares activations as far as it goes."""
    return config.model_copy(update={"gradient_checkpointing": True, "micro_batch_size": 1})


def remedies(config: UnlearnConfig, sizes: Sizes, room: Room, longest: int) -> list[str]:
    """Return the settings that fit while activations are spared, those first that change the result least.

    Empty where nothing does; a setting that would go with a shorter one is left out.
    """
    lean = _lean(config)
    spec = LoraSpec(r=16, alpha=32)
    adapted = replace(sizes, adapters=True, frozen=False, trained=_adapters_at_most(sizes, spec), embedding=0)
    _, method, _ = plugins.method(config.method)
    whole, alone = not config.lora, not room.sharded
    adaptable = whole and alone and not isinstance(method, ActivationMethod)

    def fit(of: Sizes, **changes: Any) -> bool:
        return fits(lean.model_copy(update=changes), of, room, longest)

    found = []
    if room.on_gpu and whole and alone and config.optim == "adamw" and fit(sizes, optim="adamw_8bit"):
        installed = find_spec("bitsandbytes") is not None
        found.append("--optim adamw_8bit" + ("" if installed else " (pip install '.[bnb]')"))
    if adaptable and fit(adapted, lora=spec, optim="adamw"):
        found.append("--lora r=16")
    elif adaptable and fit(adapted, lora=spec, optim="adamw", dtype="bfloat16"):
        found.append("--lora r=16 --training-dtype bfloat16")
    if config.dtype != "bfloat16" and whole and fit(sizes, dtype="bfloat16"):
        found.append("--training-dtype bfloat16 (rounds small updates away)")
    if room.on_gpu and whole and config.optim == "adamw" and (count := _gpus(lean, sizes, room, longest)):
        found.append(f"{count} such GPUs (muse-eval list launch fsdp)")
    return found


def _gpus(config: UnlearnConfig, sizes: Sizes, room: Room, longest: int) -> int | None:
    """Return over how many GPUs FSDP could share the training out."""
    count = 2 * room.processes if room.sharded else 2
    while count <= MOST:
        several = replace(room, processes=count, sharded=True)
        if config.batch_size % count == 0 and fits(config, sizes, several, longest):
            return count
        count *= 2
    return None


def _adapters_at_most(sizes: Sizes, spec: LoraSpec) -> int:
    """Bound the adapters of every linear layer: seven a layer, as wide as the widest on both sides."""
    return spec.r * sizes.layers * 7 * 2 * max(sizes.hidden, sizes.inner)


def _size(count: float) -> str:
    """Return bytes as one reads them, in GB of 10⁹ bytes."""
    giga = count / GIGA
    return f"{giga:,.0f} GB" if giga >= 10 else f"{giga:.1f} GB"


def said(config: UnlearnConfig, sizes: Sizes | None, room: Room, longest: int) -> str:
    """Say in a few words what a training on a GPU came to, and what of memory it is reckoned to take."""
    if not room.on_gpu or sizes is None:
        return ""
    means = means_of(config, room, longest)
    micro, _ = split_batch(config, room.processes, room.on_gpu)
    recomputing = ", gradient checkpointing" if means.checkpointing else ""
    reckoned = sum(reckon(sizes, means).values())
    return (
        f"{means.dtype}, {means.optim}{recomputing}, micro-batch {micro}; reckoned at {_size(reckoned)} of "
        f"{_size(room.free)} free"
    )
