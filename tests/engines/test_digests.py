"""Remembered digests: a second look costs nothing, and nothing that changed is taken for what it was."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from muse_eval import provenance
from muse_eval.config import fingerprint
from muse_eval.engines import ModelSource, choose_engine, digests, open_engine
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.engines.digests import NAME, RememberedDigests
from muse_eval.errors import UserError
from muse_eval.scoring import cache_clear, cache_info


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Remember files of any size, however young; what is hashed is listed."""
    seen: list[Path] = []

    def file_digests(files: Sequence[Path]) -> list[str]:
        seen.extend(files)
        return provenance.file_digests(files)

    monkeypatch.setattr(digests, "LARGE", 0)
    monkeypatch.setattr(digests, "SETTLED", 0)
    monkeypatch.setattr(digests, "file_digests", file_digests)
    return seen


def of(content: bytes) -> str:
    return sha256(content).hexdigest()


def test_a_file_is_hashed_once(tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cache, one, other = tmp_path / "cache", tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    assert RememberedDigests(cache)([one, other]) == [of(b"1"), of(b"2")]
    assert hashed == [one, other]
    # Another object reads what the first wrote, by whatever way the file is named.
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(other)
    assert RememberedDigests(cache)([Path("one"), link, one]) == [of(b"1"), of(b"2"), of(b"1")]
    assert hashed == [one, other]


Change = Callable[[Path], None]


def rewritten(path: Path) -> None:
    path.write_bytes(b"changed!")


def with_its_old_times(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"changed!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    before, fresh = path.stat(), path.with_name("fresh")
    fresh.write_bytes(b"changed!")
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(path)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"+")


def linked_elsewhere(path: Path) -> None:
    other = path.with_name("elsewhere")
    other.write_bytes(b"changed!")
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("change", [rewritten, with_its_old_times, replaced, grown, linked_elsewhere])
def test_a_file_that_changed_is_hashed_again(tmp_path: Path, hashed: list[Path], change: Change) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"original")
    remembered = RememberedDigests(tmp_path / "cache")
    assert remembered([path]) == [of(b"original")]
    time.sleep(0.02)  # a tick of the clock by which files get their times
    change(path)
    assert remembered([path]) == [of(path.read_bytes())] != [of(b"original")]
    assert hashed == [path, path]
    assert remembered([path]) == [of(path.read_bytes())]
    assert len(hashed) == 2


@pytest.mark.parametrize("field", range(5))
def test_each_part_of_a_file_s_state_counts(tmp_path: Path, hashed: list[Path], field: int) -> None:
    path, place = tmp_path / "weights", tmp_path / "cache" / NAME
    path.write_bytes(b"original")
    remembered = RememberedDigests(tmp_path / "cache")
    remembered([path])
    files = json.loads(place.read_text())["files"]
    files[str(path)][field] += 1
    files[str(path)][-1] = of(b"another")
    place.write_text(json.dumps({"files": files, "sha256": fingerprint(files)}))
    assert remembered([path]) == [of(b"original")]
    assert len(hashed) == 2


@pytest.mark.usefixtures("hashed")
def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"original")
    hash_them = provenance.file_digests

    def interrupted(files: Sequence[Path]) -> list[str]:
        found = hash_them(files)
        rewritten(path)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(digests, "file_digests", interrupted)
        assert RememberedDigests(tmp_path / "cache")([path]) == [of(b"original")]
    assert not (tmp_path / "cache").exists()
    assert RememberedDigests(tmp_path / "cache")([path]) == [of(b"changed!")]


def test_a_file_that_was_just_written_is_not_remembered(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"original")
    # Long ago by its own word, but set so just now.
    os.utime(path, (0, 0))
    monkeypatch.setattr(digests, "SETTLED", 60 * 10**9)
    assert RememberedDigests(tmp_path / "cache")([path]) == [of(b"original")]
    # By a clock that runs ahead.
    monkeypatch.setattr(digests, "SETTLED", 0)
    os.utime(path, (2**33, 2**33))
    assert RememberedDigests(tmp_path / "cache")([path]) == [of(b"original")]
    assert not (tmp_path / "cache").exists()
    assert len(hashed) == 2


@pytest.mark.usefixtures("hashed")
def test_small_files_and_those_that_bear_their_digest_are_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = tmp_path / "blobs" / ("a" * 64)
    blob.parent.mkdir()
    blob.write_bytes(b"x" * 200)
    small = tmp_path / "small"
    small.write_bytes(b"x" * 99)
    monkeypatch.setattr(digests, "LARGE", 100)
    assert RememberedDigests(tmp_path / "cache")([blob, small]) == ["a" * 64, of(b"x" * 99)]
    assert not (tmp_path / "cache").exists()
    small.write_bytes(b"x" * 100)
    RememberedDigests(tmp_path / "cache")([small])
    assert (tmp_path / "cache" / NAME).exists()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"files": []}',
        b'{"files": {}, "sha256": 3}',
        b'{"files": NaN}',
        b"\xff\xfe",
        b"[" * 10_000,
        None,
    ],
)
def test_a_damaged_memory_counts_for_nothing(
    tmp_path: Path, hashed: list[Path], damage: bytes | None
) -> None:
    path, place = tmp_path / "weights", tmp_path / "cache" / NAME
    path.write_bytes(b"original")
    remembered = RememberedDigests(tmp_path / "cache")
    remembered([path])
    if damage is None:
        whole = place.read_text()
        digest = of(b"original")
        assert digest in whole
        place.write_text(whole.replace(digest, of(b"another")))
    else:
        place.write_bytes(damage)
    assert remembered([path]) == [of(b"original")]
    assert remembered([path]) == [of(b"original")]
    assert hashed == [path, path]


@pytest.mark.parametrize("entry", [None, 3, [], [1, 2], "state", "digest"])
def test_an_entry_of_another_shape_counts_for_nothing(
    tmp_path: Path, hashed: list[Path], entry: object
) -> None:
    path, place = tmp_path / "weights", tmp_path / "cache" / NAME
    path.write_bytes(b"original")
    remembered = RememberedDigests(tmp_path / "cache")
    remembered([path])
    files = json.loads(place.read_text())["files"]
    state = files[str(path)][:-1]
    odd = {"state": [*map(str, state), of(b"another")], "digest": [*state, "no digest"]}
    files[str(path)] = odd[entry] if isinstance(entry, str) else entry
    place.write_text(json.dumps({"files": files, "sha256": fingerprint(files)}))
    assert remembered([path]) == [of(b"original")]
    assert len(hashed) == 2


def test_a_memory_that_cannot_be_read_or_written_hurts_nobody(tmp_path: Path, hashed: list[Path]) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"original")
    (tmp_path / "folder" / NAME / "full").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"")
    for cache in ("folder", "file", "file/below"):
        assert RememberedDigests(tmp_path / cache)([path]) == [of(b"original")]
    assert len(hashed) == 3
    assert {one.name for one in (tmp_path / "folder").iterdir()} == {NAME}


@pytest.mark.usefixtures("hashed")
def test_what_belongs_to_files_that_are_gone_is_forgotten(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("gone", "changed", "kept")]
    remembered = RememberedDigests(tmp_path / "cache")
    for path in paths:
        path.write_bytes(b"original")
        remembered([path])
    paths[0].unlink()
    rewritten(paths[1])
    new = tmp_path / "new\nline"
    new.write_bytes(b"not told")
    last = tmp_path / "last"
    last.write_bytes(b"told")
    assert remembered([new, last]) == [of(b"not told"), of(b"told")]
    assert json.loads((tmp_path / "cache" / NAME).read_text())["files"].keys() == {str(paths[2]), str(last)}


@pytest.mark.usefixtures("hashed")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere cannot be read: No such file"):
        RememberedDigests(tmp_path / "cache")([tmp_path / "nowhere"])


def test_a_checkpoint_s_digest_is_what_it_was(tiny_model: Path, tmp_path: Path, hashed: list[Path]) -> None:
    folder, cache = tmp_path / "model", tmp_path / "cache"
    shutil.copytree(tiny_model, folder)

    def identity(memory: Path | None) -> str:
        with open_engine(choose_engine("hf", {}), ModelSource(str(folder), memory=memory)) as engine:
            return engine.id

    plain = identity(None)
    assert hashed == []
    assert find_checkpoint(str(folder)).digest in plain
    assert identity(cache) == plain
    first = len(hashed)
    assert first > 2
    assert identity(cache) == plain
    assert len(hashed) == first
    grown(folder / "model.safetensors")
    digest = find_checkpoint(str(tiny_model)).digest
    with pytest.raises(UserError, match="corrupt"):
        identity(cache)
    shutil.copy(tiny_model / "model.safetensors", folder)
    assert digest in identity(cache)
    assert len(hashed) == first + 1


@pytest.mark.usefixtures("hashed")
def test_the_cache_s_verbs_know_it(tmp_path: Path) -> None:
    path, cache = tmp_path / "weights", tmp_path / "cache"
    path.write_bytes(b"original")
    RememberedDigests(cache)([path])
    size = (cache / NAME).stat().st_size
    assert cache_info(cache, pytest.fail) == []
    assert cache_clear(cache) == size
    assert not cache.exists()
