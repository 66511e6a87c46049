"""Stored results as rows, CSV, Markdown and a terminal table, in the shape of the published table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict

from muse_eval import plugins
from muse_eval.config.task import TaskSpec
from muse_eval.errors import UserError
from muse_eval.printable import one_line
from muse_eval.results.comparable import asked, is_best, misfits
from muse_eval.results.lineage import part
from muse_eval.results.runs import REFERENCES, StoredColumn, StoredResult

if TYPE_CHECKING:
    from rich.table import Table

Goal = Literal["lower", "higher", "zero"]
ARROWS: dict[Goal | None, str] = {"lower": " ↓", "higher": " ↑", "zero": " → 0", None: ""}

FLAGS = {
    "saturated": "PrivLeak is at its bound, the leak may be larger than it can show",
    "collapsed": "text never seen is over 1.5 times less likely than to retrain; "
    "a PrivLeak near 0 is not like retrain",
    "reference-published": "PrivLeak divides by a published AUC, not by a retrain model measured here",
    "no-reference": "there is no retrain model to compare with",
    "truncated": "a text was cut to the model's context",
    "unpinned": "the server answered for a model by name alone (--model-revision pins it)",
    "limited": "scored on the first examples only (--limit)",
    "unanswered": "the model answers hardly any retain question (KnowMem Dr under 5): "
    "it cannot show forgetting",
    "answer-space": "the tokenizer joins the prompt's last space to an answer's first word, "
    "which may mislead the model; try --set knowmem.answer_space=false",
    "no-answer-space": "the tokenizer joins the space before an answer to the prompt, "
    "which may mislead the model; try --set knowmem.answer_space=true",
}
"""What each flag of a cell means, as printed below a table."""


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


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────
def rows(results: Iterable[StoredResult]) -> list[RunRow]:
    """Return one row per run, by task; in each the target, the retrain model, then the others by name."""
    return sorted((_row(result) for result in results), key=_order)


def _short(digest: str) -> str:
    """Return a digest's first digits; of a served model, which has none, what tells it apart."""
    return digest if " " in digest else digest.rpartition(":")[2][:12]


def _order(row: RunRow) -> tuple[str, int, str, str, str]:
    rank = REFERENCES.index(row["name"]) if row["name"] in REFERENCES else len(REFERENCES)
    return row["task"], rank, row["name"], row["model"], row["digest"]


def _row(result: StoredResult) -> RunRow:
    model = {key: str(value) for key, value in result.model.items() if value is not None}
    reference = part(result.extras, "reference")
    named = (result.extras.get("attack"), reference.get("attack"))
    attack = next((name for name in named if isinstance(name, str)), "Min-40%")
    auc = part(result.extras, "auc").get(f"forget_holdout_{attack}")
    seed = result.config.get("seed")
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


def _by_task(rows: Iterable[RunRow]) -> dict[str, list[RunRow]]:
    ordered = sorted(rows, key=_order)
    return {task: list(group) for task, group in groupby(ordered, key=lambda row: row["task"])}


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────
def to_csv(rows: Iterable[RunRow], published: Iterable[Mapping[str, str]] = ()) -> str:
    """Return one line per run, then one per published row; the same runs give the same bytes.

    What was not scored is an empty cell; ``source`` is empty for what was measured here.
    """
    import pandas as pd

    tasks = _by_task(rows)
    names = dict.fromkeys(name for task, runs in tasks.items() for name in headings(task, runs))
    lines = [_csv_line(row, names) for runs in tasks.values() for row in runs]
    lines += [_published_line(line, names) for line in published if line["task"] in tasks]
    header = ["task", "name", "model", "revision", "digest"]
    header += [f"{name}{end}" for name in names for end in ("", "_low", "_high", "_n", "_flags")]
    header += ["auc", "reference", "seed", "notes", "source"]
    # Cells are text already, so pandas cannot print a number in its own way.
    return pd.DataFrame(lines, columns=header, dtype=str).to_csv(index=False, lineterminator="\n")


def _csv_line(row: RunRow, names: Iterable[str]) -> list[str]:
    cells = [row["task"], row["name"], row["model"], row["revision"], row["digest"]]
    for name in names:
        column = row["columns"].get(name)
        if column is None:
            cells += [""] * 5
            continue
        low, high = column.ci or (None, None)
        cells += [_number(column.value), _number(low), _number(high), str(column.n), ";".join(column.flags)]
    seed = "" if row["seed"] is None else str(row["seed"])
    return [*cells, _number(row["auc"], 4), row["reference"], seed, "; ".join(row["notes"].values()), ""]


def _published_line(line: Mapping[str, str], names: Iterable[str]) -> list[str]:
    cells = [line["task"], line["method"], line["base_model"], "", ""]
    for name in names:
        cells += [line.get(name, ""), "", "", "", ""]
    return [*cells, "", "", "", "", f"{line['source']}, {line['locator']}"]


def _number(value: float | None, places: int = 2) -> str:
    if value is None:
        return ""
    # Adding 0.0 turns the −0.0 that rounding leaves into 0.0.
    return f"{round(value, places) + 0.0:.{places}f}"


# ── one rendering for Markdown and the terminal ──────────────────────────────────────────────────
@dataclass(frozen=True)
class Cell:
    """One printed cell."""

    value: str
    spread: str = ""
    """The half-interval with its sign, and the numbers of the notes."""
    best: bool = False


@dataclass(frozen=True)
class Grid:
    """One printed table: every cell's text and style, and the notes below."""

    header: list[str]
    lines: list[list[Cell]]
    notes: list[str]


def grid(columns: Mapping[str, Heading], rows: Sequence[RunRow]) -> Grid:
    """Lay out one task's rows: the best unlearned models marked, flags and gaps as numbered notes."""
    notes: dict[str, int] = {}
    lines = []
    for row in rows:
        cells = [Cell(row["name"], mark(row["notes"].values(), notes))]
        for name, heading in columns.items():
            best = is_best(row, name, heading.goal, rows)
            cells.append(_cell(row["columns"].get(name), best, misfits(row, name, rows), notes))
        lines.append(cells)
    header = ["model", *(f"{heading.title}{ARROWS[heading.goal]}" for heading in columns.values())]
    return Grid(header, lines, numbered(notes))


def remarks(column: StoredColumn) -> list[str]:
    """Return what a cell has to be read with: why it is undefined, else what its flags mean."""
    if column.value is None:
        return [column.reason or "undefined"]
    return [f"{flag}: {FLAGS[flag]}" if flag in FLAGS else flag for flag in column.flags]


def mark(texts: Iterable[str], notes: dict[str, int]) -> str:
    """Return the numbers of texts among the notes, as a cell shows them; new texts join the notes."""
    numbers = [str(notes.setdefault(text, len(notes) + 1)) for text in texts]
    return f" [{', '.join(numbers)}]" if numbers else ""


def numbered(notes: Mapping[str, int]) -> list[str]:
    """Return the notes as they stand below a table."""
    return [f"[{number}] {text}" for text, number in notes.items()]


def _cell(column: StoredColumn | None, best: bool, more: Sequence[str], notes: dict[str, int]) -> Cell:
    if column is None:
        return Cell("")
    plain = plain_cell(column, best)
    return replace(plain, spread=plain.spread + mark([*remarks(column), *more], notes))


def plain_cell(column: StoredColumn, best: bool) -> Cell:
    """Return a column's value and half of its interval, without the numbers of notes."""
    spread = ""
    if column.value is not None and column.ci is not None:
        spread = f" ± {_number((column.ci[1] - column.ci[0]) / 2)}"
    return Cell("n/a" if column.value is None else _number(column.value), spread, best)


def to_markdown(rows: Iterable[RunRow], published: Iterable[Mapping[str, str]] = ()) -> str:
    """Return a table per task, each followed by the task's published numbers where they are given."""
    published = list(published)
    blocks = []
    for task, runs in _by_task(rows).items():
        columns = headings(task, runs)
        laid = grid(columns, runs)
        blocks.append(f"## {_escape(title(task, runs))}\n")
        blocks.append(_markdown_table(laid.header, laid.lines))
        if laid.notes:
            blocks.append("".join(f"- {_escape(note)}\n" for note in laid.notes))
        elsewhere = [line for line in published if line["task"] == task]
        if elsewhere:
            blocks.append("Published elsewhere, not measured here:\n")
            blocks.append(_published_table(columns, laid.header, elsewhere))
    return "\n".join(blocks)


def grid_markdown(laid: Grid, extra: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Return a laid-out table and its notes as Markdown; ``extra`` is title to row name to a cell more."""
    added = extra or {}
    lines = [
        [*line, *(Cell(cells.get(line[0].value, "")) for cells in added.values())] for line in laid.lines
    ]
    return (
        _markdown_table([*laid.header, *added], lines)
        + "\n"
        + "".join(f"- {_escape(n)}\n" for n in laid.notes)
    )


def _published_table(columns: Iterable[str], header: list[str], lines: list[Mapping[str, str]]) -> str:
    cells = [
        [
            Cell(line["method"]),
            *(Cell(line.get(name, "")) for name in columns),
            Cell(f"{line['source']}, {line['locator']}"),
        ]
        for line in lines
    ]
    return _markdown_table([*header, "source"], cells)


def _markdown_table(header: Sequence[str], lines: Iterable[Sequence[Cell]]) -> str:
    rule = ["---", *("---:" for _ in header[1:])]
    body = [[_markdown_cell(cell) for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in [[_escape(h) for h in header], rule, *body])


def _markdown_cell(cell: Cell) -> str:
    value = f"**{_escape(cell.value)}**" if cell.best else _escape(cell.value)
    return value + cell.spread


def _escape(text: str) -> str:
    for sign in "\\|*`<":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def draw(laid: Grid) -> "Table":
    """Return a laid-out table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    caption = Text("\n".join(laid.notes)) if laid.notes else None
    result = Table(caption=caption, caption_justify="left")
    for index, title in enumerate(laid.header):
        result.add_column(Text(title), justify="right" if index else "left")
    for line in laid.lines:
        result.add_row(*(Text.assemble((c.value, "bold" if c.best else ""), c.spread) for c in line))
    return result
