"""The examples behind each column, side by side over the models, with what the score counted marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from muse_eval.config import TaskSpec
from muse_eval.data import Data, open_data
from muse_eval.errors import UserError
from muse_eval.reports import words
from muse_eval.reports.chosen import Chosen, read_records
from muse_eval.reports.tokens import TokenEvidence, whole_texts
from muse_eval.results import evidence, part
from muse_eval.results.rows import Goal
from muse_eval.types import ignore

MOST = 20_000
"""Characters of a response that the page holds; the whole stands in ``records.jsonl``."""
CLOSE = 1e-9


@dataclass(frozen=True)
class Column:
    """The evidence of one column: what its block in the page says, in plain values."""

    name: str
    kind: str
    """``rouge``: responses and truths; ``tokens``: texts under an attack; ``plain``: whatever was noted."""
    block: dict[str, Any]
    missing: dict[str, str] = field(default_factory=dict)
    """Run to why its tokens cannot be shown."""


Beside = Mapping[str, Mapping[str, Sequence[str]]]
"""Column to the runs of probes that it shows too, to the runs that are shown with each."""


def columns(chosen: Chosen, data_dir: Path | None, beside: Beside | None = None) -> list[Column]:
    """Return each column's evidence, for all runs that have records of it, and some under probes."""
    texts = Texts(chosen, data_dir)
    found = []
    for name, heading in chosen.headings.items():
        by_run = {run: known[name] for run, known in chosen.records.items() if known.get(name)}
        if by_run:
            column = _column(chosen, name, heading.goal, by_run, texts)
            _put_beside(column, chosen, (beside or {}).get(name, {}))
            found.append(column)
    return found


def _put_beside(column: Column, chosen: Chosen, beside: Mapping[str, Sequence[str]]) -> None:
    """Put the answers of runs under probes to a column's examples."""
    if not beside or column.kind == "tokens":
        return
    block = column.block
    examples = {(one["split"], one["id"]): one for one in block["examples"]}
    wanted = {name for shown in beside.values() for name in shown} - set(block["runs"])
    for run in [one for one in chosen.probed if one.name in wanted]:
        for record in read_records(run, ignore).get(column.name, []):
            example = examples.get((str(record.get("split")), _number(record)))
            if example is None:
                continue
            answer = _answer(example, record, block["score"], None, 0)
            asked = {
                key: text for key, text in _head(record)["given"].items() if example["given"].get(key) != text
            }
            # A probe may ask in other words.
            answer["notes"] = {**answer.get("notes", {}), **asked}
            example["runs"][run.name] = answer
    block["beside"] = {name: list(shown) for name, shown in beside.items()}


def link(column: Column, example: Mapping[str, Any], run: str = "") -> str:
    """Return the link of an example within the page; with a run, one that shows that run too."""
    split = "" if example["split"] == column.block["home"] else f"{quote(example['split'])}/"
    return f"#{quote(column.name)}/{split}{example['id']}" + (f"@{quote(run)}" if run else "")


class Texts:
    """The task's own texts, where they are at hand: records keep only the ends of long ones."""

    def __init__(self, chosen: Chosen, data_dir: Path | None) -> None:
        """Open the data of a task that is built in or on this disk; nothing is downloaded."""
        self._data: Data | None = None
        self.missing = ""
        task = chosen.spec or _stored_task(chosen)
        try:
            if data_dir is not None and task is None:
                raise UserError(f"what the task {chosen.task} is cannot be told; give its YAML with --task")
            if task is not None and (data_dir is not None or task.data.source in ("builtin", "folder")):
                self._data = open_data(task, data_dir)
            else:
                self.missing = "give --data-dir with the task's data"
        except UserError as error:
            if data_dir is not None:
                raise
            self.missing = str(error)

    def of(self, splits: Sequence[str]) -> dict[str, list[str]]:
        """Return the texts of splits; without those that cannot be read."""
        found: dict[str, list[str]] = {}
        for name in splits:
            if self._data is None:
                break
            try:
                found[name] = self._data.split(name).texts
            except (UserError, KeyError):
                continue
        return found


def _stored_task(chosen: Chosen) -> TaskSpec | None:
    """Return the task as a result tells it: without the folder of its data, which is never stored."""
    first = next(iter(chosen.runs.values()))
    try:
        return TaskSpec.model_validate(first.config.get("task"))
    except ValidationError:
        return None


# ── a column ─────────────────────────────────────────────────────────────────────────────────────
def _column(
    chosen: Chosen,
    name: str,
    goal: Goal | None,
    by_run: Mapping[str, Sequence[Mapping[str, Any]]],
    texts: Texts,
) -> Column:
    first = next(iter(by_run.values()))
    attack = next(
        (
            found
            for run in by_run
            if isinstance(found := part(chosen.runs[run].extras, name).get("attack"), str)
        ),
        None,
    )
    score = attack or (
        "rougeL" if "rougeL" in part(first[0], "scores") else next(iter(part(first[0], "scores")), "")
    )
    kind = "tokens" if attack else "rouge" if score == "rougeL" else "plain"
    examples: dict[tuple[str, int], dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for run, records in by_run.items():
        shade = _Shades(chosen, run, name, records, texts) if attack else None
        if shade is not None and shade.missing:
            missing[run] = shade.missing
        for at, record in enumerate(records):
            where = (str(record.get("split")), _number(record))
            example = examples.setdefault(where, _head(record))
            example["runs"][run] = _answer(example, record, score, shade, at)
    ordered = [examples[key] for key in sorted(examples, key=lambda key: _order(key, first))]
    block = {
        "column": name,
        "kind": kind,
        "score": score,
        "goal": goal,
        "runs": list(by_run),
        "home": str(first[0].get("split")),
        "examples": ordered,
    }
    return Column(name, kind, block, missing)


def _order(key: tuple[str, int], records: Sequence[Mapping[str, Any]]) -> tuple[bool, str, int]:
    """Put the split that comes first in the records first."""
    return key[0] != str(records[0].get("split")), *key


def _number(record: Mapping[str, Any]) -> int:
    found = record.get("id")
    return found if isinstance(found, int) else -1


def _head(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an example is for every run: its number and what was given."""
    given = {key: _bounded(str(record[key])) for key in evidence.GIVEN if key in record}
    return {
        "id": _number(record),
        "split": str(record.get("split")),
        "given": given,
        "truths": [],
        "cuts": [],
        "runs": {},
    }


def _answer(
    example: dict[str, Any], record: Mapping[str, Any], score: str, shade: "_Shades | None", at: int
) -> dict[str, Any]:
    """Return what one run came to in an example."""
    value = part(record, "scores").get(score)
    found: dict[str, Any] = {"score": value if isinstance(value, int | float) else None}
    if shade is not None:
        shading = shade.of(at, found["score"])
        if shading is not None:
            found["cut"], found["tokens"] = _place(example["cuts"], list(shading.pieces)), shading.values
    elif "response" in record and "truth" in record:
        found |= _compared(example, str(record["truth"]), str(record["response"]), found["score"])
    else:
        known = {"column", "split", "id", "scores", "prompt_sha256", *evidence.GIVEN}
        found["notes"] = {key: _bounded(str(record[key])) for key in sorted(set(record) - known)}
    return found


def _compared(example: dict[str, Any], truth: str, response: str, score: float | None) -> dict[str, Any]:
    """Return a response with the words marked that ROUGE-L counted, and which of the truth's they are.

    Nothing is marked where the score does not follow from the texts.
    """
    right, said = words.cut(truth), words.cut(response)
    common = words.shared(right.words, said.words)
    follows = score is not None and common is not None and abs(common.f1(right, said) - score) < CLOSE
    marked = common if follows and common is not None else words.Shared([], [])
    found: dict[str, Any] = {
        "truth": _place(example["truths"], right.pieces),
        "hits": marked.truth,
        "said": _bounded_pieces(_pieces(said, set(marked.response))),
        "words": [len(right.words), len(said.words)],
    }
    return found if follows else {**found, "odd": True}


def _pieces(text: words.Words, marked: set[int]) -> list[str]:
    """Return a text as pieces in turn unmarked and marked; a marked word is a piece of its own."""
    found = [""]
    for at, piece in enumerate(text.pieces):
        if at % 2 and at // 2 in marked:
            found += [piece, ""]
        else:
            found[-1] += piece
    return found


def _bounded_pieces(pieces: list[str]) -> list[str]:
    """Cut pieces where their text is too long for the page, and say how much is left out."""
    if sum(map(len, pieces)) <= MOST:
        return pieces
    kept: list[str] = []
    room = MOST
    for piece in pieces:
        kept.append(piece[:room])
        room -= len(kept[-1])
        if not room:
            break
    left = sum(map(len, pieces)) - MOST
    more = f" [… {left:,} characters more stand in records.jsonl]"
    return [*kept[:-1], kept[-1] + more] if len(kept) % 2 else [*kept, more]


def _bounded(text: str) -> str:
    return "".join(_bounded_pieces([text]))


def _place(several: list[Any], one: Any) -> int:
    """Return the place of a value among several, where it is put if it is not there yet."""
    if one not in several:
        several.append(one)
    return several.index(one)


class _Shades:
    """What is known of a run's texts token by token."""

    def __init__(
        self, chosen: Chosen, run: str, column: str, records: Sequence[Mapping[str, Any]], texts: Texts
    ) -> None:
        result = chosen.runs[run]
        splits = sorted({str(record.get("split")) for record in records})
        self._texts = whole_texts(records, texts.of(splits))
        self.missing = ""
        self._tokens: TokenEvidence | None = None
        if not self._texts:
            self.missing = (
                f"the records hold only the ends of its texts; {texts.missing or 'the data are others'}"
            )
        else:
            self._tokens = TokenEvidence(result, column, chosen.results / "cache")
            self.missing = self._tokens.missing

    def of(self, at: int, score: float | None) -> Any:
        text = self._texts.get(at)
        return self._tokens.of(text, score) if self._tokens is not None and text is not None else None
