"""Runs of several forget sets side by side: scalability and sustainability (MUSE, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from muse_eval.config.task import FoldsSpec, TaskSpec
from muse_eval.results.grid import Cell, Grid, grid
from muse_eval.results.lineage import Fold
from muse_eval.results.rows import RunRow, headings, rows
from muse_eval.results.runs import REFERENCES, StoredResult
from muse_eval.results.trajectory import cells, csv_text

FILES = {"nested": "scalability", "sequential": "sustainability"}
"""What a task's CSV and figure are called, by the mode of its folds."""


@dataclass(frozen=True)
class FoldRun:
    """One method after one fold."""

    fold: Fold
    result: StoredResult


@dataclass(frozen=True)
class FoldRuns:
    """Every fold of every method, beside the target and the retrain model."""

    task: TaskSpec
    references: dict[str, StoredResult]
    """``target`` and ``retrain``."""
    methods: dict[str, list[FoldRun]]
    """In the order of the folds."""
    seed: int | None = None
    """Of the unlearning, where it is not the task's own."""

    @property
    def folds(self) -> FoldsSpec:
        """How the folds were forgotten."""
        assert self.task.folds is not None
        return self.task.folds

    @property
    def file(self) -> str:
        """The name of its CSV and figure, without their endings."""
        return FILES[self.folds.mode] + ("" if self.seed is None else f"-seed{self.seed}")


def collect(task: TaskSpec, results: Sequence[StoredResult], seed: int | None = None) -> FoldRuns:
    """Sort a pipeline's runs by method and fold."""
    methods: dict[str, list[FoldRun]] = {}
    for result in results:
        made = result.config.get("made", {})
        if "fold" in made:
            fold = Fold(**made["fold"])
            methods.setdefault(fold.method, []).append(FoldRun(fold, result))
    for runs in methods.values():
        runs.sort(key=lambda run: run.fold.number)
    return FoldRuns(task, {one.name: one for one in results if one.name in REFERENCES}, methods, seed)


def caption(runs: FoldRuns) -> str:
    """Say in one line what the numbers measure."""
    how = {
        "nested": "Each line forgets its set from the target",
        "sequential": "Each line forgets its set from the model of the line before",
    }[runs.folds.mode]
    base = runs.task.base or runs.task.name
    same = f"all are scored on the same splits, {base}'s, PrivLeak against its retrain model"
    return f"{how}; {same}. {runs.folds.note}".strip()


def table(runs: FoldRuns) -> Grid:
    """Lay out a line a method and fold, with what was forgotten; what the numbers measure stands below."""
    lines: list[tuple[str, Fold | None, StoredResult]] = [
        (name, None, runs.references[name]) for name in REFERENCES
    ]
    lines += [(name, run.fold, run.result) for name, found in runs.methods.items() for run in found]
    found = [_row(name, result) for name, _, result in lines]
    laid = grid(headings(runs.task.name, found), found)
    return Grid(
        [laid.header[0], "forgotten", "texts", "tokens", *laid.header[1:]],
        [
            [cells[0], *_forgotten(fold), *cells[1:]]
            for cells, (_, fold, _) in zip(laid.lines, lines, strict=True)
        ],
        [caption(runs), *laid.notes],
    )


def _row(name: str, result: StoredResult) -> RunRow:
    (row,) = rows([result])
    # What was forgotten has columns of its own here.
    notes = {key: text for key, text in row["notes"].items() if key != "fold"}
    return {**row, "name": name, "notes": notes}


def _forgotten(fold: Fold | None) -> list[Cell]:
    if fold is None:
        return [Cell(""), Cell(""), Cell("")]
    return [Cell(fold.split), Cell(str(fold.texts)), Cell("" if fold.tokens is None else str(fold.tokens))]


def to_csv(runs: FoldRuns) -> str:
    """Return a line for the target, the retrain model, and each method and fold, with 95 % intervals."""
    columns = list(headings(runs.task.name, rows(runs.references.values())))
    header = ["method", "fold", "split", "texts", "tokens"]
    header += [f"{name}{part}" for name in columns for part in ("", "_low", "_high")]

    def values(result: StoredResult) -> list[str]:
        return [text for name in columns for text in cells(result.columns.get(name))]

    lines = [[name, "", "", "", "", *values(runs.references[name])] for name in REFERENCES]
    for method, found in runs.methods.items():
        for run in found:
            fold = run.fold
            tokens = "" if fold.tokens is None else str(fold.tokens)
            forgotten = [method, str(fold.number), fold.split, str(fold.texts), tokens]
            lines.append([*forgotten, *values(run.result)])
    return csv_text([header, *lines])
