"""Which runs a page is about: those of one task, with their records."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_eval import plugins
from muse_eval.config import TaskSpec
from muse_eval.errors import UserError, unknown_name
from muse_eval.results import REFERENCES, CorruptResult, RunRow, StoredResult, headings, load_records, title
from muse_eval.results.comparable import held_alike
from muse_eval.results.gated import gated
from muse_eval.results.rows import Heading, credible, rows, task_spec
from muse_eval.types import Warn

_YAML = re.compile(r"\.ya?ml(-seed\d+)?$")


@dataclass(frozen=True)
class Chosen:
    """The runs of a page, references first, then by name."""

    task: str
    spec: TaskSpec | None
    """The task as it is installed, or as its YAML says; None: only what its results tell is known."""
    title: str
    results: Path
    """The results folder."""
    runs: dict[str, StoredResult]
    rows: list[RunRow]
    """As the table has them, in the order of ``runs``."""
    known: list[RunRow]
    """All rows of the task: a model is held against target and retrain though they are not shown."""
    headings: Mapping[str, Heading]
    """The task's columns, those alone that a run has."""
    records: dict[str, dict[str, list[Mapping[str, Any]]]]
    """Run to column to its examples, as they stand in ``records.jsonl``; a run without it has none."""

    def reference(self, name: str, row: RunRow, column: str) -> StoredResult | None:
        """Return the run of a reference where a row's column may be held against it, else None."""
        other = next((one["stored"] for one in self.known if one["name"] == name != row["name"]), None)
        return other if other is not None and held_alike(other, row["stored"], column) else None

    def retrain_of(self, row: RunRow, column: str) -> StoredResult | None:
        """Return the retrain model's run where a row's column may be held against it, else None."""
        return self.reference("retrain", row, column)

    @property
    def unlearned(self) -> list[str]:
        """The names of the runs that are no references."""
        return [name for name in self.runs if name not in REFERENCES]


def choose(
    results: Path, task: str | None, models: Sequence[str], warn: Warn, baseline: Path | None = None
) -> Chosen:
    """Return a task's runs that can be shown.

    Args:
        results: the results folder.
        task: the task's name or YAML file; None: the one that has runs.
        models: names of runs; empty: all.
        warn: told, in one line, of a run that cannot be read or has no records, and what a gate cannot tell.
        baseline: file of what the runs are held against; None: nothing.

    Raises:
        UserError: there is no run, several tasks have some, or one that is named has none.
    """
    found = credible(results, warn)
    tasks = sorted({one.task for one in found})
    if not tasks:
        raise UserError(f"{results} holds no run; score a model first: muse-eval run --model …")
    if task is None and len(tasks) > 1:
        raise UserError(f"{results} holds runs of several tasks; give --task with one of {', '.join(tasks)}")
    task = task or tasks[0]
    spec = plugins.task(task) if task not in tasks and _YAML.search(task) else task_spec(task)
    task = spec.name if spec is not None else task
    if task not in tasks:
        raise unknown_name("task with runs", task, tasks)
    runs = {one.name: one for one in found if one.task == task}
    for name in models:
        if name not in runs:
            raise unknown_name("run", name, runs)
    every = gated(rows(runs.values()), baseline, warn)
    kept = [row for row in every if not models or row["name"] in models]
    ordered = {row["name"]: row["stored"] for row in kept}
    known = {
        name: heading
        for name, heading in headings(task, kept).items()
        if any(name in row["columns"] for row in kept)
    }
    records = {name: _records(one, warn) for name, one in ordered.items()}
    return Chosen(task, spec, title(task, kept), results, ordered, kept, every, known, records)


def _records(result: StoredResult, warn: Warn) -> dict[str, list[Mapping[str, Any]]]:
    by_column: dict[str, list[Mapping[str, Any]]] = {}
    assert result.folder is not None
    try:
        for record in load_records(result.folder):
            by_column.setdefault(str(record.get("column")), []).append(record)
    except CorruptResult as error:
        warn(f"without its evidence: {error}")
        return {}
    return by_column
