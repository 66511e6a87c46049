"""A task's splits from one of three sources: the hub, a local folder, or the built-in world."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from muse_eval.config import DataSpec, SplitFingerprint, TaskSpec, fingerprint
from muse_eval.errors import UserError, unknown_name
from muse_eval.types import Row, Splits

OLDER_NAMES = {
    "knowmem/retain_qa": "knowmem/retain2_qa",
    "knowmem/retain_qa_icl": "knowmem/retain2_qa_icl",
}
"""What older revisions of MUSE-News call a split."""

COLUMNS = {"knowmem": ("question", "answer"), "verbmem": ("prompt", "gt")}
"""Text columns of a group of splits; every other group has the one column ``text``."""


def columns_of(split: str) -> tuple[str, ...]:
    """Return the text columns that a split's rows must have."""
    return COLUMNS.get(split.split("/")[0], ("text",))


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
class Split:
    """One split's rows, checked."""

    name: str
    rows: tuple[Row, ...]

    @property
    def fingerprint(self) -> SplitFingerprint:
        """Rows, and UTF-8 bytes of all cells + 4 per cell: the hub's ``num_bytes``."""
        size = sum(len(row[column].encode()) + 4 for row in self.rows for column in columns_of(self.name))
        return SplitFingerprint(rows=len(self.rows), num_bytes=size)

    @property
    def sha256(self) -> str:
        """Digest of the content, in order."""
        return fingerprint([dict(row) for row in self.rows])


class Data:
    """A task's splits, read when asked for and kept."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._splits: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        """Read a split, under its older name where the source has only that.

        Raises:
            UserError: it is missing, empty, or a row is not of the right shape.
        """
        if name not in self._splits:
            raw, where = self._source.read(name)
            self._splits[name] = Split(name, _checked(name, raw, where))
        return self._splits[name]

    def names(self) -> list[str]:
        """List the splits that the source has."""
        return self._source.names()

    def roles(self, splits: Mapping[str, str]) -> Splits:
        """Return a column's splits by role, each read when first used."""
        return _Roles(self, splits)

    def describe(self) -> dict[str, Any]:
        """Say where the data came from and what was read, with digests."""
        read = {name: split.sha256 for name, split in sorted(self._splits.items())}
        return {**self._source.describe(), "sha256": read}


class _Roles(Mapping[str, tuple[Row, ...]]):
    def __init__(self, data: Data, splits: Mapping[str, str]) -> None:
        self._data, self._names = data, splits

    def __getitem__(self, role: str) -> tuple[Row, ...]:
        return self._data.split(self._names[role]).rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_data(task: TaskSpec, data_dir: Path | None = None) -> Data:
    """Return a task's data: from ``data_dir`` where given, else from the source the task names.

    Raises:
        UserError: the folder does not exist, or the task names no source.
    """
    if data_dir is not None:
        if not data_dir.is_dir():
            raise UserError(f"--data-dir {data_dir} is not a folder; give one in the layout of MUSE's loader")
        return Data(LocalFolder(data_dir))
    if task.data.source == "builtin":
        return Data(BuiltinWorld(task.data.seed))
    if task.data.repo is None:
        raise UserError(f"task {task.name} names no repo for its data; give --data-dir")
    return Data(Hub(task.data))


def _checked(name: str, raw: list[Any], where: str) -> tuple[Row, ...]:
    """Turn raw rows into rows of text, or say which one is wrong."""
    wanted = columns_of(name)
    if not raw:
        raise UserError(f"{where} is empty; {name} needs at least one row of {', '.join(wanted)}")
    rows = []
    for index, one in enumerate(raw):
        row = {wanted[0]: one} if isinstance(one, str) and len(wanted) == 1 else one
        if not isinstance(row, dict):
            raise UserError(f"{where}: row {index} must have the keys {', '.join(wanted)}, got {one!r:.60}")
        for column in wanted:
            if column not in row:
                keys = ", ".join(map(str, row)) or "none"
                raise UserError(f"{where}: row {index} has no {column!r}; its keys are {keys}")
            if not isinstance(row[column], str):
                raise UserError(f"{where}: row {index}: {column!r} must be text, got {row[column]!r:.60}")
            if not row[column].strip():
                raise UserError(f"{where}: row {index}: {column!r} is empty; fill it in or drop the row")
        rows.append({column: row[column] for column in (*wanted, *(["source"] if "source" in row else []))})
    return tuple(rows)


@dataclass(frozen=True)
class LocalFolder:
    """A folder in the layout that MUSE's own loader writes (``knowmem/forget_qa.json`` and so on)."""

    root: Path

    def read(self, split: str) -> tuple[list[Any], str]:
        """Read ``SPLIT.json`` (a list of texts or objects), or ``SPLIT.txt`` (one text)."""
        for name in (split, OLDER_NAMES.get(split, split)):
            path = self.root / f"{name}.json"
            if path.is_file():
                return self._json(path), str(path)
            if (text := path.with_suffix(".txt")).is_file() and columns_of(split) == ("text",):
                return [self._text(text)], str(text)
        found = ", ".join(self.names()) or "no split at all"
        raise MissingSplit(f"{self.root / split}.json does not exist; the folder has {found}")

    def names(self) -> list[str]:
        """List the splits in the folder, by MUSE's present names."""
        present = {older: name for name, older in OLDER_NAMES.items()}
        files = [p for p in self.root.glob("*/*") if p.suffix in (".json", ".txt")]
        return sorted({present.get(n, n) for p in files for n in [f"{p.parent.name}/{p.stem}"]})

    def describe(self) -> dict[str, Any]:
        """Say that it was a folder; its splits' digests tell which data it was."""
        return {"source": "folder"}

    @staticmethod
    def _text(path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}") from None

    @classmethod
    def _json(cls, path: Path) -> list[Any]:
        try:
            rows = json.loads(cls._text(path))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
        if not isinstance(rows, list):
            raise UserError(f"{path} must hold a list of rows, got {type(rows).__name__}")
        return rows


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
        from muse_eval.mini.corpus import splits

        return splits(self.seed)


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
        try:
            table = datasets.load_dataset(self.spec.repo, group, split=name, revision=self.spec.revision)
        except TransportError as error:
            raise ConnectionError(str(error)) from None
        files = [str(one["filename"]) for one in table.cache_files]
        if self.spec.revision and not all(self.spec.revision in file for file in files):
            # Offline, datasets falls back to whatever revision it has, with no more than a log line.
            raise OSError(f"the local cache holds another revision than {self.spec.revision}")
        return [dict(row) for row in table]

    @staticmethod
    def _unreachable(where: str, error: Exception) -> UserError:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
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


@dataclass(frozen=True)
class Verdict:
    """How one split compares with the task's fingerprint."""

    split: str
    status: str
    """``ok``, ``differs``, ``missing``, or ``not pinned`` where the task has no fingerprint."""
    found: SplitFingerprint | None
    expected: SplitFingerprint | None
    note: str = ""


def verify(task: TaskSpec, data: Data) -> list[Verdict]:
    """Compare every split that a task scores or pins with its published fingerprint.

    Raises:
        UserError: a split is there but cannot be read.
    """
    scored = {name for column in task.columns.values() for name in column.splits.values()}
    verdicts = []
    for name in sorted(scored | set(task.fingerprints)):
        expected = task.fingerprints.get(name)
        try:
            found = data.split(name).fingerprint
        except MissingSplit as error:
            verdicts.append(Verdict(name, "missing", None, expected, str(error)))
            continue
        if expected is None:
            status = "not pinned"
        else:
            same = found.rows == expected.rows and expected.num_bytes in (None, found.num_bytes)
            status = "ok" if same else "differs"
        verdicts.append(Verdict(name, status, found, expected))
    return verdicts


def export(data: Data, names: list[str], out: Path) -> list[Path]:
    """Write splits in the layout of MUSE's loader, so that ``--data-dir`` reads them back."""
    written = []
    for name in names:
        split = data.split(name)
        rows = [row["text"] if columns_of(name) == ("text",) else dict(row) for row in split.rows]
        path = out / f"{name}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from None
        written.append(path)
    return written


def text_sha256(texts: list[str]) -> str:
    """Return the digest of a list of texts, in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(len(text.encode()).to_bytes(8, "big") + text.encode())
    return digest.hexdigest()
