"""Reads texts and questions from files of the common kinds; writes a new corpus whole or not at all."""

import csv
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muse_eval.data.corpus.splits import Question, Row, Texts
from muse_eval.data.corpus.task import MARK
from muse_eval.errors import UserError
from muse_eval.reading import CORPUS_BYTES, expect, parse_json, parse_jsonl, read_text

CELLS = ("question", "answer", "side")
"""The columns of a file of questions."""
SIDES = ("forget", "retain")


# ── reading ──────────────────────────────────────────────────────────────────────────────────────
def read_texts(place: Path, option: str) -> Texts:
    """Read texts: a ``.txt`` file (one), a folder of them (one each), a JSON list, or JSON lines.

    A row of JSON is a text or ``{"text": "…"}``. White space around a text is no part of it.

    Raises:
        UserError: nothing of the kind is there, a file is not UTF-8 or not JSON, or a row is no text.
    """
    unread = 0
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if not path.name.startswith("."))
        chosen = [path for path in files if path.is_file() and path.suffix.lower() == ".txt"]
        unread = len(files) - len(chosen)
        if not chosen:
            raise UserError(f"{option} {place} holds no .txt file; one text a file, or give JSON")
        found = [_read(path, option) for path in chosen]
    elif place.suffix.lower() in (".json", ".jsonl"):
        rows = _json_rows(place, option)
        found = [_text(row, f"{option} {place}: row {number}") for number, row in enumerate(rows)]
    elif place.suffix.lower() == ".txt":
        found = [_read(place, option)]
    elif not place.exists():
        raise UserError(f"{option} {place} does not exist")
    else:
        raise UserError(f"{option} {place}: give a .txt file, a folder of them, .json or .jsonl")
    texts = tuple(text.strip() for text in found if text.strip())
    return Texts(str(place), texts, len(found) - len(texts), unread)


def _read(path: Path, option: str) -> str:
    return read_text(path, option, CORPUS_BYTES).removeprefix("\ufeff")


def _json_rows(path: Path, option: str) -> list[Any]:
    text = _read(path, option)
    if path.suffix.lower() == ".json":
        return expect(parse_json(text, f"{option} {path}"), list, f"{option} {path}")
    return [row for _, row in parse_jsonl(text, f"{option} {path}")]


def _text(row: Any, where: str) -> str:
    text = row.get("text") if isinstance(row, dict) else row
    if not isinstance(text, str):
        keys = f"; its keys are {', '.join(map(str, row))}" if isinstance(row, dict) and row else ""
        raise UserError(f'{where} is neither a text nor {{"text": "…"}}{keys}')
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where} is not valid Unicode: {error}") from None
    return text


def read_questions(path: Path) -> list[Question]:
    """Read questions from CSV with the columns ``question``, ``answer`` and ``side`` (forget or retain).

    Raises:
        UserError: the file cannot be read, lacks a column, or a line (named) is not whole.
    """
    reader = csv.DictReader(io.StringIO(_read(path, "--questions"), newline=""), strict=True)
    found = []
    try:
        names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        if missing := [cell for cell in CELLS if cell not in names]:
            raise UserError(
                f"--questions {path}:1: no column {' and no column '.join(missing)}; its columns are "
                f"{', '.join(names) or 'none'}, and {', '.join(CELLS)} are needed, comma-separated"
            )
        if twice := [cell for cell in CELLS if names.count(cell) > 1]:
            raise UserError(f"--questions {path}:1: column {twice[0]} stands there twice; drop one")
        reader.fieldnames = names
        for row in reader:
            found.append(_question(row, f"--questions {path}:{reader.line_num}"))
    except csv.Error as error:
        raise UserError(f"--questions {path}:{reader.line_num}: {error}") from None
    if not found:
        raise UserError(f"--questions {path} has no question in it")
    return found


def _question(row: Mapping[str | None, Any], where: str) -> Question:
    cells = {name: (row.get(name) or "").strip() for name in CELLS}
    for name, cell in cells.items():
        if not cell:
            raise UserError(f"{where}: {name!r} is empty; fill it in or drop the line")
    if None in row:
        raise UserError(f"{where}: more cells than columns; put cells that hold commas in double quotes")
    side = cells["side"].lower()
    if side not in SIDES:
        raise UserError(f"{where}: side must be forget or retain, got {cells['side']!r}")
    return Question(side, cells["question"], cells["answer"])


# ── writing ──────────────────────────────────────────────────────────────────────────────────────
def check_apart(place: Path, option: str, out: Path) -> None:
    """Refuse to read what lies in the folder to make, or what no text can name.

    Raises:
        UserError: it does, or its name is no valid Unicode.
    """
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise UserError(f"{option} {str(place)!r}: its name is no valid Unicode; rename it") from None
    if out.resolve() in (place.resolve(), *place.resolve().parents):
        raise UserError(f"{option} {place} lies in {out}, which is to be made; name another folder")


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse a folder to write that holds anything or, with ``overwrite``, anything that is no such corpus.

    Raises:
        UserError: it does, or it is no folder.
    """
    if not out.name or out.name == ".." or not out.name.isprintable():
        raise UserError(f"{str(out)!r} names no folder of its own; give it a name")
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; name another folder")
    found = [path for path in out.rglob("*") if not path.is_dir()]
    if found and not overwrite:
        raise UserError(f"{out} exists and is not empty; name another folder, or --overwrite")
    tasks = [path for path in found if path.parent == out and path.suffix == ".yaml"]
    if found and not any(_begins(path).startswith(MARK) for path in tasks):
        raise UserError(f"{out} was not made by data init and is not overwritten; name another folder")
    for path in found:
        if path not in tasks and not (path.parent.parent == out and path.suffix == ".json"):
            raise UserError(f"{path} is no part of a corpus; move it away, or name another folder")


def _begins(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline()


def write_corpus(out: Path, splits: Mapping[str, Sequence[Row]], task: str, text: str) -> None:
    """Write splits and the task's YAML (``text``, into the file ``task``) into a folder, whole or not at all.

    Raises:
        UserError: it cannot be written; what was there before is then untouched.
    """
    home = out.absolute().parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=home) as name:
            made, former = Path(name) / "made", Path(name) / "former"
            for split, rows in splits.items():
                path = made / f"{split}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                whole = json.dumps(rows, ensure_ascii=False, indent=1)
                path.write_text(f"{whole}\n", encoding="utf-8")
            (made / task).write_text(text, encoding="utf-8")
            if out.exists():
                out.replace(former)
            try:
                made.replace(out)
            except OSError:
                if former.exists():
                    former.replace(out)
                raise
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from None
