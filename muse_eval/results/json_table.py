"""The leaderboard as JSON: every row with its values as they are stored, unrounded."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from muse_eval.printable import harmless_json
from muse_eval.results.grid import Grid, grid
from muse_eval.results.rows import Heading, RunRow, by_task, headings, title


def to_json(rows: Iterable[RunRow], published: Iterable[Mapping[str, str]] = ()) -> str:
    """Return the tasks' tables as JSON; the same runs give the same bytes.

    A score that was not taken has no key; one that is undefined has the value null, and a reason.
    """
    published = list(published)
    tasks = [_task(task, runs, published) for task, runs in by_task(rows).items()]
    whole = json.dumps({"schema_version": 1, "tasks": tasks}, indent=2, ensure_ascii=False, allow_nan=False)
    return harmless_json(whole) + "\n"


def _task(task: str, runs: list[RunRow], published: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    columns = headings(task, runs)
    laid = grid(columns, runs)
    return {
        "task": task,
        "title": title(task, runs),
        "columns": {name: {"title": one.title, "goal": one.goal} for name, one in columns.items()},
        "rows": [_row(place, row, columns, laid) for place, row in enumerate(runs)],
        "notes": laid.notes,
        "published": [dict(line) for line in published if line["task"] == task],
    }


def _row(place: int, row: RunRow, columns: Mapping[str, Heading], laid: Grid) -> dict[str, Any]:
    # The first cell of a line is the run's name.
    best = {name: cell.best for name, cell in zip(columns, laid.lines[place][1:], strict=True)}
    told = ("name", "model", "revision", "digest", "engine", "dtype", "limit", "seed", "reference", "auc")
    found: dict[str, Any] = {name: row[name] for name in told}  # type: ignore[literal-required]
    found["notes"] = list(row["notes"].values())
    found["columns"] = {
        name: {
            "value": column.value,
            "low": column.ci[0] if column.ci else None,
            "high": column.ci[1] if column.ci else None,
            "n": column.n,
            "flags": list(column.flags),
            "best": best[name],
            **({"reason": column.reason} if column.reason is not None else {}),
        }
        for name in columns
        if (column := row["columns"].get(name)) is not None
    }
    return found
