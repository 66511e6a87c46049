"""Digests of large files that were hashed before, taken again as long as nothing says that a file changed."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from muse_eval.config import fingerprint
from muse_eval.folders import in_turn, write_whole
from muse_eval.provenance import file_digests, named_digest
from muse_eval.reading import Unreadable, parse_json, read_bytes

NAME = "digests.json"
LARGE = 64 * 2**20
"""Bytes from which a file's digest is remembered; smaller ones are hashed in no time."""
SETTLED = 2 * 10**9
"""Nanoseconds for which a file must have lain unchanged before it is hashed.

A later change within the same tick of the file system's clock would leave its times as they were.
"""


class RememberedDigests:
    """The SHA-256 of files; those of large ones lie in a cache folder, with all that tells a change.

    A digest is taken from there only where path, size, times of change (of content and of anything, in
    nanoseconds), inode and device are what they were before and after the file was hashed. What the folder
    holds is whole, or counts for nothing.
    """

    def __init__(self, cache: Path) -> None:
        """Take the folder of the cache; it is made when there is something to remember."""
        self._cache = cache

    def __call__(self, files: Sequence[Path]) -> list[str]:
        """Return the SHA-256 of each file.

        Raises:
            UserError: one cannot be read.
        """
        states = [_state(path) for path in files]
        large = [state is not None and state[0] >= LARGE for state in states]
        known = self._read() if any(large) else {}
        told = [
            _known(known, path, state) if one else None
            for path, state, one in zip(files, states, large, strict=True)
        ]
        settled = time.time_ns() - SETTLED
        asked = [path for path, digest in zip(files, told, strict=True) if digest is None]
        hashed = dict(zip(asked, file_digests(asked), strict=True))
        fresh = {
            _key(path): [*state, hashed[path]]
            for path, state, one in zip(files, states, large, strict=True)
            if one
            and path in hashed
            and state is not None
            and max(state[1:3]) < settled
            and _state(path) == state
        }
        if fresh:
            self._write(fresh)
        return [digest or hashed[path] for path, digest in zip(files, told, strict=True)]

    def _read(self) -> dict[str, Any]:
        """Return what is remembered; nothing where the file is missing, damaged or of another kind."""
        place = self._cache / NAME
        with suppress(Unreadable, OSError):
            found = parse_json(read_bytes(place), str(place))
            if isinstance(found, dict) and isinstance(files := found.get("files"), dict):
                return files if found.get("sha256") == fingerprint(files) else {}
        return {}

    def _write(self, fresh: Mapping[str, list[Any]]) -> None:
        """Remember more; what belongs to files that are gone or have changed is left out."""
        with suppress(OSError), in_turn(self._cache):
            there = {**self._read(), **fresh}
            files = {
                key: entry for key, entry in there.items() if _known(there, Path(key), _state(Path(key)))
            }
            whole = {"files": files, "sha256": fingerprint(files)}
            write_whole(self._cache / NAME, f"{json.dumps(whole, indent=1)}\n")


def _key(path: Path) -> str:
    return str(path.resolve())


def _state(path: Path) -> list[int] | None:
    """Return size, times of change, inode and device of a file; None of one that is named by its digest.

    Nor is anything known of one whose name is no plain text, or that is not there.
    """
    if named_digest(path) is not None or not _key(path).isprintable():
        return None
    with suppress(OSError):
        now = path.stat()
        return [now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, now.st_dev]
    return None


def _known(entries: Mapping[str, Any], path: Path, state: list[int] | None) -> str | None:
    """Return the digest that is remembered of a file in this state."""
    entry = entries.get(_key(path))
    if state is None or not isinstance(entry, list) or entry[:-1] != state:
        return None
    digest = entry[-1]
    return digest if isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) else None
