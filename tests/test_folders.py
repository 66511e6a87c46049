"""What is written is there in full or not at all, and where that cannot be, one line says what to do."""

import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from muse_eval.errors import UserError
from muse_eval.folders import in_turn, weights_fault, write_whole, writing

FREE = "is the disk full?.*; free some space, then run the same command again$"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), FREE),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), FREE),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\nmore"), FREE),
        (RuntimeError("basic_ios::clear: iostream error"), FREE),
        (Exception("No space left on device (os error 28)"), FREE),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "out/recipe.json"), "move away what is in its"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "Permission denied: 'out'$"),
    ],
)
def test_what_cannot_be_written_is_one_line(tmp_path: Path, error: Exception, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught, writing(tmp_path):
        raise error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes do not fit"),
        Exception("No such file (os error 2)"),
        UserError("mine"),
        KeyError(1),
    ],
)
def test_another_error_stays_what_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, writing(tmp_path):
        raise error
    assert caught.value is error


@pytest.fixture
def small_disk() -> Iterator[None]:
    """A limit on a file's size stands in for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_what_was_there_stays_where_the_disk_is_full(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    write_whole(path, "before")
    with pytest.raises(OSError, match="File too large"):
        write_whole(path, "x" * 2000)
    assert [one.read_text() for one in tmp_path.iterdir()] == ["before"]


def test_no_two_are_in_a_folder_at_once(tmp_path: Path) -> None:
    def take() -> None:
        handle = os.open(tmp_path / "run", os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(handle)

    with in_turn(tmp_path / "run"), pytest.raises(BlockingIOError):
        take()
    take()


def test_a_folder_that_cannot_be_made_is_told_by_who_writes_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with in_turn(tmp_path / "file" / "run"):
        assert not (tmp_path / "file" / "run").is_dir()


def header(entries: str, size: int) -> bytes:
    return len(entries).to_bytes(8, "little") + entries.encode() + bytes(size)


WHOLE = header('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8)


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"model.safetensors": WHOLE}, None),
        ({}, "its weights are missing"),
        ({"model.safetensors": WHOLE[:-1]}, "model.safetensors is cut or damaged"),
        ({"model.safetensors": b""}, "model.safetensors is cut or damaged"),
        (
            {"a.safetensors": WHOLE, "m.safetensors.index.json": b'{"weight_map": {"x": "b.safetensors"}}'},
            "b.safetensors is missing",
        ),
        (
            {"a.safetensors": WHOLE, "m.safetensors.index.json": b'{"weight_map": 3}'},
            "m.safetensors.index.json is damaged",
        ),
    ],
)
def test_weights_are_looked_through(tmp_path: Path, files: dict[str, bytes], fault: str | None) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert weights_fault(tmp_path) == fault
