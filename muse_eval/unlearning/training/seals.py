"""A checkpoint's seal, its file ``complete``: the digest of all that training goes on from there.

Files are on the disk before they are sealed, and what is sealed is compared before it is used. Version 0.1
left an empty file as the mark: such a checkpoint is looked through for what is missing, cut or no longer
fits its own checksums.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from muse_eval.config import canonical_json
from muse_eval.folders import sync, sync_tree, weights_fault, write_whole
from muse_eval.provenance import joined_digest
from muse_eval.unlearning.cards import RECIPE, read_json
from muse_eval.unlearning.training.output import (
    ADAPTERS_ONLY,
    COMPLETE,
    LOG,
    MERGED,
    REFERENCE,
    STATE,
    TRAINING_ONLY,
    checkpoints,
    log_lines,
    shed,
    step_of,
)

NEEDED = ("optimizer.*", "scheduler.pt", "rng_state*.pth")
"""Without these training would go on, and come to other weights."""

READ = (".safetensors", ".bin", ".pt", ".pth", ".json")
"""What training or loading would read, so that a file more of these is another checkpoint."""

BLOCK = 1 << 18
"""Bytes that are read at a time: they stay in the processor's cache."""

REACHED = ("epoch", "num_train_epochs", "global_step", "max_steps")
"""What ``trainer_state.json`` tells of how far training was."""

Files = Mapping[str, Mapping[str, Any]]
"""By name, relative to a folder: ``bytes`` and ``sha256``."""


def complete(checkpoint: Path, drop_older: bool) -> None:
    """Seal a checkpoint; only then may the older ones go, or all of them but their model."""
    seal(checkpoint)
    for older in checkpoints(checkpoint.parent.parent):
        if step_of(older) < step_of(checkpoint):
            if drop_older:
                shutil.rmtree(older)
            else:
                shed(older)


def seal(checkpoint: Path) -> None:
    """Wait until a checkpoint is on the disk, and mark it as complete by the digests of all that it needs."""
    home = checkpoint.parent.parent
    sync_tree(checkpoint)
    beside = [home / name for name in (RECIPE, REFERENCE, LOG) if (home / name).exists()]
    for path in beside:
        sync(path)
    sealed = {"checkpoint": _digests(checkpoint, _files(checkpoint)), "beside": _digests(home, beside)}
    whole = {**sealed, "sha256": joined_digest([canonical_json(sealed)])}
    write_whole(checkpoint / COMPLETE, json.dumps(whole, indent=2) + "\n")


def is_sealed(checkpoint: Path) -> bool:
    """Say whether a checkpoint was once written to its end."""
    return (checkpoint / COMPLETE).exists()


def sealed_recipe(checkpoint: Path) -> str | None:
    """Return the digest of the ``recipe.json`` that a checkpoint was made by; None where no seal says it."""
    found = _read(checkpoint)
    return found["beside"].get(RECIPE, {}).get("sha256") if found else None


def fault(checkpoint: Path) -> str | None:
    """Say in a few words what of a complete checkpoint is no longer as it was written; None if nothing is.

    Of one that was left its model alone (``output.shed``), only the model is compared.
    """
    if not checkpoint.is_dir():
        return "is no folder"
    seal_file = checkpoint / COMPLETE
    if seal_file.is_file() and seal_file.stat().st_size == 0:
        return _unsealed_fault(checkpoint)
    found = _read(checkpoint)
    if found is None:
        return f"{COMPLETE} is damaged"
    files: Files = found["checkpoint"]
    resumable = (checkpoint / STATE).exists()
    if not resumable:
        return _difference(_places(checkpoint, _of_model(files)))
    # A note of one's own beside the files is nobody's fault.
    read = [path for path in _files(checkpoint) if path.suffix in READ]
    more = {str(path.relative_to(checkpoint)) for path in read} - files.keys()
    if more:
        return f"{min(more)} was added"
    home = checkpoint.parent.parent
    return _difference({**_places(checkpoint, files), **_places(home, found["beside"])})


# ── the seal ─────────────────────────────────────────────────────────────────────────────────────
def _files(checkpoint: Path) -> list[Path]:
    """List what is in a checkpoint, but for the seal and hidden files."""
    paths = (path for path in checkpoint.rglob("*") if not path.is_dir())
    return sorted(
        path for path in paths if not path.name.startswith((".", f"{COMPLETE}.")) and path.name != COMPLETE
    )


def _digest(path: Path, length: int | None = None) -> dict[str, Any] | None:
    """Return a file's length and SHA-256, of its first bytes alone where a length is given."""
    digest, left = hashlib.sha256(), path.stat().st_size if length is None else length
    size = left
    block = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while left and (count := file.readinto(block[: min(left, BLOCK)])):
            digest.update(block[:count])
            left -= count
    return None if left else {"bytes": size, "sha256": digest.hexdigest()}


def _digests(home: Path, paths: Iterable[Path]) -> dict[str, Any]:
    listed = list(paths)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_digest, listed))
    return {str(path.relative_to(home)): one for path, one in zip(listed, found, strict=True)}


def _read(checkpoint: Path) -> dict[str, Any] | None:
    """Read a seal; None where it is not whole, or there is none."""
    found = read_json(checkpoint / COMPLETE)
    if found is None:
        return None
    told = found.pop("sha256", None)
    return found if told == joined_digest([canonical_json(found)]) else None


def _of_model(files: Files) -> Files:
    """Return what of the sealed files stays when the rest is shed."""
    patterns: tuple[str, ...] = (STATE, *TRAINING_ONLY)
    if any(name.startswith(f"{MERGED}/") for name in files):
        patterns = (*patterns, *ADAPTERS_ONLY)
    return {name: one for name, one in files.items() if not any(fnmatch(name, each) for each in patterns)}


def _places(home: Path, files: Files) -> dict[Path, Mapping[str, Any]]:
    """Return where sealed files lie: the merged model in a folder of its own, or in place of its adapters."""
    places = {}
    for name, one in files.items():
        path = home / name
        if name.startswith(f"{MERGED}/") and not path.exists():
            path = home / name.removeprefix(f"{MERGED}/")
        places[path] = one
    return places


def _difference(places: Mapping[Path, Mapping[str, Any]]) -> str | None:
    def compare(path: Path) -> str | None:
        if not path.exists():
            return f"{path.name} is missing"
        if not path.is_file():
            return f"{path.name} is no file"
        # To the log lines are added after a checkpoint.
        length = places[path]["bytes"] if path.name == LOG else None
        return None if _digest(path, length) == places[path] else f"{path.name} is not as it was written"

    with ThreadPoolExecutor() as pool:
        return next((told for told in pool.map(compare, places) if told), None)


# ── the mark of version 0.1 ──────────────────────────────────────────────────────────────────────
def _unsealed_fault(checkpoint: Path) -> str | None:
    if not (checkpoint / STATE).exists():
        return weights_fault(checkpoint)
    state = read_json(checkpoint / STATE)
    known = state is not None and all(isinstance(state.get(name), int | float) for name in REACHED)
    if not known or state["global_step"] != step_of(checkpoint):
        return f"{STATE} is damaged"
    step = step_of(checkpoint)
    if len(log_lines(checkpoint.parent.parent / LOG, step)) != step:
        return f"{LOG} is damaged"
    for pattern in NEEDED:
        found = list(checkpoint.glob(pattern))
        if not found:
            return f"{pattern} is missing"
        for path in found:
            if not _is_sound_archive(path):
                return f"{path.name} is damaged"
    return weights_fault(checkpoint)


def _is_sound_archive(path: Path) -> bool:
    """Tell whether a file of ``torch.save``, which is a zip archive, fits its own checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError):
        return False
