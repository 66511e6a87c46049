"""The output folder's life: work beside it, resume from complete checkpoints, appear at once.

``<out>.partial/`` holds ``recipe.json``, ``reference.json``, ``log.jsonl`` and ``checkpoints/`` while
training runs; at the end the weights go there too, ``unlearn.json`` last, and the folder becomes ``<out>``.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from muse_eval.config import fingerprint
from muse_eval.errors import LocalError, UserError, first_line
from muse_eval.reading import shown
from muse_eval.results.runs import MOST_BYTES
from muse_eval.unlearning.cards import (
    RECIPE,
    read_card,
    read_json,
    write_json,
)
from muse_eval.unlearning.changes import changes

REFERENCE = "reference.json"
LOG = "log.jsonl"
CHECKPOINTS = "checkpoints"
COMPLETE = "complete"
"""Marker in a checkpoint: it was written to its end."""
MERGED = "merged"
"""Folder in a checkpoint of adapters: the model that they make."""
STATE = "trainer_state.json"
"""What training goes on from, beside the weights; absent where only the model was kept."""
TRAINING_ONLY = (
    "optimizer.*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "training_args.bin",
    "*_fsdp.bin",
)
ADAPTERS_ONLY = ("adapter_*", "README.md")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


def partial(out: Path) -> Path:
    """Return the folder that is worked in."""
    if not out.name or out.name == "..":
        raise UserError(f"--out {str(out)!r} names no folder of its own; give it one")
    if len(os.fsencode(out.name)) > MOST_BYTES:
        raise UserError(f"--out {shown(str(out))} has too long a name; give a shorter one")
    return out.with_name(f"{out.name}.partial")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failure to write (disk full, not writable …) into a ``UserError``."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise LocalError(f"cannot write to {folder}: {error}") from error
    except RuntimeError as error:
        # torch.save reports a full disk as a plain RuntimeError of its archive writer.
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        raise LocalError(f"cannot write to {folder}: is the disk full? ({first_line(error)})") from error


def is_finished(
    out: Path, recipe: Mapping[str, Any], keep_checkpoints: bool, note: Callable[[str], None] | None = None
) -> bool:
    """Say whether ``out`` already holds what the recipe makes.

    A model that other code of muse-eval made by the same recipe is taken as it is, and that is noted: whoever
    has trained for a day keeps the model when muse-eval changes.

    Raises:
        UserError: it holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    card = read_card(out)
    if card is None:
        raise UserError(f"{out} exists and was not made by muse-eval; choose another --out")
    if fingerprint({key: card.get(key) for key in recipe} | {"code": recipe["code"]}) != fingerprint(recipe):
        raise UserError(
            f"{out} was made by another recipe{changes(card, recipe)}; choose another --out or --overwrite"
        )
    if keep_checkpoints and not (out / CHECKPOINTS).is_dir():
        raise UserError(f"{out} was made without its checkpoints; --overwrite makes it again")
    if note and card.get("fingerprint") != fingerprint(recipe):
        note(f"{out} was made by another version of muse-eval; --overwrite makes it again")
    return True


def check_replaceable(out: Path, model: str) -> None:
    """Refuse to overwrite what cannot be made again.

    Raises:
        UserError: ``out`` is the model to start from, or was not made by muse-eval.
    """
    if out.exists() and Path(model).exists() and out.samefile(model):
        raise UserError(f"--out {out} is the model to start from; choose another --out")
    if out.is_dir() and any(out.iterdir()) and read_card(out) is None:
        raise UserError(f"{out} was not made by muse-eval and is not overwritten; choose another --out")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose another --out")


def is_ready(out: Path, recipe: Mapping[str, Any]) -> bool:
    """Say whether the partial folder is complete, and a crash came only before it was renamed."""
    card = read_card(partial(out))
    return card is not None and bool(card["fingerprint"] == fingerprint(recipe))


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the partial folder and hold it, in a run's main process, against another run.

    Raises:
        UserError: another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        hold(handle, folder)
        yield
    finally:
        os.close(handle)


def hold(handle: int, folder: Path) -> None:
    """Lock an open folder; the kernel lets go of it when the process dies, however it dies."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{folder} is in use by another run; wait for it or choose another folder") from None


def begin(folder: Path, recipe: Mapping[str, Any], overwrite: bool, needed: str | None = None) -> Path | None:
    """Open the partial folder; return the newest complete checkpoint to resume from, if any.

    Incomplete checkpoints are removed, those too that lack the folder ``needed``, and the log is cut back.

    Raises:
        UserError: another recipe was begun there.
    """
    begun = read_json(folder / RECIPE)
    if (begun is not None and begun != recipe) or read_card(folder) is not None:
        if not overwrite:
            raise UserError(
                f"{folder} was begun with another recipe{changes(begun, recipe)}; "
                "choose another --out or --overwrite"
            )
        empty(folder)
    (folder / CHECKPOINTS).mkdir(exist_ok=True)
    write_json(folder / RECIPE, recipe)
    newest = None
    for found in checkpoints(folder):
        resumable = (found / STATE).exists()
        lacks = resumable and needed is not None and not (found / needed).is_dir()
        if lacks or not (found / COMPLETE).exists():
            shutil.rmtree(found)
        elif resumable:
            newest = found
    cut_log(folder / LOG, step_of(newest) if newest else 0)
    return newest


def empty(folder: Path) -> None:
    """Remove what is in a folder, not the folder itself, which is held."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def checkpoint(folder: Path, step: int) -> Path:
    """Return where a partial folder holds the checkpoint at an optimiser step."""
    return folder / CHECKPOINTS / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """Return the optimiser steps behind a checkpoint, from its folder's name."""
    return int(checkpoint.name.rpartition("-")[2])


def reached(checkpoint: Path) -> str:
    """Say how far training was at a checkpoint that it can go on from: ``epoch 3 of 10, step 21 of 70``."""
    state = read_json(checkpoint / STATE)
    epoch, epochs, step, steps = (
        state[name] for name in ("epoch", "num_train_epochs", "global_step", "max_steps")
    )
    return f"epoch {epoch:.0f} of {epochs}, step {step} of {steps}"


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in a partial or a finished folder, oldest first."""
    return sorted((folder / CHECKPOINTS).glob("checkpoint-*"), key=step_of)


def complete(checkpoint: Path, drop_older: bool) -> None:
    """Mark a checkpoint as complete; only then may the older ones go, or all of them but their model."""
    (checkpoint / COMPLETE).touch()
    for older in checkpoints(checkpoint.parent.parent):
        if step_of(older) < step_of(checkpoint):
            if drop_older:
                shutil.rmtree(older)
            else:
                shed(older)


def shed(checkpoint: Path) -> None:
    """Leave of a checkpoint its model alone, adapters merged; stopped in between, it can be called again."""
    (checkpoint / STATE).unlink(missing_ok=True)  # first: from what is left nothing may be resumed
    _remove(checkpoint, TRAINING_ONLY)
    merged = checkpoint / MERGED
    if merged.is_dir():
        _remove(checkpoint, ADAPTERS_ONLY)
        for path in merged.iterdir():
            path.replace(checkpoint / path.name)
        merged.rmdir()


def drop_weights(checkpoint: Path) -> None:
    """Leave of a checkpoint its place, configuration and tokenizer, not the model."""
    # First of all, so that what is half removed is taken for gone.
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    _remove(checkpoint, WEIGHTS)


def has_weights(folder: Path) -> bool:
    """Tell whether a checkpoint's weights, or those of a finished model, are there in full."""
    return (folder / COMPLETE).exists() or read_card(folder) is not None


def _remove(folder: Path, patterns: Iterable[str]) -> None:
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append a line of JSON."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def cut_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint at ``step``: these steps are run again."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    path.write_text("".join(kept), encoding="utf-8")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read ``log.jsonl``: one mapping an optimiser step."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def appear(out: Path, keep_checkpoints: bool) -> None:
    """Drop what only training needs and rename the partial folder to ``out``, in place of what was there."""
    folder = partial(out)
    if not keep_checkpoints and (folder / CHECKPOINTS).exists():
        shutil.rmtree(folder / CHECKPOINTS)
    for kept in checkpoints(folder):
        shed(kept)
    for name in (RECIPE, REFERENCE):
        (folder / name).unlink(missing_ok=True)
    replaced = folder / "replaced"
    if out.exists():
        # Moved away whole: half removed it would be taken for something that unlearn did not make.
        out.replace(replaced)
    if replaced.exists():
        shutil.rmtree(replaced)
    folder.replace(out)
