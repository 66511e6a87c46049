"""Opens what others wrote: a regular file, not too large, in UTF-8; anything else is said at once."""

import errno
import stat
from functools import cache
from pathlib import Path

from muse_eval.errors import UserError, first_line

MOST_BYTES = 2**28
"""Of a file that describes something: a configuration, a card, a result."""
CORPUS_BYTES = 2**32
"""Of a file of rows: a corpus, records, answers."""
_UNNAMEABLE = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Unreadable(UserError):  # noqa: N818 - it says what the text is
    """A file or a text of someone else's that is not what it should be; one line says where and why."""


class MissingFile(Unreadable):
    """There is no such file."""


def typed_path(text: str | Path, what: str = "") -> Path:
    """Return the path that someone typed, ``~`` expanded.

    Raises:
        UserError: no file can be called so: its name is too long or holds a NUL, or ``~NAME`` is no user's.
    """
    place = f"{what} {shown(str(text))}".strip()
    try:
        path = Path(text).expanduser()
        path.stat()
    except RuntimeError:
        raise UserError(f"{place}: there is no such user here; write the folder out") from None
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno in _UNNAMEABLE:
            raise UserError(f"{place} cannot be a path: {_reason(error)}") from None
    return path


def shown(text: str) -> str:
    """Return a text as an error shows it: escaped where it is not printable, cut where it is long."""
    plain = text if text.isprintable() else repr(text)
    return plain if len(plain) <= 200 else f"{plain[:100]}…{plain[-60:]} ({len(text):,} characters)"


def read_bytes(path: Path, what: str = "", most: int = MOST_BYTES) -> bytes:
    """Read a regular file; a pipe or a device is never waited for.

    Args:
        path: the file, or a link to it.
        what: what errors call it, before its path.
        most: bytes that it may have.

    Raises:
        MissingFile: there is none.
        Unreadable: it is no regular file, larger, or may not be read.
    """
    place = f"{what} {shown(str(path))}".strip()
    try:
        found = path.stat()
        kind = stat.S_IFMT(found.st_mode)
        if kind != stat.S_IFREG:
            raise Unreadable(f"{place} cannot be read: it is {_KINDS.get(kind, 'no file')}")
        if found.st_size > most:
            raise Unreadable(f"{place} cannot be read: {found.st_size:,} bytes, at most {most:,} are")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFile(f"{place} does not exist") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{place} cannot be read: {_reason(error)}") from None


def require_files(folder: Path) -> None:
    """Refuse a folder that holds a pipe, a device or the like, which another library would wait for.

    Raises:
        Unreadable: it does (named), or cannot be looked into.
    """
    try:
        for path in sorted(folder.iterdir()):
            # A link to nowhere is left to whoever looks for the file.
            kind = stat.S_IFMT(path.stat().st_mode) if path.exists() else stat.S_IFREG
            if kind not in (stat.S_IFREG, stat.S_IFDIR):
                raise Unreadable(f"{shown(str(path))} cannot be read: it is {_KINDS.get(kind, 'no file')}")
    except OSError as error:
        raise Unreadable(f"{shown(str(folder))} cannot be read: {_reason(error)}") from None


def read_text(path: Path, what: str = "", most: int = MOST_BYTES) -> str:
    """Read a regular file of UTF-8; its line ends become plain ones, as in Python's own text files.

    Raises:
        MissingFile: there is none.
        Unreadable: it cannot be read as such, see ``read_bytes``.
    """
    place = f"{what} {shown(str(path))}".strip()
    text = decoded(read_bytes(path, what, most), place)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_kept(path: Path) -> str:
    """Return the text of a file of the package, read once for as long as it stays as it is."""
    found = path.stat()
    return _kept(path, found.st_mtime_ns, found.st_size)


@cache
def _kept(path: Path, changed: int, size: int) -> str:  # noqa: ARG001
    return path.read_text(encoding="utf-8")


def decoded(content: bytes, where: str) -> str:
    """Decode UTF-8.

    Raises:
        Unreadable: it is none.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        why = f"{error.reason} at byte {error.start}"
        raise Unreadable(f"{where} cannot be read: it is not UTF-8 ({why}); convert it") from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)
