"""A plan whose columns a probe asks otherwise."""

from dataclasses import replace
from typing import Any

from muse_eval.config import TaskSpec
from muse_eval.data import Data
from muse_eval.scoring.plan import Plan, PlannedColumn
from muse_eval.types import AskProbe, Row, Splits


def turned(plan: Plan, probe: AskProbe, strength: str, params: Any) -> Plan:
    """Return a plan whose columns are asked and scored by a probe."""
    return replace(plan, columns=[_turned(plan, one, probe, strength, params) for one in plan.columns])


def _turned(plan: Plan, column: PlannedColumn, probe: AskProbe, strength: str, params: Any) -> PlannedColumn:
    metric = probe.turn(column.metric, strength, params)
    splits: Splits = {role: column.splits[role] for role in column.splits}
    beside = {f"{of}_texts": texts(plan.task, plan.data, of) for of in probe.beside}
    whole = {**splits, **beside}
    asks = [replace(ask, name=f"{column.name} {ask.name}") for ask in metric.requests(whole, column.params)]
    return replace(column, metric=metric, splits=whole, requests=asks)


def texts(task: TaskSpec, data: Data, of: str) -> list[Row]:
    """Return the rows of a task's texts to forget or to keep that are not blank."""
    names = task.forgets if of == "forget" else [task.unlearn.retain]
    return [row for name in names for row in data.split(name).rows if row["text"].strip()]
