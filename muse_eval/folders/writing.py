"""Files whole and on the disk, folders taken in turn, and what is said where none of it can be done."""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from muse_eval.errors import LocalError, UserError, first_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a disk, a quota or a file's size is used up."""

TORCH_FULL = ("PytorchStreamWriter", "inline_container", "basic_ios::clear")
"""What torch's archive writer says then."""


def nearest(folder: Path) -> Path:
    """Return a folder, or where that is still to be made the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot do so, for a folder or at all.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF):
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Wait until all that is below a folder is on the disk, the folder's own list of names last."""
    for home, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(home, name)
            if path.is_file() and not path.is_symlink():
                sync(path)
        sync(Path(home))


def write_whole(path: Path, text: str) -> None:
    """Write a text so that it is there in full or not at all, even where the power fails."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Let one process after the other into a block, where the folder's file system can lock.

    Where it cannot, or the folder cannot be made, the block is entered all the same: to write there is then
    refused by the block itself, or goes unguarded for its short while.
    """
    handle = None
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove the temporaries that a killed process left in a folder that no other process writes to now."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            path.unlink()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failure to write (disk full, not writable …) into a ``UserError`` that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = _unwritable(error)
        if why is None:
            raise
        raise LocalError(f"cannot write to {folder}: {why}") from error


def _unwritable(error: Exception) -> str | None:
    """Say why something could not be written, and what helps; None where the error is another.

    torch reports a full disk as a ``RuntimeError`` of its archive writer, what is written in Rust (weights,
    tokenizers) as an exception with the system's number in its text.
    """
    told, again = first_line(error), "then run the same command again"
    archive = isinstance(error, RuntimeError) and any(mark in str(error) for mark in TORCH_FULL)
    numbered = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(numbered[1]) if numbered else None
    if archive or number in FULL:
        said = "" if archive else f" ({told})"
        return f"is the disk full?{said}; free some space, {again}"
    if number in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return f"{told}; move away what is in its place, {again}"
    return told if isinstance(error, OSError) or type(error).__name__ == "SafetensorError" else None
