"""The examples behind a run's scores: what of them is kept, which are the worst, and how they read."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_eval.errors import UserError, counted, unknown_name
from muse_eval.printable import one_line, printable
from muse_eval.reading import typed_path
from muse_eval.results.lineage import part
from muse_eval.results.rows import ARROWS, Goal, Heading, PlainHeading, stored_headings, task_spec
from muse_eval.results.runs import RECORDS, RESULT, StoredColumn, StoredResult
from muse_eval.types import Record, Row

GIVEN = ("prompt", "question", "text")
"""The cells of a row that a model is given, by their names."""
EDGE = 300
"""Characters kept of each end of a longer one."""
SHOWN = (*GIVEN, "response", "truth")
"""What is printed of an example, in this order; whatever else a metric noted comes behind."""
NAMED = 20
"""Runs that an error names at the most."""


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────
def excerpt(text: str) -> str:
    """Return a text whole, or both its ends where it is more than twice ``EDGE`` characters long."""
    left_out = len(text) - 2 * EDGE
    return text if left_out <= 0 else f"{text[:EDGE]} [… {left_out:,} characters …] {text[-EDGE:]}"


def given(rows: Sequence[Row], record: Record) -> dict[str, str]:
    """Return what a model was given in an example, cut to an excerpt where it is long.

    A record's ``prompt_sha256`` is that of the whole, so it also tells whether this is whole.
    """
    row = rows[record.index] if record.index < len(rows) else {}
    return {name: excerpt(row[name]) for name in GIVEN if name in row}


# ── which run ────────────────────────────────────────────────────────────────────────────────────
def find_run(results: Path, name: str) -> Path:
    """Return the folder of a run, given as its name, as TASK/NAME, or as a folder.

    Raises:
        UserError: there is none, or several tasks have one of that name.
    """
    path, home = Path(name), results / "runs"
    with suppress(UserError):
        path = typed_path(name)
    if path.name in (RESULT, RECORDS):
        path = path.parent
    for folder in (path, home / name):
        if _holds_run(folder):
            return folder
    runs = {
        f"{path.parent.parent.name}/{path.parent.name}": path.parent for path in home.glob(f"*/*/{RESULT}")
    }
    found = sorted(key for key in runs if key.partition("/")[2] == name)
    if len(found) > 1:
        raise UserError(f"{name!r} is the name of several runs; give one of {', '.join(found)}")
    if not found:
        known = sorted({key if "/" in name else key.partition("/")[2] for key in runs})
        raise UserError(f"{home}: {unknown_name('run', name, known[:NAMED])}")
    return runs[found[0]]


def _holds_run(folder: Path) -> bool:
    try:
        return (folder / RESULT).is_file()
    except (OSError, ValueError):
        # A name too long, or with a zero byte.
        return False


# ── which examples ───────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Ranking:
    """By what a column's examples are ordered, the worst first."""

    score: str
    """Name of the score."""
    goal: Goal | None
    split: str | None = None
    """The one split whose examples are ranked; None: all."""
    against: str | None = None
    """The split that a membership attack tells its texts from."""

    @property
    def said(self) -> str:
        """The order in words."""
        if self.split is not None:
            return f"lowest {self.score} first: the texts of {self.split} that are likeliest to the model"
        how = {"lower": "highest", "higher": "lowest", "zero": "farthest from 0", None: ""}[self.goal]
        return f"{how} {self.score} first" if how else "in order"

    def badness(self, record: Mapping[str, Any]) -> float:
        """Return how bad an example's score is; −∞ where it is undefined."""
        value = part(record, "scores").get(self.score)
        if not isinstance(value, int | float):
            return float("-inf")
        if self.split is not None or self.goal == "higher":
            return -value
        return {"lower": value, "zero": abs(value), None: 0.0}[self.goal]


@dataclass(frozen=True)
class Examples:
    """Some of a column's examples."""

    name: str
    heading: Heading
    cell: StoredColumn
    ranking: Ranking
    records: list[Mapping[str, Any]]
    """As they stand in ``records.jsonl``."""
    remarks: list[str]
    """What more is to be said of each; empty where nothing is."""


def choose(
    run: StoredResult,
    records: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    worst: int,
    example: int | None = None,
) -> list[Examples]:
    """Return the worst examples of each column, or those of one number.

    Which is worst depends on the column's goal: of forget text what is remembered best, of retain text what
    is known least, for PrivLeak the forget texts that are the likeliest to the model.

    Raises:
        UserError: the run has no such column, or no example of that number.
    """
    for name in columns:
        if name not in run.columns:
            raise unknown_name("column", name, run.columns)
    by_column: dict[str, list[Mapping[str, Any]]] = {name: [] for name in columns or run.columns}
    for record in records:
        by_column.get(str(record.get("column")), []).append(record)
    return [_chosen(run, name, found, worst, example) for name, found in by_column.items()]


def _chosen(
    run: StoredResult, name: str, records: list[Mapping[str, Any]], worst: int, example: int | None
) -> Examples:
    heading = _heading(run, name)
    ranking = _ranking(run, name, heading.goal, records)
    if example is not None:
        kept = [record for record in records if record.get("id") == example]
        if not kept:
            numbers = [one for record in records if isinstance(one := record.get("id"), int)]
            there = f"they are {min(numbers)} to {max(numbers)}" if numbers else "it has none"
            raise UserError(f"column {name} of {run.key} has no example {example}; {there}")
    else:
        ranked = [record for record in records if ranking.split in (None, record.get("split"))]
        kept = sorted(ranked, key=ranking.badness, reverse=True)[:worst]
    return Examples(name, heading, run.columns[name], ranking, kept, _remarks(ranking, records, kept))


def _heading(run: StoredResult, name: str) -> Heading:
    spec = task_spec(run.task)
    known: dict[str, Heading] = {**(spec.columns if spec else {}), **stored_headings(run)}
    return known.get(name, PlainHeading(name))


def _ranking(
    run: StoredResult, name: str, goal: Goal | None, records: Sequence[Mapping[str, Any]]
) -> Ranking:
    attack = part(run.extras, name).get("attack")
    splits = part(part(part(part(run.config, "task"), "columns"), name), "splits")
    if isinstance(attack, str) and isinstance(forget := splits.get("forget"), str):
        return Ranking(attack, goal, forget, str(splits.get("holdout")))
    scores = part(records[0], "scores") if records else {}
    return Ranking("rougeL" if "rougeL" in scores else next(iter(scores), "score"), goal)


def _remarks(
    ranking: Ranking, records: Iterable[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Say of each text of the attacked split how many of the other's are likelier to the model."""
    others = [-ranking.badness(record) for record in records if record.get("split") == ranking.against]
    if ranking.against is None or not others:
        return [""] * len(kept)

    def said(record: Mapping[str, Any]) -> str:
        if record.get("split") != ranking.split:
            return ""
        likelier = sum(other < -ranking.badness(record) for other in others)
        return f"{likelier} of {len(others)} texts of {ranking.against} are likelier"

    return [said(record) for record in kept]


# ── how they read ────────────────────────────────────────────────────────────────────────────────
def to_json(run: StoredResult, chosen: Iterable[Examples]) -> dict[str, Any]:
    """Return the run and the chosen examples as plain values."""
    return {
        "run": run.key,
        "model": run.model,
        "columns": {
            one.name: {
                "value": one.cell.value,
                "goal": one.heading.goal,
                "score": one.ranking.score,
                "order": one.ranking.said,
                "examples": one.records,
            }
            for one in chosen
        },
    }


def lines(run: StoredResult, chosen: Sequence[Examples], width: int = 100) -> list[str]:
    """Return the examples as lines of text; nothing in them can command a terminal.

    Args:
        run: the run.
        chosen: what ``choose`` returned.
        width: characters of a line.
    """
    model = one_line(str(run.model.get("id") or "a model without a name"))
    found = [f"{one_line(run.key)}: {model}"]
    if any(record.get("prompt_sha256") and not set(GIVEN) & set(record) for record in _all(chosen)):
        found.append(
            "what the model was given is not in these records, of an older version; the same run again "
            "adds it, and asks nothing that was answered before"
        )
    for one in chosen:
        found += ["", _head(one)]
        for record, remark in zip(one.records, one.remarks, strict=True):
            found += ["", *_example(one, record, remark, width)]
    return found


def _all(chosen: Iterable[Examples]) -> Iterable[Mapping[str, Any]]:
    return (record for one in chosen for record in one.records)


def _head(one: Examples) -> str:
    value = "n/a" if one.cell.value is None else f"{round(one.cell.value, 2) + 0.0:.2f}"
    title = f"{one_line(one.heading.title)}{ARROWS[one.heading.goal]}"
    count = f"{len(one.records)} of its {counted(one.cell.n, 'example')}" if one.records else "no examples"
    return f"{title} ({one_line(one.name)}) {value}, {count}, {one_line(one.ranking.said)}"


def _example(one: Examples, record: Mapping[str, Any], remark: str, width: int) -> list[str]:
    value = part(record, "scores").get(one.ranking.score)
    shown = f"{value:.4f}" if isinstance(value, int | float) else "undefined"
    name = one_line(f"{record.get('split')}[{record.get('id')}]")
    head = f"{name}  {one_line(one.ranking.score)} {shown}" + (f"  {one_line(remark)}" if remark else "")
    known = {"column", "split", "id", "scores", "prompt_sha256"}
    names = [*(name for name in SHOWN if name in record), *sorted(set(record) - known - set(SHOWN))]
    return [head, *(line for name in names for line in _wrapped(name, str(record[name]), width))]


def _wrapped(name: str, text: str, width: int) -> list[str]:
    """Return a text with its name in front, its own line ends kept, in lines that are not too long."""
    room = max(20, width - 12)
    parts = [textwrap.wrap(part, room) or [""] for part in printable(text).split("\n")]
    flat = [line for wrapped in parts for line in wrapped]
    if not text.strip():
        flat = ["(empty)"]
    return [f"  {one_line(name) if not at else '':<10}{line}".rstrip() for at, line in enumerate(flat)]
