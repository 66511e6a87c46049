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

from muse_eval.config import fingerprint
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.errors import UserError, first_line
from muse_eval.folders import sync, sync_tree
from muse_eval.reading import shown
from muse_eval.results.runs import MOST_BYTES
from muse_eval.unlearning.cards import CARD, RECIPE, card_name, find_card, read_card, read_json, write_json
from muse_eval.unlearning.changes import changes
from muse_eval.unlearning.model_card import write_model_card

PARTIAL = ".partial"
"""How the name of a folder that is worked in ends."""
REFERENCE = "reference.json"
MEMORY = "memory.json"
"""How memory is saved, where that was chosen: a run that goes on keeps to it."""
LOG = "log.jsonl"
CHECKPOINTS = "checkpoints"
COMPLETE = "complete"
"""Seal of a checkpoint: it was written to its end; see ``seals``."""
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
_AGAIN = "--overwrite makes it again"


def partial(out: Path) -> Path:
    """Return the folder that is worked in, beside ``out`` or what it links to."""
    if not out.name or out.name == "..":
        raise UserError(f"--out {str(out)!r} names no folder of its own; give it one")
    if len(os.fsencode(out.name)) > MOST_BYTES:
        raise UserError(f"--out {shown(str(out))} has too long a name; give a shorter one")
    place = real(out)
    return place.with_name(f"{place.name}{PARTIAL}")


def real(out: Path) -> Path:
    """Return the folder that is made: what ``out`` points to where it is a link, which stays.

    Raises:
        UserError: the link leads nowhere.
    """
    place = Path(os.path.realpath(out)) if out.is_symlink() else out
    if place.is_symlink():
        raise UserError(f"--out {out} is a link that leads back to itself; name a folder")
    return place


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
    if fault := model_fault(out):
        raise UserError(f"{fault}, though muse-eval made it whole; {_AGAIN}, or choose another --out")
    if keep_checkpoints and not (out / CHECKPOINTS).is_dir():
        raise UserError(f"{out} was made without its checkpoints; {_AGAIN}")
    if note and card.get("fingerprint") != fingerprint(recipe):
        note(f"{out} was made by another version of muse-eval; {_AGAIN}")
    return True


def model_fault(folder: Path) -> str | None:
    """Say in a few words what a finished model lacks: weights, a shard, its configuration or tokenizer."""
    try:
        find_checkpoint(str(folder), trust_remote_code=True, composed=True)
    except UserError as error:
        # What would help someone who loads it is no help to who made it.
        return str(error).rpartition("; ")[0] or str(error)
    for name in ("tokenizer_config.json", "tokenizer.json"):
        needed = name == "tokenizer_config.json" or (folder / name).exists()
        if needed and read_json(folder / name) is None:
            return f"{folder / name} is missing or damaged"
    return None


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
    folder = partial(out)
    card = find_card(folder)
    known = read_json(card) if card else None
    return (
        known is not None and known.get("fingerprint") == fingerprint(recipe) and model_fault(folder) is None
    )


def finish(folder: Path, recipe: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Wait until a partial folder is on the disk, and say by its card that it is ready."""
    if card_name(recipe) == CARD:
        write_model_card(folder, folder.name.removesuffix(PARTIAL), card)
    sync_tree(folder)
    write_json(folder / card_name(recipe), card)


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


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in a partial or a finished folder, oldest first."""
    found = (folder / CHECKPOINTS).glob("checkpoint-*")
    return sorted((path for path in found if path.name.rpartition("-")[2].isdecimal()), key=step_of)


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


def log_lines(path: Path, step: int) -> list[str]:
    """Return the sound lines of ``log.jsonl`` for the steps 1 to ``step``, up to the first that is not."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return []
    for number, line in enumerate(lines[:step], 1):
        if not line.endswith("\n") or _logged_step(line) != number:
            return lines[: number - 1]
    return lines[:step]


def _logged_step(line: str) -> Any:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found.get("step") if isinstance(found, dict) else None


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read ``log.jsonl``: one mapping an optimiser step.

    Raises:
        UserError: the file is not what muse-eval wrote.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); {_AGAIN}") from None
    if not all(isinstance(line, dict) and isinstance(line.get("step"), int) for line in lines):
        raise UserError(f"{path} is no log of muse-eval's; {_AGAIN}")
    return lines


def appear(out: Path, keep_checkpoints: bool) -> None:
    """Drop what only training needs and rename the partial folder to ``out``, in place of what was there."""
    folder, out = partial(out), real(out)
    if not keep_checkpoints and (folder / CHECKPOINTS).exists():
        shutil.rmtree(folder / CHECKPOINTS)
    for kept in checkpoints(folder):
        shed(kept)
    for name in (RECIPE, REFERENCE, MEMORY):
        (folder / name).unlink(missing_ok=True)
    replaced = folder / "replaced"
    if out.exists():
        # Moved away whole: half removed it would be taken for something that unlearn did not make.
        out.replace(replaced)
    if replaced.exists():
        shutil.rmtree(replaced)
    folder.replace(out)
    sync(out.parent)
