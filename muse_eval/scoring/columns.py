"""Which columns a run scores: its task's own, and those that ``--metrics +NAME`` puts beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from muse_eval import plugins
from muse_eval.config import ColumnSpec, TaskSpec, column_changes, parse_params
from muse_eval.errors import UserError, unknown_name

PLUS = "+"


@dataclass(frozen=True)
class Chosen:
    """A task as one run scores it."""

    task: TaskSpec
    """With the optional columns among its own."""
    names: tuple[str, ...]
    """The columns to score, in the task's order."""
    hosts: Mapping[str, str]
    """Optional column to the column that it stands beside."""

    def values(self, name: str, groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return a column's parameters as the task, the column it stands beside and ``--set`` give them.

        Args:
            name: the column.
            groups: ``--set`` as ``config.sort_settings`` returns it.
        """
        spec, changes = self.task.columns[name], column_changes(groups, self.task, name)
        if name not in self.hosts:
            return {**spec.params, **changes}
        host, values = self.hosts[name], self.values(self.hosts[name], groups)
        kind = plugins.metric(self.task.columns[host].metric).params
        params = parse_params(kind, values, f"column {host}")
        known = {one.name for one in fields(kind)}
        shared = [one.name for one in fields(plugins.metric(spec.metric).params) if one.name in known]
        return {**{key: getattr(params, key) for key in shared}, **changes}


def choose(task: TaskSpec, wanted: Sequence[str]) -> Chosen:
    """Return a task with the columns that ``--metrics`` names; none named: all of its own.

    ``NAME`` is one of the task's columns, or an optional one: a metric that stands beside others, such as
    ``extraction`` (beside every column that it can), or one such column alone, ``extraction_verbmem_f``.
    With ``+`` in front it comes on top of what is named without, or of all of the task's.

    Raises:
        UserError: there is no such column, or nothing in the task that the metric could stand beside.
    """
    optional = _optional(task)
    plain = [name for name in wanted if not name.startswith(PLUS)]
    more = [name.removeprefix(PLUS) for name in wanted if name.startswith(PLUS)]
    named = [column for name in (*plain, *more) for column in _named(name, task, optional)]
    names = {*named, *(() if plain else task.columns)}
    added = {name: one.spec for name, one in optional.items() if name in names}
    whole = task.model_copy(update={"columns": {**task.columns, **added}}) if added else task
    hosts = {name: optional[name].host for name in added}
    return Chosen(whole, tuple(name for name in whole.columns if name in names), hosts)


@cache
def optional_metrics() -> tuple[str, ...]:
    """Return the metrics that stand beside others."""
    return tuple(name for name in plugins.metric_names() if plugins.metric(name).beside)


@dataclass(frozen=True)
class _Optional:
    host: str
    spec: ColumnSpec


def _optional(task: TaskSpec) -> dict[str, _Optional]:
    """Return a task's optional columns: ``METRIC_COLUMN``, for each column that a metric can stand beside."""
    found = {}
    for name in optional_metrics():
        metric = plugins.metric(name)
        for host, spec in task.columns.items():
            column = f"{name}_{host}"
            if spec.metric in metric.beside and column not in task.columns:
                # Less of a forget text is better and more of a retain text; other goals turn with no side.
                goal = spec.goal if metric.goal == "lower" else metric.goal
                title = f"{name.capitalize()} {spec.title}"
                found[column] = _Optional(
                    host, ColumnSpec(title=title, metric=name, goal=goal, splits=spec.splits)
                )
    return found


def _named(name: str, task: TaskSpec, optional: Mapping[str, _Optional]) -> Iterable[str]:
    if name in task.columns or name in optional:
        return [name]
    if name in optional_metrics():
        hosts = ", ".join(plugins.metric(name).beside)
        if found := [column for column, one in optional.items() if one.spec.metric == name]:
            return found
        raise UserError(f"{name} stands beside columns of {hosts}, and task {task.name} has none")
    raise unknown_name("column", name, [*task.columns, *(f"{PLUS}{one}" for one in optional_metrics())])
