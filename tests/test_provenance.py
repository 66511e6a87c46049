"""Digests, versions and the commit."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from pathlib import Path

import pytest

from muse_eval import provenance
from muse_eval.errors import UserError


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_s_digest_is_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    assert provenance.file_sha256(path) == sha256(b"abc")


def test_a_blob_of_the_hub_s_cache_bears_its_digest_already(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    blob = blobs / ("a" * 64)
    blob.write_bytes(b"abc")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert provenance.file_sha256(link) == "a" * 64
    # A small file's blob is named after git's SHA-1, which says nothing of its SHA-256.
    small = blobs / ("b" * 40)
    small.write_bytes(b"abc")
    assert provenance.file_sha256(small) == sha256(b"abc")
    elsewhere = tmp_path / ("c" * 64)
    elsewhere.write_bytes(b"abc")
    assert provenance.file_sha256(elsewhere) == sha256(b"abc")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere cannot be read: No such file"):
        provenance.file_sha256(tmp_path / "nowhere")


def test_the_digest_of_files_knows_names_and_contents_but_no_order(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    digest = provenance.files_digest([one, other])
    assert digest == sha256(f"a {sha256(b'1')}\nb {sha256(b'2')}\n".encode())
    assert provenance.files_digest([other, one]) == digest
    one.write_bytes(b"2")
    other.write_bytes(b"1")
    assert provenance.files_digest([one, other]) != digest
    assert provenance.files_digest([one.rename(tmp_path / "c"), other]) != digest


def test_joined_lines_are_told_apart() -> None:
    assert provenance.joined_digest(["ab", "c"]) != provenance.joined_digest(["a", "bc"])
    assert provenance.joined_digest([]) == sha256(b"")


def test_versions_are_those_installed() -> None:
    found = provenance.versions()
    assert found["python"] == platform.python_version()
    for name in ("torch", "transformers", "rouge-score", "numpy", "scikit-learn"):
        assert found[name] == importlib.metadata.version(name)


def test_a_package_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package-at-all"))
    assert provenance.versions.__wrapped__().keys() == {"python", "numpy"}


@pytest.mark.slow
def test_the_commit_is_one_or_none() -> None:
    commit = provenance.git_commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}\+?", commit)


@pytest.mark.slow
def test_without_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "muse_eval" / "provenance.py"))
    assert provenance.git_commit.__wrapped__() is None
    (tmp_path / ".git").mkdir()
    assert provenance.git_commit.__wrapped__() is None
