"""On which side each split of a task stands: what is forgotten, what is kept, what no model has read."""

from collections.abc import Mapping, Sequence

from muse_eval import plugins
from muse_eval.config import ColumnSpec, TaskSpec, columns_of
from muse_eval.types import Row

SIDES = ("forget", "holdout", "retain")

Rows = Mapping[str, Sequence[Row]]
"""The splits that are there: name to rows."""


def forget_side(column: ColumnSpec) -> bool:
    """Tell whether a column looks at what is forgotten: its goal is not turned against its metric's.

    A metric's own goal is that of a forget column, so VerbMem whose goal is ``higher`` reads retain text.

    Raises:
        UserError: there is no such metric.
    """
    return {column.goal, plugins.metric(column.metric).goal} != {"lower", "higher"}


def roles(task: TaskSpec) -> dict[str, set[str]]:
    """Return the sides on which a task's columns and what it unlearns put each split.

    Raises:
        UserError: a column names a metric that there is not.
    """
    found: dict[str, set[str]] = {split: {"forget"} for split in task.forgets}
    found.setdefault(task.unlearn.retain, set()).add("retain")
    for column in task.columns.values():
        for role, split in column.splits.items():
            if role in SIDES:
                kept = role == "forget" and not forget_side(column)
                found.setdefault(split, set()).add("retain" if kept else role)
    return found


def sides(task: TaskSpec, splits: Rows) -> dict[str, dict[str, list[str]]]:
    """Return each side's splits with their texts: by role where the task gives one, else by name.

    A split that stands for several sides is told apart from here on by the first.
    """
    by_role = roles(task)
    found: dict[str, dict[str, list[str]]] = {side: {} for side in SIDES}
    for split, rows in splits.items():
        tail = split.rpartition("/")[2]
        for side in SIDES:
            if side in by_role.get(split, ()) or (split not in by_role and tail.startswith(side)):
                if "question" not in columns_of(split):
                    found[side][split] = compared(split, rows)
                break
    return found


def compared(split: str, rows: Sequence[Row]) -> list[str]:
    """Return what is compared of each row: the question, else all of its columns."""
    columns = columns_of(split)
    kept = columns[:1] if "question" in columns else columns
    return ["".join(row[column] for column in kept) for row in rows]
