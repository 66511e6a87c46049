"""What ``--set GROUP.NAME=VALUE`` changes: the engine, a column, or every column of a metric."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from muse_eval.config.task import TaskSpec
from muse_eval.errors import UserError, unknown_name

ENGINE = "engine"


def scored_groups(task: TaskSpec) -> dict[str, list[str]]:
    """Return the groups that change a task's columns, each with its columns.

    A column's name means that column alone, also where a metric bears the same name.
    """
    columns = {name: [name] for name in task.columns}
    by_metric: dict[str, list[str]] = {}
    for name, spec in task.columns.items():
        by_metric.setdefault(spec.metric, []).append(name)
    return {**by_metric, **columns}


def is_scored(key: str, task: TaskSpec) -> bool:
    """Tell whether a ``--set`` key changes how a task is scored."""
    return key.partition(".")[0] in {ENGINE, *scored_groups(task)}


def check_groups(
    settings: Mapping[str, Any],
    task: TaskSpec,
    more: Iterable[str] = (),
    refused: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Refuse a ``--set`` that nothing would heed.

    Args:
        settings: ``GROUP.NAME`` to value.
        task: whose columns and metrics are groups, as the engine is.
        more: other groups that are heeded.
        refused: groups that have a cure of their own; ``{group}``, ``{name}`` and ``{value}`` stand in it.

    Raises:
        UserError: there is one.
    """
    known = {ENGINE, *scored_groups(task), *more}
    for key, value in settings.items():
        group, _, name = key.partition(".")
        if group in known:
            continue
        if cure := refused.get(group):
            raise UserError(f"--set {key}: {cure.format(group=group, name=name, value=value)}")
        raise UserError(f"--set {group}.…: {unknown_name('group', group, known)}")


def sort_settings(settings: Mapping[str, Any], task: TaskSpec) -> dict[str, dict[str, Any]]:
    """Sort ``--set`` values by their group.

    Raises:
        UserError: there is no such group.
    """
    groups: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        group, _, name = key.partition(".")
        groups.setdefault(group, {})[name] = value
    check_groups(settings, task)
    return groups


def column_changes(groups: Mapping[str, Mapping[str, Any]], task: TaskSpec, column: str) -> dict[str, Any]:
    """Return what ``--set`` changes of a column: what its metric is given, and over that its own."""
    named = [task.columns[column].metric, column]
    covered = scored_groups(task)
    found = [groups[group] for group in named if group in groups and column in covered[group]]
    return {name: value for group in found for name, value in group.items()}
