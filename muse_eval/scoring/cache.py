"""What the cache of answers holds, engine by engine, and how to be rid of it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from muse_eval.errors import UserError
from muse_eval.scoring.answers import EngineAnswers, engine_of
from muse_eval.scoring.kept import KINDS
from muse_eval.types import Warn


@dataclass(frozen=True)
class CacheEntry:
    """What the cache holds of one engine."""

    folder: Path
    engine: str
    answers: int
    num_bytes: int


def cache_info(root: Path, warn: Warn) -> list[CacheEntry]:
    """List the answers that the cache holds, engine by engine; the little that is kept beside them is not."""
    entries = []
    for folder in sorted(path for path in root.glob("*") if path.is_dir() and path.name not in KINDS):
        engine = engine_of(folder)
        kept = EngineAnswers(root, engine, warn)
        size = sum(path.stat().st_size for path in folder.glob("*.jsonl"))
        entries.append(CacheEntry(folder, engine, len(kept.answers), size))
    return entries


def cache_clear(root: Path) -> int:
    """Delete the cache and return the bytes freed.

    Raises:
        UserError: it cannot be deleted.
    """
    freed = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    try:
        for path in root.iterdir() if root.is_dir() else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if root.is_dir() and not root.is_symlink():
            root.rmdir()
    except OSError as error:
        place, why = error.filename or root, error.strerror or error
        raise UserError(f"cannot delete {place}: {why}; remove what is in {root} by hand") from None
    return freed
