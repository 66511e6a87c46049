"""One run's folder, ``runs/<task>/<name>``: ``result.json`` and ``records.jsonl``, written atomically."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from muse_eval import reading
from muse_eval.errors import UserError
from muse_eval.results.writing import encode, write_files
from muse_eval.types import Record, Result, Score, run_html, run_line

SCHEMA_VERSION = 1
RESULT = "result.json"
RECORDS = "records.jsonl"
MOST_BYTES = 240
"""Of a run's name: file systems take 255, and files beside the folder have its name with an ending."""

REFERENCES = ("target", "retrain")
"""Names of the runs that the others are compared with, in the order of the printed table."""

Number = Annotated[float, Field(allow_inf_nan=False)]


class CorruptResult(UserError):  # noqa: N818 - it says what the file is
    """A file in a results folder that muse-eval did not write, or not to its end."""


class StoredColumn(BaseModel):
    """One cell as stored: unrounded, in percent."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    value: Number | None
    ci: tuple[Number, Number] | None
    n: Annotated[int, Field(ge=0)]
    flags: tuple[str, ...]
    reason: str | None = None
    _meanings: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @property
    def meanings(self) -> Mapping[str, str]:
        """Flag to what it means in this cell, of those that mean more than the word alone."""
        return self._meanings

    def flagged(self, flags: Iterable[str], meanings: Mapping[str, str]) -> "StoredColumn":
        """Return the cell with other flags, and what they mean in it."""
        cell = self.model_copy(update={"flags": tuple(flags)})
        cell._meanings = {**self._meanings, **meanings}
        return cell


class StoredResult(BaseModel):
    """One run as stored in its ``result.json``."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    schema_version: Literal[1]
    task: str
    name: str
    model: dict[str, Any]
    columns: dict[str, StoredColumn]
    extras: dict[str, Any] = {}
    config: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    seconds: Number
    records_sha256: str | None = None
    """Digest of the ``records.jsonl`` written with it; None in results from before it was stored."""
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """The folder it was read from; None of one that was never on disk."""
        return self._folder

    @property
    def key(self) -> str:
        """What the run is called across tasks: ``<task>/<name>``."""
        return f"{self.task}/{self.name}"

    @property
    def probing(self) -> Mapping[str, Any]:
        """What a probe did to its model or its questions; empty of a run that is no probe's."""
        made = self.config.get("made")
        found = made.get("probing") if isinstance(made, dict) else None
        return found if isinstance(found, dict) else {}

    __repr__ = __str__ = run_line
    _repr_html_ = run_html


# ── writing ──────────────────────────────────────────────────────────────────────────────────────
def run_folder(results_dir: Path, task: str, name: str) -> Path:
    """Return the folder of a run.

    Raises:
        UserError: the task's or the run's name cannot be the name of one folder, or a file is in its way.
    """
    check_folder_name("task", task)
    check_folder_name("run", name)
    folder = results_dir / "runs" / task / name
    for place in (folder, folder.parent, folder.parent.parent):
        if place.exists() and not place.is_dir():
            raise UserError(
                f"{place} is a file where the run's folder belongs; move it, or give another --results"
            )
    return folder


def check_folder_name(kind: str, name: str) -> None:
    """Refuse a name that cannot be the name of one folder.

    Raises:
        UserError: it holds what no folder's name does, or is too long for one.
    """
    if not name.isprintable() or name.strip(". ") == "" or any(sep in name for sep in "/\\"):
        raise UserError(f"the {kind}'s name {name!r} cannot name a folder; use letters, digits, - and _")
    if len(name.encode()) > MOST_BYTES:
        raise UserError(
            f"the {kind}'s name has {len(name.encode())} bytes, and a folder's may have {MOST_BYTES}: "
            f"{name[:20]}…; give a shorter one"
        )


def to_json(result: Result, records_sha256: str) -> dict[str, Any]:
    """Return the content of ``result.json``: plain values, unrounded, and the digest of the records."""
    whole = {
        "schema_version": SCHEMA_VERSION,
        "task": result.task,
        "name": result.name,
        "model": {key: result.model.get(key) for key in ("id", "revision", "digest")},
        "columns": {name: _column(score) for name, score in result.columns.items()},
        "extras": result.extras,
        "config": result.config,
        "provenance": result.provenance,
        "seconds": float(result.seconds),
        "records_sha256": records_sha256,
    }
    plain: dict[str, Any] = _plain(whole)
    return plain


def _column(score: Score) -> dict[str, Any]:
    column: dict[str, Any] = {"value": score.value, "ci": score.ci, "n": score.n, "flags": score.flags}
    if score.reason is not None:
        column["reason"] = score.reason
    return column


def _plain(value: Any) -> Any:
    """Turn mappings, sequences and numpy numbers into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    # np.float64 is a float but prints otherwise; every numpy scalar knows its Python value.
    return value.item() if hasattr(value, "item") else value


def _line(column: str, record: Record) -> str:
    line = {"column": column, "split": record.split, "id": record.index, "scores": record.scores}
    if record.prompt_sha256:
        line["prompt_sha256"] = record.prompt_sha256
    clash = line.keys() & record.texts.keys()
    assert not clash, f"a metric's text cannot be called {clash}"
    return json.dumps(_plain({**line, **record.texts}), sort_keys=True, ensure_ascii=False, allow_nan=False)


def save(result: Result, folder: Path) -> None:
    """Write ``records.jsonl``, then ``result.json``, into a run's folder; each is whole or absent.

    Raises:
        UserError: the folder cannot be made or written; what it held before is then untouched.
    """
    lines = [_line(name, record) for name, score in result.columns.items() for record in score.records]
    records = "".join(f"{line}\n" for line in lines)
    whole = to_json(result, hashlib.sha256(encode(records)).hexdigest())
    text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False)
    write_files(folder, {RECORDS: records, RESULT: f"{text}\n"})


# ── reading ──────────────────────────────────────────────────────────────────────────────────────
def problem(error: ValidationError) -> str:
    """Say in a few words what is wrong with a file's content: which key, and why."""
    first = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    key = key if key.isprintable() else repr(key)
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{key}: {message}" if key else message


def _read(path: Path) -> bytes | None:
    try:
        return reading.read_bytes(path, most=reading.CORPUS_BYTES)
    except reading.MissingFile:
        return None
    except reading.Unreadable as error:
        raise CorruptResult(str(error)) from None


def load(path: Path) -> StoredResult | None:
    """Read a run's ``result.json``, given as the file or as its folder; None where there is none.

    Raises:
        CorruptResult: the file cannot be read, is not JSON, or is not a result of this schema version.
    """
    if path.name != RESULT:
        path = path / RESULT
    text = _read(path)
    if text is None:
        return None
    try:
        stored = StoredResult.model_validate_json(text)
        reading.parse_json(text, str(path))
    except reading.Unreadable as error:
        raise CorruptResult(f"{error}; score the run again, or remove the file") from None
    except ValidationError as error:
        if any(part["loc"] == ("schema_version",) for part in error.errors(include_url=False)):
            raise CorruptResult(
                f"{path}: its schema_version is not {SCHEMA_VERSION}; score the run again, "
                "or use the version of muse-eval that wrote it"
            ) from None
        raise CorruptResult(
            f"{path} is not a result ({problem(error)}); score the run again, or remove the file"
        ) from None
    stored._folder = path.parent
    return stored


def load_all(results_dir: Path, warn: Callable[[str], None], *, probed: bool = False) -> list[StoredResult]:
    """Read every run below a results folder, sorted by task and name; warn of each one that is left out.

    Runs of probes are of no model that anyone would compare with others: only ``probed`` returns them too.
    """
    found = []
    for path in sorted((results_dir / "runs").glob(f"*/*/{RESULT}")):
        try:
            result = load(path)
        except CorruptResult as error:
            warn(f"left out: {error}")
            continue
        if result is None:
            continue
        if (result.task, result.name) != (path.parent.parent.name, path.parent.name):
            # A copied folder would otherwise count the same run twice.
            warn(f"left out: {path} holds the run {result.key!r}, which its folder is not named after")
            continue
        if probed or not result.probing:
            found.append(result)
    return sorted(found, key=lambda result: (result.task, result.name))


def load_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a run's records in the order they were written.

    Raises:
        CorruptResult: there is no such file, it cannot be read, it is not the one that the folder's
            ``result.json`` was written with, or a line (named) is not a record.
    """
    path = folder / RECORDS
    text = _read(path)
    if text is None:
        raise CorruptResult(f"{path} does not exist; score the run again")
    # A process killed between its two renames leaves new records beside an old result.
    stored = load(folder)
    if stored and stored.records_sha256 not in (None, hashlib.sha256(text).hexdigest()):
        raise CorruptResult(f"{path} does not belong to the {RESULT} beside it; score the run again")
    try:
        for number, record in reading.parse_jsonl(text, str(path)):
            yield reading.expect(record, dict, f"{path}:{number}")
    except reading.Unreadable as error:
        raise CorruptResult(f"{error}; score the run again") from None
