"""What was computed once and is kept in the cache beside the answers: a file an entry, checked when read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muse_eval.config import fingerprint
from muse_eval.reading import CORPUS_BYTES, MissingFile, Unreadable, parse_json, read_bytes
from muse_eval.results import write_files
from muse_eval.types import Warn

UTILITY, MODEL_FREE = "utility", "model_free"
KINDS = (UTILITY, MODEL_FREE)
"""Folders of the cache: what lm-eval made of a model, what tells texts apart without one."""


def kept(cache: Path | None, kind: str, key: Mapping[str, Any], warn: Warn) -> dict[str, Any] | None:
    """Return what is kept under a key; a damaged entry is told, and counts for none.

    Args:
        cache: where the cache lies; None: nothing is kept.
        kind: one of ``KINDS``.
        key: all that decides what is kept.
        warn: told, in one line, of damage.
    """
    if cache is None:
        return None
    place = _place(cache, kind, key)
    try:
        entry = parse_json(read_bytes(place, most=CORPUS_BYTES), str(place))
    except MissingFile:
        return None
    except Unreadable as error:
        warn(f"{error}; it is computed again")
        return None
    told = entry.pop("sha256", None) if isinstance(entry, dict) else None
    if told != fingerprint(entry) or entry.pop("key", None) != key:
        warn(f"{place} is damaged; it is computed again")
        return None
    return dict(entry)


def keep(cache: Path | None, kind: str, key: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Keep what was computed under a key, which is stored beside it, with a digest over both."""
    if cache is not None:
        whole = {"key": key, **found}
        entry = json.dumps({**whole, "sha256": fingerprint(whole)}, ensure_ascii=False, allow_nan=False)
        place = _place(cache, kind, key)
        write_files(place.parent, {place.name: f"{entry}\n"})


def _place(cache: Path, kind: str, key: Mapping[str, Any]) -> Path:
    return cache / kind / f"{fingerprint(key)}.json"
