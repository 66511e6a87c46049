"""Where a number came from: digests of weights and tokenizer, versions, commit, device."""

import hashlib
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path

from muse_eval.errors import UserError

PACKAGES = (
    "muse-eval",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "rouge-score",
    "scikit-learn",
    "numpy",
)


def named_digest(path: Path) -> str | None:
    """Return the SHA-256 that a blob of the hub's cache bears as its name; None of any other file."""
    blob = path.resolve()
    return blob.name if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name) else None


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256; a blob of the hub's cache already bears it as its name.

    Raises:
        UserError: the file cannot be read.
    """
    if (name := named_digest(path)) is not None:
        return name
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def file_digests(files: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file, several hashed at once.

    Raises:
        UserError: one cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(file_sha256, files))


def files_digest(
    files: Iterable[Path], digests: Callable[[Sequence[Path]], Sequence[str]] = file_digests
) -> str:
    """Return one SHA-256 over the names and contents of files, whatever their order.

    Args:
        files: the files.
        digests: gives the SHA-256 of each.
    """
    ordered = sorted(files, key=lambda path: path.name)
    return joined_digest(
        f"{path.name} {digest}" for path, digest in zip(ordered, digests(ordered), strict=True)
    )


def joined_digest(lines: Iterable[str]) -> str:
    """Return one SHA-256 over lines of text, in order."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


@cache
def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python and of every installed package that shapes a number, and of more."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """Return the commit of the checkout this code runs from, with ``+`` where it has changes."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(  # nosec B603  # a fixed command, no shell
            command, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
