"""A task's splits, read from their source and checked; their fingerprints; local copies."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_eval.config import SplitFingerprint, TaskSpec, check_split_name, columns_of, fingerprint
from muse_eval.data.sources import BuiltinWorld, Hub, LocalFolder, MissingSplit, Source
from muse_eval.errors import UserError, listed
from muse_eval.folders import write_whole, writing
from muse_eval.types import Row, Splits

SCORED = ("knowmem", "verbmem", "privleak")
"""Groups of splits that are scored row by row; every other one holds text to train on."""


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

    @property
    def texts(self) -> list[str]:
        """The texts of its rows, blank ones too: what training is given, and what its recipe names."""
        return [row["text"] for row in self.rows]

    @property
    def blank(self) -> tuple[int, ...]:
        """The rows, from 0, whose text is blank: they stand in the data and contribute nothing."""
        return tuple(index for index, row in enumerate(self.rows) if not row.get("text", "x").strip())

    def say_blank(self) -> str:
        """Say in one line which rows are blank, and that they contribute nothing; empty where none is."""
        if not self.blank:
            return ""
        count = f"{len(self.blank)} of {len(self.rows)} rows {'is' if len(self.blank) == 1 else 'are'} blank"
        return f"{self.name}: {count} ({listed('row', self.blank)}): nothing to train on"


class Data:
    """A task's splits, read when asked for and kept."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._splits: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        """Read a split, under its older name where the source has only that.

        A row of training text may be blank (MUSE-News has one); no other cell may.

        Raises:
            UserError: it is no name of a split, or the split is missing, empty, or a row is not of the right
                shape.
        """
        if name not in self._splits:
            try:
                check_split_name(name)
            except ValueError as error:
                raise UserError(str(error)) from None
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
        split = self._data.split(self._names[role])
        if split.blank:
            raise UserError(_empty(split.name, split.blank[0], "text"))
        return split.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_data(task: TaskSpec, data_dir: Path | None = None) -> Data:
    """Return a task's data: from ``data_dir`` where given, else from the source the task names.

    Raises:
        UserError: the folder does not exist, lies beside the one that holds the task's splits, or the task
            names no source.
    """
    if data_dir is not None:
        return _folder(data_dir, "--data-dir", task)
    if task.data.source == "folder":
        if task.data.folder is None:
            raise UserError(f"task {task.name} has no data.folder; add it, or give --data-dir")
        return _folder(task.data.folder, f"task {task.name}: data.folder", task)
    if task.data.source == "builtin":
        return Data(BuiltinWorld(task.data.seed))
    if task.data.repo is None:
        raise UserError(f"task {task.name} names no repo for its data; give --data-dir")
    return Data(Hub(task.data))


def _folder(root: Path, said: str, task: TaskSpec) -> Data:
    if not root.is_dir():
        raise UserError(f"{said} {root} is not a folder; give one in the layout of MUSE's loader")
    if not _holds(root, task) and (right := _beside(root, task)):
        raise UserError(
            f"{said} {root} holds no split of task {task.name}, {' and '.join(map(str, right))} "
            f"{'does' if len(right) == 1 else 'do'}; give {'that' if len(right) == 1 else 'one of them'}"
        )
    return Data(LocalFolder(root))


def _holds(root: Path, task: TaskSpec) -> bool:
    """Tell whether a folder has any split that the task scores, unlearns or pins."""
    try:
        return any(LocalFolder(root).file(name) for name in {*task.needed, *task.trained, *task.fingerprints})
    except OSError:  # not ours to look into
        return False


def _beside(root: Path, task: TaskSpec) -> list[Path]:
    """Return the folders that may have been meant: those within, else the one that it is a part of."""
    within = [child for child in sorted(root.glob("*")) if _holds(child, task)]
    parent = root.absolute().parent
    return within or ([parent] if _holds(parent, task) else [])


def _checked(name: str, raw: list[Any], where: str) -> tuple[Row, ...]:
    """Turn raw rows into rows of text, or say which one is wrong."""
    wanted, may_be_blank = columns_of(name), name.split("/")[0] not in SCORED
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
        kept = (*wanted, "source") if "source" in row else wanted
        for column in kept:
            if not isinstance(row[column], str):
                raise UserError(f"{where}: row {index}: {column!r} must be text, got {row[column]!r:.60}")
            try:
                row[column].encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{where}: row {index}: {column!r} is not valid Unicode: {error}") from None
            if column in wanted and not row[column].strip() and not may_be_blank:
                raise UserError(_empty(where, index, column))
        rows.append({column: row[column] for column in kept})
    if may_be_blank and not any(row["text"].strip() for row in rows):
        raise UserError(f"{where} has blank rows alone; {name} needs at least one text")
    return tuple(rows)


def _empty(where: str, row: int, column: str) -> str:
    return f"{where}: row {row}: {column!r} is empty; fill it in or drop the row"


@dataclass(frozen=True)
class Verdict:
    """How one split compares with the task's fingerprint."""

    split: str
    status: str
    """``ok``, ``differs``, ``missing``, or ``not pinned`` where the task has no fingerprint."""
    found: SplitFingerprint | None
    expected: SplitFingerprint | None


def verify(task: TaskSpec, data: Data) -> list[Verdict]:
    """Compare every split that a task needs, unlearns or pins with its published fingerprint.

    Raises:
        UserError: a split is there but cannot be read.
    """
    verdicts = []
    for name in sorted({*task.needed, *task.fingerprints, *task.trained}):
        expected = task.fingerprints.get(name)
        try:
            found = data.split(name).fingerprint
        except MissingSplit:
            verdicts.append(Verdict(name, "missing", None, expected))
            continue
        if expected is None:
            status = "not pinned"
        else:
            same = found.rows == expected.rows and expected.num_bytes in (None, found.num_bytes)
            status = "ok" if same else "differs"
        verdicts.append(Verdict(name, status, found, expected))
    return verdicts


def export(data: Data, names: list[str], out: Path) -> list[Path]:
    """Write splits in the layout of MUSE's loader, so that ``--data-dir`` reads them back.

    Raises:
        UserError: a split cannot be read, or one cannot be written: then no file is cut short or empty.
    """
    texts = {}
    for name in names:
        split = data.split(name)
        rows = [row["text"] if columns_of(name) == ("text",) else dict(row) for row in split.rows]
        texts[out / f"{name}.json"] = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    with writing(out):
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
    return list(texts)
