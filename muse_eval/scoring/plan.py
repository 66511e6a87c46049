"""Makes a run ready: task, data and every question, all checked before a model is opened."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from muse_eval import plugins
from muse_eval.config import (
    ENGINE,
    ColumnSpec,
    RunConfig,
    TaskSpec,
    scored_groups,
    sort_settings,
)
from muse_eval.data import Data, open_data
from muse_eval.engines import Choice, choose_engine
from muse_eval.errors import UserError
from muse_eval.scoring.columns import choose
from muse_eval.scoring.utility import UtilityColumn, plan_utility
from muse_eval.scoring.which_task import task_of
from muse_eval.types import GradientNorm, Metric, Request, Row, Splits


@dataclass(frozen=True)
class PlannedColumn:
    """A column with everything it asks, before any model is opened."""

    name: str
    spec: ColumnSpec
    metric: Metric
    params: Any
    splits: Splits
    requests: list[Request]


@dataclass(frozen=True)
class Plan:
    """A run made ready: task, data and columns, all checked."""

    task: TaskSpec
    data: Data
    columns: list[PlannedColumn]
    engine: Choice
    utility: list[UtilityColumn]
    """What lm-eval is to fill."""

    def requests(self, relative: bool = False) -> list[Request]:
        """Return what the model is asked, or what the retrain model is (``relative``)."""
        return [ask for one in self.columns if one.metric.relative or not relative for ask in one.requests]

    def apart(self) -> dict[str, list[Request]]:
        """Return what each column asks that none before it does."""
        found: dict[str, list[Request]] = {}
        seen: set[Request] = set()
        for column in self.columns:
            found[column.name] = [ask for ask in column.requests if ask not in seen]
            seen.update(column.requests)
        return found


def plan(config: RunConfig, *, loaded: bool = False) -> Plan:
    """Check a run's task, settings and data, and work out everything it will ask.

    Args:
        config: the run.
        loaded: whether the model is in memory already.

    Raises:
        UserError: a name is unknown, a value is out of bounds, or the data will not do.
    """
    named = task_of(config.model) if config.task is None else plugins.task(config.task)
    chosen = choose(named, config.metrics)
    task = chosen.task
    groups = sort_settings(config.settings, task)
    engine = choose_engine(config.engine, groups.get(ENGINE, {}), base_url=config.base_url, loaded=loaded)
    _check_served(config, engine)
    data = open_data(task, config.data_dir)
    for group in groups:
        covered = scored_groups(task).get(group, [])
        if covered and not {*covered} & {*chosen.names}:
            left = ", ".join(covered)
            raise UserError(f"--set {group}.…: --metrics leaves {left} out; add it there or drop the setting")
    columns = [
        _column(name, task.columns[name], data, config, chosen.values(name, groups)) for name in chosen.names
    ]
    if engine.name != "hf":
        _refuse_gradients(columns, engine)
    utility = plan_utility(config.utility, task.columns, engine.name, config.limit)
    return Plan(task, data, columns, engine, utility)


def _refuse_gradients(columns: Sequence[PlannedColumn], engine: Choice) -> None:
    for column in columns:
        if any(isinstance(ask, GradientNorm) for ask in column.requests):
            raise UserError(
                f"{column.spec.title} asks for gradients, which engine {engine.name} does not take; give "
                f"--engine hf, or leave out --set {column.name}.gradnorm"
            )


def _check_served(config: RunConfig, engine: Choice) -> None:
    """Refuse what only a server would heed, so that nobody takes a model for pinned that is not."""
    for_retrain = {
        "--retrain-base-url": config.retrain_base_url,
        "--retrain-revision": config.retrain_revision,
    }
    given = {"--model-revision": config.model_revision, "--api-key-env": config.api_key_env, **for_retrain}
    for option, value in given.items():
        if value is not None and engine.name != "server":
            raise UserError(
                f"{option} goes with --engine server, not {engine.name}; NAME@REVISION pins a hub model"
            )
        if value is not None and option in for_retrain and config.retrain is None:
            raise UserError(f"{option} needs --retrain with the served retrain model's name")


def _column(
    name: str, spec: ColumnSpec, data: Data, config: RunConfig, given: Mapping[str, Any]
) -> PlannedColumn:
    values = dict(given)
    if config.truncate and "truncate" in {one.name for one in fields(plugins.metric(spec.metric).params)}:
        values["truncate"] = True
    metric, params = plugins.column(name, spec, values)
    splits: Splits = data.roles(spec.splits)
    if config.limit is not None:
        splits = Limited(splits, config.limit, metric.few_shot)
    asks = [replace(ask, name=f"{name} {ask.name}") for ask in metric.requests(splits, params)]
    return PlannedColumn(name, spec, metric, params, splits, asks)


class Limited(Mapping[str, Sequence[Row]]):
    """The first ``limit`` rows of each split; few-shot splits stay whole."""

    def __init__(self, splits: Splits, limit: int, whole: Sequence[str]) -> None:
        self._splits, self._limit, self._whole = splits, limit, whole

    def __getitem__(self, role: str) -> Sequence[Row]:
        rows = self._splits[role]
        return rows if role in self._whole else rows[: self._limit]

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)
