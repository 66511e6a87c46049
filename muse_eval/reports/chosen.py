"""Which runs a page is about: those of one task, with their records."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muse_eval import plugins
from muse_eval.config import TaskSpec
from muse_eval.errors import UserError, unknown_name
from muse_eval.results import REFERENCES, CorruptResult, RunRow, StoredResult, headings, load_records, title
from muse_eval.results.comparable import held_alike
from muse_eval.results.gated import gated
from muse_eval.results.lineage import NOW
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
    probed: list[StoredResult] = field(default_factory=list)
    """The runs of these models, and of target and retrain, under probes and before them, in their order."""

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
    every_run = credible(results, warn, probed=True)
    found = [one for one in every_run if not one.probing]
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
    records = {name: read_records(one, warn) for name, one in ordered.items()}
    names = [*REFERENCES, *(name for name in ordered if name not in REFERENCES)]
    under = [one for one in every_run if one.task == task and one.probing.get("of") in names]
    probed = sorted(_of_these(under, runs, warn), key=lambda one: names.index(one.probing["of"]))
    return Chosen(task, spec, title(task, kept), results, ordered, kept, every, known, records, probed)


def _of_these(
    probed: Sequence[StoredResult], runs: Mapping[str, StoredResult], warn: Warn
) -> list[StoredResult]:
    """Return the probed runs of models whose own run, where there is one, is of the same weights."""
    starts = {one.probing["of"]: one for one in probed if one.probing.get("strength") == NOW}
    others = [name for name, one in starts.items() if name in runs and not _same_weights(one, runs[name])]
    for name in others:
        warn(f"without its probes: {name} has other weights than when it was probed; probe it again")
    return [one for one in probed if one.probing["of"] in starts.keys() - set(others)]


def _same_weights(one: StoredResult, other: StoredResult) -> bool:
    return one.model.get("digest") == other.model.get("digest")


def read_records(result: StoredResult, warn: Warn) -> dict[str, list[Mapping[str, Any]]]:
    """Return a run's records by column; none, and a word why, where they cannot be read."""
    by_column: dict[str, list[Mapping[str, Any]]] = {}
    assert result.folder is not None
    try:
        for record in load_records(result.folder):
            by_column.setdefault(str(record.get("column")), []).append(record)
    except CorruptResult as error:
        warn(f"without its evidence: {error}")
        return {}
    return by_column
