"""Runs of several forget sets side by side: scalability and sustainability (MUSE, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from muse_eval.config import ForgetSetsSpec, TaskSpec
from muse_eval.results.cells import csv_text
from muse_eval.results.grid import Cell, Grid, grid
from muse_eval.results.judged import judged
from muse_eval.results.lineage import ForgetSet
from muse_eval.results.rows import RunRow, headings, row, rows
from muse_eval.results.runs import REFERENCES, StoredResult
from muse_eval.results.trajectory import cells

FILES = {"nested": "scalability", "sequential": "sustainability"}
"""What a task's CSV and figure are called, by the mode of its forget sets."""


@dataclass(frozen=True)
class ForgetSetRun:
    """One method after one forget set."""

    forget_set: ForgetSet
    result: StoredResult


@dataclass(frozen=True)
class ForgetSetRuns:
    """Every forget set of every method, beside the target and the retrain model."""

    task: TaskSpec
    references: dict[str, StoredResult]
    """``target`` and ``retrain``."""
    methods: dict[str, list[ForgetSetRun]]
    """In the order of the forget sets."""
    seed: int | None = None
    """Of the unlearning, where it is not the task's own."""

    @property
    def forget_sets(self) -> ForgetSetsSpec:
        """How the forget sets were forgotten."""
        assert self.task.forget_sets is not None
        return self.task.forget_sets

    @property
    def file(self) -> str:
        """The name of its CSV and figure, without their endings."""
        return FILES[self.forget_sets.mode] + ("" if self.seed is None else f"-seed{self.seed}")


def collect(task: TaskSpec, results: Sequence[StoredResult], seed: int | None = None) -> ForgetSetRuns:
    """Sort a pipeline's runs by method and forget set."""
    methods: dict[str, list[ForgetSetRun]] = {}
    results = judged(results)
    for result in results:
        lineage = result.config.get("made", {})
        if "fold" in lineage:
            forget_set = ForgetSet(**lineage["fold"])
            methods.setdefault(forget_set.method, []).append(ForgetSetRun(forget_set, result))
    for runs in methods.values():
        runs.sort(key=lambda run: run.forget_set.number)
    return ForgetSetRuns(task, {one.name: one for one in results if one.name in REFERENCES}, methods, seed)


def caption(runs: ForgetSetRuns) -> str:
    """Say in one line what the numbers measure."""
    how = {
        "nested": "Each line forgets its set from the target",
        "sequential": "Each line forgets its set from the model of the line before",
    }[runs.forget_sets.mode]
    base = runs.task.base or runs.task.name
    same = f"all are scored on the same splits, {base}'s, PrivLeak against its retrain model"
    return f"{how}; {same}. {runs.forget_sets.note}".strip()


def table(runs: ForgetSetRuns) -> Grid:
    """Lay out a line a method and forget set, with what was forgotten; notes stand below."""
    lines: list[tuple[str, ForgetSet | None, StoredResult]] = [
        (name, None, runs.references[name]) for name in REFERENCES
    ]
    lines += [(name, run.forget_set, run.result) for name, found in runs.methods.items() for run in found]
    found = [_row(name, result) for name, _, result in lines]
    laid = grid(headings(runs.task.name, found), found)
    return Grid(
        [laid.header[0], "forgotten", "texts", "tokens", *laid.header[1:]],
        [
            [cells[0], *_forgotten(forget_set), *cells[1:]]
            for cells, (_, forget_set, _) in zip(laid.lines, lines, strict=True)
        ],
        [caption(runs), *laid.notes],
    )


def _row(name: str, result: StoredResult) -> RunRow:
    found = row(result)
    # What was forgotten has columns of its own here.
    notes = {key: text for key, text in found["notes"].items() if key != "fold"}
    return {**found, "name": name, "notes": notes}


def _forgotten(forget_set: ForgetSet | None) -> list[Cell]:
    if forget_set is None:
        return [Cell(""), Cell(""), Cell("")]
    return [
        Cell(forget_set.split),
        Cell(str(forget_set.texts)),
        Cell("" if forget_set.tokens is None else str(forget_set.tokens)),
    ]


def to_csv(runs: ForgetSetRuns) -> str:
    """Return a line for the target, the retrain model, each method and forget set, with 95 % intervals."""
    columns = list(headings(runs.task.name, rows(runs.references.values())))
    header = ["method", "fold", "split", "texts", "tokens"]
    header += [f"{name}{part}" for name in columns for part in ("", "_low", "_high")]

    def values(result: StoredResult) -> list[str]:
        return [text for name in columns for text in cells(result.columns.get(name))]

    lines = [[name, "", "", "", "", *values(runs.references[name])] for name in REFERENCES]
    for method, found in runs.methods.items():
        for run in found:
            forget_set = run.forget_set
            tokens = "" if forget_set.tokens is None else str(forget_set.tokens)
            forgotten = [method, str(forget_set.number), forget_set.split, str(forget_set.texts), tokens]
            lines.append([*forgotten, *values(run.result)])
    return csv_text([header, *lines])
