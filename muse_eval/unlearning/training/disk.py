"""The disk that a training takes at its fullest: told before it starts, refused where it is not there."""

import shutil
from contextlib import suppress
from pathlib import Path

from muse_eval import plugins
from muse_eval.errors import UserError
from muse_eval.folders import nearest
from muse_eval.types import LogitMixture
from muse_eval.unlearning.recipe import UnlearnConfig
from muse_eval.unlearning.training.memory import GIGA, Sizes

TOLD = 1e9
"""Bytes from which on it is told."""


def most(config: UnlearnConfig, sizes: Sizes, saves: int, keep: bool) -> int:
    """Return the bytes that an output folder takes at its fullest, counted from the sizes alone.

    A checkpoint goes only when the next is complete, so two are there at a time; the last one needs no
    optimiser states, since nothing is trained after it; the finished model is written beside it.

    Args:
        config: the recipe, nothing left open.
        sizes: of the model.
        saves: checkpoints in all.
        keep: whether each leaves its model.
    """
    model, trained = sizes.model_bytes(config.dtype), sizes.trained_bytes(config.dtype)
    states = sizes.state_bytes(config.dtype, config.optim)
    _, method, _ = plugins.method(config.method)
    finished = 2 * model if isinstance(method, LogitMixture) else model
    saved = (trained if sizes.adapters else model) + (model if sizes.adapters and keep else 0)
    kept = model if keep else 0

    def at(save: int) -> int:
        """While a checkpoint is written: those that were left their model, the one before it, and itself."""
        older = kept * max(save - 2, 0) + (saved + states if save > 1 else 0)
        return older + saved + (states if save < saves else 0)

    end = (kept * max(saves - 1, 0)) + saved + finished
    return max(end, *(at(save) for save in (1, saves - 1, saves) if save > 0))


def check(needed: int, folder: Path) -> None:
    """Refuse a training whose checkpoints the disk has no room for, beside what lies in its folder already.

    Raises:
        UserError: there is less.
    """
    place = nearest(folder)
    free = shutil.disk_usage(place).free + _taken(folder)
    if needed > free:
        raise UserError(
            f"the checkpoints take up to {needed / GIGA:,.1f} GB of disk, and at {place} "
            f"{free / GIGA:,.1f} GB are free; make room or choose another --out"
        )


def told(needed: int) -> str:
    """Say what the disk has to have, where that is much."""
    return f"checkpoints take up to {needed / GIGA:,.0f} GB of disk" if needed >= TOLD else ""


def _taken(folder: Path) -> int:
    """Return the bytes of what lies in a folder, which a run goes on from or clears away."""
    taken = 0
    for path in folder.rglob("*"):
        # Another command may be clearing it.
        with suppress(FileNotFoundError):
            taken += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    return taken
