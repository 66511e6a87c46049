"""Writes files so that each is whole or absent: to temporaries first, then renamed."""

import errno
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from muse_eval.errors import UserError
from muse_eval.folders import FULL


def encode(text: str) -> bytes:
    """Return a text in UTF-8, a lone surrogate as its JSON escape."""
    # A lone surrogate has no UTF-8; its backslash form is the JSON escape for it, so it reads back.
    return text.encode("utf-8", "backslashreplace")


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write texts or bytes atomically: all of them to temporaries first, then renamed in the order given.

    A link stays, and the file that it leads to is replaced; a device or a pipe is written to as it is.

    Raises:
        UserError: the folder cannot be made or written; what it held before is then untouched.
    """
    mark = f"{os.getpid()}-{uuid.uuid4().hex}"
    places: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            place = folder / name
            is_stream = place.exists() and not place.is_file()
            place = place if is_stream else _place(place)
            temporary = place if is_stream else place.with_name(f".{name}.{mark}.tmp")
            with temporary.open("wb" if is_stream else "xb") as file:
                if not is_stream:
                    places[temporary] = place
                file.write(content if isinstance(content, bytes) else encode(content))
                file.flush()
                if not is_stream:
                    os.fsync(file.fileno())
        for temporary, place in places.items():
            temporary.replace(place)
    except OSError as error:
        remedy = "free some space" if error.errno in FULL else "make it a folder that can be written"
        reason = error.strerror or str(error)
        raise UserError(f"cannot write to {folder}: {reason}; {remedy} or choose another one") from None
    finally:
        for temporary in places:
            with suppress(OSError):
                temporary.unlink()


def _place(path: Path) -> Path:
    """Return the file that a path leads to over links."""
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return place
