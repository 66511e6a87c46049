"""The three places splits come from: a local folder, the built-in world, the hub."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from muse_eval.config import OLDER_NAMES, DataSpec, columns_of
from muse_eval.errors import UserError, first_line, unknown_name
from muse_eval.reading import CORPUS_BYTES, expect, read_json, read_text


class MissingSplit(UserError):  # noqa: N818 - it says what is wrong
    """The source is there, but has no such split."""


class Source(Protocol):
    """Where splits come from."""

    def read(self, split: str) -> tuple[list[Any], str]:
        """Return a split's raw rows and the place errors should name."""

    def names(self) -> list[str]:
        """List the splits that can be read."""

    def describe(self) -> dict[str, Any]:
        """Say for the result where the data came from."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder in the layout that MUSE's own loader writes (``knowmem/forget_qa.json`` and so on)."""

    root: Path

    def read(self, split: str) -> tuple[list[Any], str]:
        """Read ``SPLIT.json`` (a list of texts or objects), or ``SPLIT.txt`` (one text)."""
        path = self.file(split)
        if path is None:
            found = ", ".join(self.names()) or "no split at all"
            raise MissingSplit(f"{self.root / split}.json does not exist; the folder has {found}")
        if path.suffix == ".txt":
            return [read_text(path, most=CORPUS_BYTES)], str(path)
        return expect(read_json(path, most=CORPUS_BYTES), list, str(path)), str(path)

    def file(self, split: str) -> Path | None:
        """Return the file that holds a split, under its older name where there is only that."""
        for name in (split, OLDER_NAMES.get(split, split)):
            path = self.root / f"{name}.json"
            if path.is_file():
                return path
            if (text := path.with_suffix(".txt")).is_file() and columns_of(split) == ("text",):
                return text
        return None

    def names(self) -> list[str]:
        """List the splits in the folder, by MUSE's present names."""
        present = {older: name for name, older in OLDER_NAMES.items()}
        files = [p for p in self.root.glob("*/*") if p.suffix in (".json", ".txt")]
        return sorted({present.get(n, n) for p in files for n in [f"{p.parent.name}/{p.stem}"]})

    def describe(self) -> dict[str, Any]:
        """Say that it was a folder; its splits' digests tell which data it was."""
        return {"source": "folder"}


@dataclass(frozen=True)
class BuiltinWorld:
    """The miniature world made from a seed."""

    seed: int = 0

    def read(self, split: str) -> tuple[list[Any], str]:
        """Generate the world and take one of its splits."""
        splits = self._world()
        if split not in splits:
            raise MissingSplit(str(unknown_name("split", split, splits)))
        return list(splits[split]), f"built-in {split}"

    def names(self) -> list[str]:
        """List the world's splits."""
        return sorted(self._world())

    def describe(self) -> dict[str, Any]:
        """Name the world's seed."""
        return {"source": "builtin", "seed": self.seed}

    def _world(self) -> Mapping[str, Any]:
        return _world(self.seed)


@cache
def _world(seed: int) -> Mapping[str, Any]:
    from muse_eval.mini.corpus import splits

    return splits(seed)


@dataclass(frozen=True)
class Hub:
    """A MUSE dataset on the hub at a pinned revision, through ``datasets``."""

    spec: DataSpec

    def read(self, split: str) -> tuple[list[Any], str]:
        """Download one split, or take it from the local cache."""
        group, _, name = split.partition("/")
        where = f"{self.spec.repo}@{(self.spec.revision or 'main')[:12]} {split}"
        try:
            rows = self._load(group, name)
        except ValueError as error:
            older = OLDER_NAMES.get(split)
            if older is None or "split" not in str(error).lower():
                raise self._unreachable(where, error) from None
            try:
                rows = self._load(group, older.partition("/")[2])
            except (ValueError, OSError) as second:
                raise self._unreachable(where, second) from None
        except OSError as error:
            raise self._unreachable(where, error) from None
        return rows, where

    def _load(self, group: str, name: str) -> list[Any]:
        import datasets
        from httpx2 import TransportError

        datasets.disable_progress_bars()
        datasets.logging.set_verbosity_error()
        # Else each of its retries is told before what went wrong is.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            table = datasets.load_dataset(self.spec.repo, group, split=name, revision=self.spec.revision)
        except TransportError as error:
            raise ConnectionError(str(error)) from None
        files = [str(one["filename"]) for one in table.cache_files]
        revision = self.spec.revision or ""
        # Offline, datasets falls back to whatever revision it has, with no more than a log line.
        # The cache is named after commits, so a branch or a tag cannot be compared with it.
        if re.fullmatch("[0-9a-f]{40}", revision) and not all(revision in file for file in files):
            raise OSError(f"the local cache holds another revision than {revision}")
        return [dict(row) for row in table]

    @staticmethod
    def _unreachable(where: str, error: Exception) -> UserError:
        first = first_line(error)
        if re.match(r"Unknown split |BuilderConfig .* not found", first):
            return MissingSplit(f"the hub has no {where}: {first}")
        return UserError(
            f"cannot get {where} from the hub ({first}); check the connection, log in with "
            "'hf auth login' if it is private, or give --data-dir"
        )

    def names(self) -> list[str]:
        """List every split of the repository."""
        import datasets

        where = f"{self.spec.repo}@{(self.spec.revision or 'main')[:12]}"
        try:
            configs = datasets.get_dataset_config_names(self.spec.repo, revision=self.spec.revision)
            return sorted(
                f"{config}/{split}"
                for config in configs
                for split in datasets.get_dataset_split_names(
                    self.spec.repo, config, revision=self.spec.revision
                )
            )
        except (ValueError, OSError) as error:
            raise self._unreachable(where, error) from None

    def describe(self) -> dict[str, Any]:
        """Name the repository and its revision."""
        return {"source": "hub", "repo": self.spec.repo, "revision": self.spec.revision}
