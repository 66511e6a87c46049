"""What a run that was stopped goes on from: the newest checkpoint that is as it was written."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from muse_eval.config import fingerprint
from muse_eval.errors import UserError
from muse_eval.folders import write_whole
from muse_eval.unlearning.cards import RECIPE, find_card, read_json, write_json
from muse_eval.unlearning.changes import changes
from muse_eval.unlearning.training import seals
from muse_eval.unlearning.training.output import (
    CHECKPOINTS,
    LOG,
    REFERENCE,
    STATE,
    checkpoints,
    empty,
    log_lines,
    model_fault,
    step_of,
)


def begin(
    folder: Path,
    recipe: Mapping[str, Any],
    overwrite: bool,
    needed: str | None = None,
    note: Callable[[str], None] | None = None,
) -> Path | None:
    """Open the partial folder; return the newest sound checkpoint to resume from, if any.

    Incomplete and damaged checkpoints are removed, those too that lack the folder ``needed``, and the log is
    cut back. What is damaged is noted in one line.

    Raises:
        UserError: another recipe was begun there.
    """
    if not _belongs(folder, recipe):
        if not overwrite:
            raise UserError(
                f"{folder} was begun with another recipe{changes(read_json(folder / RECIPE), recipe)}; "
                "choose another --out or --overwrite"
            )
        empty(folder)
    (folder / CHECKPOINTS).mkdir(exist_ok=True)
    write_json(folder / RECIPE, recipe)
    newest, faults = _look_through(folder, needed)
    if card := find_card(folder):
        faults.insert(0, f"the finished model is damaged ({model_fault(folder)})")
        card.unlink()
    if newest is None:
        # Taken from the target again: nothing was trained yet that could be mistaken for it.
        (folder / REFERENCE).unlink(missing_ok=True)
    if faults and note:
        note("; ".join(faults) + (": begins anew" if newest is None else ": what followed is trained again"))
    cut_log(folder / LOG, step_of(newest) if newest else 0)
    return newest


def _belongs(folder: Path, recipe: Mapping[str, Any]) -> bool:
    """Say whether what a partial folder holds was made by a recipe, or nothing is there yet.

    What its checkpoints were sealed with goes before ``recipe.json``, which may be lost or damaged.
    """
    there = [one for one in checkpoints(folder) if seals.is_sealed(one)]
    sealed = {told for one in there if (told := seals.sealed_recipe(one)) is not None}
    if sealed:
        return _digest(recipe) in sealed
    begun = read_json(folder / RECIPE)
    if begun is not None:
        return bool(begun == recipe)
    if card := find_card(folder):
        return bool((read_json(card) or {}).get("fingerprint") == fingerprint(recipe))
    return not there and not (folder / RECIPE).exists()


def _digest(recipe: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a recipe as ``write_json`` writes it."""
    text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
    return hashlib.sha256(text.encode()).hexdigest()


def _look_through(folder: Path, needed: str | None) -> tuple[Path | None, list[str]]:
    """Remove every checkpoint that will not do; return the newest to resume from, and what was damaged."""
    newest, faults = None, []
    for found in checkpoints(folder):
        fault = seals.fault(found) if seals.is_sealed(found) or not found.is_dir() else None
        if fault:
            faults.append(f"{found.name} is damaged ({fault})")
        resumable = (found / STATE).exists()
        lacks = resumable and needed is not None and not (found / needed).is_dir()
        if fault or lacks or not seals.is_sealed(found):
            _remove(found)
        elif resumable:
            newest = found
    step = step_of(newest) if newest else 0
    for later in [one for one in checkpoints(folder) if step_of(one) > step]:
        faults.append(f"{later.name} is damaged ({STATE} is missing)")
        _remove(later)
    return newest, faults


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def reached(checkpoint: Path) -> str:
    """Say how far training was at a checkpoint that it can go on from: ``epoch 3 of 10, step 21 of 70``."""
    state = read_json(checkpoint / STATE)
    epoch, epochs, step, steps = (state[name] for name in seals.REACHED)
    return f"epoch {epoch:.0f} of {epochs}, step {step} of {steps}"


def cut_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint at ``step``: these steps are run again."""
    kept = "".join(log_lines(path, step))
    if not path.exists() or path.read_bytes() != kept.encode():
        write_whole(path, kept)
