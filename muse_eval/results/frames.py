"""Stored runs as pandas tables, tidy: a row for each run and column, or for each example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_eval.errors import UserError
from muse_eval.results.evidence import find_run
from muse_eval.results.rows import RunRow, all_rows, headings, rows
from muse_eval.results.runs import RECORDS, load, load_records
from muse_eval.types import Warn, ignore

if TYPE_CHECKING:
    from pandas import DataFrame

KINDS = {
    "task": "str",
    "name": "str",
    "model": "str",
    "probe": "str",
    "strength": "str",
    "column": "str",
    "title": "str",
    "goal": "str",
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "n": "int64",
    "flags": "str",
    "reason": "str",
    "engine": "str",
    "dtype": "str",
    "limit": "Int64",
    "seed": "Int64",
    "reference": "str",
    "revision": "str",
    "digest": "str",
    "folder": "str",
}
"""The columns of ``results_frame``, and what they hold."""
EXAMPLE = ("task", "name", "column", "split", "id")
"""The first columns of ``records_frame``: which example of which run."""


def results_frame(
    results: str | Path = "results", task: str | None = None, *, warn: Warn = ignore
) -> DataFrame:
    """Return all stored scores as a table: a row for each run and column, in the leaderboard's order.

    Runs of probes are among them: ``probe`` and ``strength`` are empty of all others.

    Args:
        results: the results folder.
        task: only the runs of this task; None: all.
        warn: told, in one line, of a run that cannot be read or contradicts itself; it is left out.

    Raises:
        UserError: there is no run.

    Example:
        ``results_frame().pivot(index=["task", "name"], columns="column", values="value")``
    """
    from pandas import DataFrame

    found = [line for run in _of_task(results, task, warn) for line in _scores(run)]
    return DataFrame(found, columns=list(KINDS)).astype(KINDS)


def records_frame(
    runs: str | Path | Sequence[str | Path] = (),
    results: str | Path = "results",
    task: str | None = None,
    *,
    warn: Warn = ignore,
) -> DataFrame:
    """Return the examples behind stored scores as a table: a row for each run, column and example.

    Args:
        runs: names, ``TASK/NAME`` or folders; empty: every run of the results folder that has its records.
        results: the results folder.
        task: only the runs of this task; None: all.
        warn: told, in one line, of a run that cannot be read or contradicts itself; it is left out.

    Raises:
        UserError: there is no such run, or its records are gone or damaged.

    Example:
        ``records_frame("npo").nlargest(5, "scores.rougeL")[["question", "response"]]``
    """
    from pandas import DataFrame

    named = (runs,) if isinstance(runs, str | Path) else tuple(runs)
    if named:
        stored = [one for run in named if (one := load(find_run(Path(results), str(run)))) is not None]
        found = [row for row in rows(stored) if task in (None, row["task"])]
    else:
        found = [row for row in _of_task(results, task, warn) if (_folder(row) / RECORDS).is_file()]
    if not found:
        raise UserError(
            f"no run {'of ' + task if task else 'with its records'} is there; score a model first"
        )
    lines = [line for row in found for line in _examples(row)]
    frame = DataFrame(lines)
    # What every example has comes first, then scores, then texts, each as they were first met.
    scores = [name for name in frame.columns if name.startswith("scores.")]
    texts = [name for name in frame.columns if name not in {*EXAMPLE, *scores}]
    return frame.reindex(columns=[*EXAMPLE, *scores, *texts])


def _of_task(results: str | Path, task: str | None, warn: Warn) -> list[RunRow]:
    found = [row for row in all_rows(Path(results), warn, probed=True) if task in (None, row["task"])]
    if not found:
        raise UserError(f"{results} holds no run of task {task!r}; score a model on it first")
    return found


def _folder(row: RunRow) -> Path:
    folder = row["stored"].folder
    assert folder is not None
    return folder


def _scores(row: RunRow) -> Iterable[dict[str, Any]]:
    known = headings(row["task"], [row])
    shared = ("task", "name", "model", "engine", "dtype", "limit", "seed", "reference", "revision", "digest")
    for name in known:
        column = row["columns"].get(name)
        if column is None:
            continue
        low, high = column.ci or (None, None)
        yield {
            **{key: row[key] for key in shared},  # type: ignore[literal-required]
            "probe": str(row["stored"].probing.get("name", "")),
            "strength": str(row["stored"].probing.get("strength", "")),
            "column": name,
            "title": known[name].title,
            "goal": known[name].goal or "",
            "value": column.value,
            "low": low,
            "high": high,
            "n": column.n,
            "flags": ";".join(column.flags),
            "reason": column.reason or "",
            "folder": str(_folder(row)),
        }


def _examples(row: RunRow) -> Iterable[dict[str, Any]]:
    for record in load_records(_folder(row)):
        record = dict(record)
        scores = record.pop("scores", None) or {}
        # A metric may call a text of its own as the table calls the run.
        texts = {f"text.{key}" if key in ("task", "name") else key: value for key, value in record.items()}
        yield {
            "task": row["task"],
            "name": row["name"],
            **texts,
            **{f"scores.{key}": value for key, value in scores.items()},
        }
