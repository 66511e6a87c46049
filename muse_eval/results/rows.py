"""Stored results as the rows of a table, and what heads its columns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Literal, Protocol, TypedDict

from muse_eval import plugins
from muse_eval.config import TaskSpec
from muse_eval.errors import UserError
from muse_eval.printable import one_line
from muse_eval.results.comparable import asked
from muse_eval.results.judged import judged
from muse_eval.results.lineage import part
from muse_eval.results.runs import REFERENCES, StoredColumn, StoredResult, load_all
from muse_eval.results.whole import fault, has_records
from muse_eval.types import Warn

Goal = Literal["lower", "higher", "zero"]
ARROWS: dict[Goal | None, str] = {"lower": " ↓", "higher": " ↑", "zero": " → 0", None: ""}
FLAGS = {
    "saturated": "PrivLeak is at its bound, the leak may be larger than it can show",
    "collapsed": "text never seen is over 1.5 times less likely than to retrain; "
    "a PrivLeak near 0 is not like retrain",
    "degenerate": "the responses repeat themselves or are empty",
    "gated": "it fails the gate: further from the baseline than its tolerance (muse-eval check)",
    "utility-gate": "KnowMem Dr is more than 20 % under the target's: unlearning took what was to be kept",
    "reference-published": "PrivLeak divides by a published AUC, not by a retrain model measured here",
    "no-reference": "there is no retrain model to compare with",
    "truncated": "a text was cut to the model's context",
    "unpinned": "the server answered for a model by name alone (--model-revision pins it)",
    "limited": "scored on the first examples only (--limit)",
    "unchanged": "the probe found nothing to change in some prompts, which were asked as ever",
    "unanswered": "the model answers hardly any retain question (KnowMem Dr under 5): "
    "it cannot show forgetting",
    "answer-space": "the tokenizer joins the prompt's last space to an answer's first word, "
    "which may mislead the model; try --set knowmem.answer_space=false",
    "no-answer-space": "the tokenizer joins the space before an answer to the prompt, "
    "which may mislead the model; try --set knowmem.answer_space=true",
}
"""What each flag of a cell means, as printed below a table; a cell may say more of its own."""


def meaning(column: StoredColumn, flag: str) -> str:
    """Return what a flag means in a cell; of an unknown one its name."""
    return column.meanings.get(flag) or FLAGS.get(flag, flag)


class Heading(Protocol):
    """What a table needs to know of a column; a task's ``ColumnSpec`` is one."""

    @property
    def title(self) -> str:
        """The column's title, without its arrow."""

    @property
    def goal(self) -> Goal | None:
        """Which way is better, or None where that is not known."""


@dataclass(frozen=True)
class PlainHeading:
    """A column of a task that is not installed here."""

    title: str
    goal: Goal | None = None


class RunRow(TypedDict):
    """One run as the tables need it."""

    task: str
    title: str
    """The task's when the run was scored; empty where that is not stored."""
    name: str
    model: str
    revision: str
    digest: str
    columns: dict[str, StoredColumn]
    headings: dict[str, Heading]
    """The columns of the task as it was when the run was scored."""
    auc: float | None
    """The headline attack's AUC, forget against holdout."""
    reference: str
    """What PrivLeak divides by: ``measured``, ``published``, ``none``, or empty where that is not stored."""
    seed: int | None
    forgot: str
    """Which of a task's several forget sets; empty where it has one. Only runs of one set compete."""
    asked: dict[str, str]
    """Column to its parameters, as text. Only runs that were asked in the same way compete."""
    notes: dict[str, str]
    """What the row has to be read with: ``fold`` (its forget set), ``selection`` (its epoch), ``asked``."""
    engine: str
    dtype: str
    limit: int | None
    stored: StoredResult
    """The run itself, for what its records tell."""


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────
def rows(results: Iterable[StoredResult]) -> list[RunRow]:
    """Return one row per run, by task; in each the target, the retrain model, then the others by name."""
    return sorted((row(result) for result in judged(results)), key=_order)


def by_task(rows: Iterable[RunRow]) -> dict[str, list[RunRow]]:
    """Return each task's rows, in the order of the table."""
    ordered = sorted(rows, key=_order)
    return {task: list(group) for task, group in groupby(ordered, key=lambda row: row["task"])}


def all_rows(results: Path, warn: Warn, *, probed: bool = False) -> list[RunRow]:
    """Return a row for each run of a results folder; one that cannot be read or contradicts itself is told.

    What contradicts its records, or its settings their fingerprint, is left out; one whose records are gone
    is told and kept. Runs of probes are left out unless ``probed``.

    Raises:
        UserError: it holds no run.
    """
    found = rows(credible(results, warn, probed=probed))
    if not found:
        raise UserError(f"{results} holds no run; score a model first: muse-eval run --model …")
    return found


def credible(results: Path, warn: Warn, *, probed: bool = False) -> list[StoredResult]:
    """Return the runs of a results folder that contradict nothing, by task and name; the others are told."""
    return [one for one in load_all(results, warn, probed=probed) if _credible(one, warn)]


def _credible(result: StoredResult, warn: Warn) -> bool:
    if not has_records(result):
        if result.records_sha256 is not None:
            warn(f"{result.key}: its records.jsonl is gone; nothing shows what its numbers follow from")
        return True
    problem = fault(result)
    if problem:
        warn(f"left out: {result.key}: {problem}; score the run again")
    return not problem


def _short(digest: str) -> str:
    """Return a digest's first digits; of a served model, which has none, what tells it apart."""
    return digest if " " in digest else digest.rpartition(":")[2][:12]


def _order(row: RunRow) -> tuple[str, int, str, str, str]:
    rank = REFERENCES.index(row["name"]) if row["name"] in REFERENCES else len(REFERENCES)
    return row["task"], rank, row["name"], row["model"], row["digest"]


def row(result: StoredResult) -> RunRow:
    """Return a run as a row of tables, with the flags that it has."""
    model = {key: str(value) for key, value in result.model.items() if value is not None}
    reference = part(result.extras, "reference")
    named = (result.extras.get("attack"), reference.get("attack"))
    attack = next((name for name in named if isinstance(name, str)), "Min-40%")
    auc = part(result.extras, "auc").get(f"forget_holdout_{attack}")
    seed, limit, asked_of = (
        result.config.get("seed"),
        result.config.get("limit"),
        part(result.config, "model"),
    )
    return {
        "task": result.task,
        "title": str(part(result.config, "task").get("title", "")),
        "name": result.name,
        "model": model.get("id", ""),
        "revision": model.get("revision", ""),
        "digest": _short(model.get("digest", "")),
        "columns": result.columns,
        "headings": stored_headings(result),
        "auc": auc if isinstance(auc, float | int) else None,
        "reference": str(reference.get("source", "")) or _flagged_reference(result.columns),
        "seed": seed if isinstance(seed, int) else None,
        "forgot": str(part(part(result.config, "made"), "fold").get("split", "")),
        "asked": asked(result),
        "notes": {key: str(note) for key, note in part(result.extras, "notes").items()},
        "engine": str(asked_of.get("engine", "")),
        "dtype": str(asked_of.get("dtype", "")),
        "limit": limit if isinstance(limit, int) else None,
        "stored": result,
    }


def _flagged_reference(columns: Mapping[str, StoredColumn]) -> str:
    flags = {flag for column in columns.values() for flag in column.flags}
    return "none" if "no-reference" in flags else "published" if "reference-published" in flags else ""


@cache
def task_spec(name: str) -> TaskSpec | None:
    """Return a built-in task, parsed once, or None where it is not installed."""
    try:
        return plugins.task(name)
    except UserError:
        return None


def stored_headings(result: StoredResult) -> dict[str, Heading]:
    """Return the columns of the task that a result was scored on, as the result describes it."""
    columns = part(part(result.config, "task"), "columns")
    goals: tuple[Goal, ...] = ("lower", "higher", "zero")
    return {
        name: PlainHeading(
            str(column.get("title", name)), next((g for g in goals if g == column.get("goal")), None)
        )
        for name, column in columns.items()
        if isinstance(column, dict)
    }


def headings(task: str, rows: Iterable[RunRow]) -> dict[str, Heading]:
    """Return the columns of a task's table: the installed task's, then those only its results have."""
    spec = task_spec(task)
    known: dict[str, Heading] = dict(spec.columns) if spec else {}
    for row in rows:
        for name in (*row["headings"], *sorted(row["columns"])):
            known.setdefault(name, row["headings"].get(name, PlainHeading(name)))
    return known


def title(task: str, rows: Iterable[RunRow]) -> str:
    """Return what heads a task's table: its title, as installed or as its results say, else its name."""
    spec = task_spec(task)
    known = spec.title if spec else next((row["title"] for row in rows if row["title"]), task)
    return one_line(known)
