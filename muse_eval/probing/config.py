"""What a probing is asked to do, checked before a model is opened."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from muse_eval import plugins
from muse_eval.config import (
    ENGINE,
    PositiveInt,
    RunConfig,
    Spec,
    TaskSpec,
    build,
    check_groups,
    parse_params,
    scored_groups,
)
from muse_eval.errors import UserError
from muse_eval.pipelines.config import ComparisonConfig
from muse_eval.probing.asking import turned
from muse_eval.results import run_folder
from muse_eval.scoring import check_writable
from muse_eval.scoring.columns import PLUS, choose
from muse_eval.scoring.plan import Plan, plan
from muse_eval.scoring.retrain import NONE
from muse_eval.scoring.which_task import task_of
from muse_eval.types import AnyProbe, AskProbe, ModelProbe

BUDGETS = ("quick", "paper")
GIVEN = "finetune"
"""The probe that reads ``--texts``."""


class ProbeConfig(Spec):
    """One model, its controls, and the probes to put them to."""

    model: str
    """Folder or hub id of the model that is doubted."""
    task: str | None = None
    """Name of a task, or a YAML file; None: read off the model."""
    retrain: str | None = None
    """The control that never saw the forget set; None: the task's own, ``none``: no model."""
    target: str | None = None
    """The control that was never unlearned; None: the task's own, ``none``: no model."""
    probes: tuple[str, ...] = ()
    """Empty: all that this machine has the packages for."""
    budget: Literal["quick", "paper"] = "quick"
    """``paper``: the published protocols; ``quick``: smaller ones."""
    texts: Path | None = None
    """What ``finetune`` reads in the place of the retain text; texts are parted by blank lines."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """What the model is called; None: as its folder."""
    metrics: tuple[str, ...] = ()
    """Columns to judge by; empty: all that are the better the lower."""
    data_dir: Path | None = None
    tokenizer: str | None = None
    results: Path = Path("results")
    engine: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of scoring."""
    training_dtype: Literal["auto", "float32", "mixed", "bfloat16"] = "auto"
    micro_batch_size: PositiveInt | None = None
    gradient_checkpointing: bool | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    """``--set``: ``engine.NAME``, or ``PARAMETER`` of a ``COLUMN``, ``METRIC`` or ``PROBE``, to value."""
    limit: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the intervals."""
    truncate: bool = False
    overwrite: bool = False
    allow_pickle: bool = False
    trust_remote_code: bool = False

    @property
    def means(self) -> dict[str, Any]:
        """How every model is opened and trained, beyond what shapes its weights."""
        names = (
            "tokenizer",
            "micro_batch_size",
            "gradient_checkpointing",
            "allow_pickle",
            "trust_remote_code",
        )
        return {**{name: getattr(self, name) for name in names}, "dtype": self.training_dtype}

    def scoring(
        self, task: TaskSpec, columns: tuple[str, ...], model: str, name: str, **more: Any
    ) -> RunConfig:
        """Return what it takes to score one of the models."""
        groups = {ENGINE: columns, **scored_groups(task)}
        kept = {
            key: value
            for key, value in self.settings.items()
            if {*groups.get(key.partition(".")[0], ())} & {*columns}
        }
        shared = ("data_dir", "tokenizer", "engine", "dtype", "results", "limit", "seed", "truncate")
        given = {field: getattr(self, field) for field in (*shared, "allow_pickle", "trust_remote_code")}
        # What is judged is compared with retrain's own scores, not relative to them.
        whole = {"model": model, "name": name, "metrics": columns, "retrain": "none", "settings": kept}
        wanted: RunConfig = build(RunConfig, "probe", task=self.task, **{**given, **whole, **more})
        return wanted


@dataclass(frozen=True)
class Chosen:
    """A probe with its parameters."""

    name: str
    probe: AnyProbe
    params: Any
    strengths: tuple[str, ...]

    @property
    def described(self) -> dict[str, Any]:
        """Its parameters, as runs store them."""
        return asdict(self.params)

    def columns(self, task: TaskSpec, judged: Sequence[str]) -> tuple[str, ...]:
        """Return those of the columns judged by that it can ask."""
        if isinstance(self.probe, ModelProbe):
            return tuple(judged)
        return tuple(name for name in judged if task.columns[name].metric in self.probe.metrics)


@dataclass(frozen=True)
class Ready:
    """A probing, checked."""

    config: ProbeConfig
    task: TaskSpec
    plan: Plan
    name: str
    columns: tuple[str, ...]
    probes: tuple[Chosen, ...]
    left: tuple[str, ...]
    """Which probes cannot run here and why, in a line each."""

    def comparison(self, own: Collection[str]) -> ComparisonConfig:
        """Return what makes or finds those of target and retrain model that are the task's own."""
        config = self.config
        given: dict[str, Any] = {name: None if name in own else NONE for name in ("target", "retrain")}
        return ComparisonConfig(task=config.task or self.task.name, results=config.results, **given)


def check(config: ProbeConfig) -> Ready:
    """Find what is wrong with task, data, probes, columns, settings or folders before a model is opened.

    Raises:
        UserError: something is.
    """
    if config.engine == "server":
        raise UserError("engine server answers for one model, and a probe makes others; use auto")
    task = task_of(config.model) if config.task is None else plugins.task(config.task)
    config = config.model_copy(update={"task": config.task or task.name})
    names = config.probes or tuple(plugins.probe_names())
    kinds = {name: plugins.probe(name) for name in names}
    known = plugins.probe_names()
    unused = {name: "--probes leaves {group} out; name it there" for name in known if name not in kinds}
    task, columns = _columns(task, config.metrics)
    check_groups(config.settings, task, kinds, unused)
    _check_heeded(config.settings, task, columns)
    if config.texts is not None and GIVEN not in kinds:
        raise UserError(f"--texts goes with the probe {GIVEN}; name it in --probes")
    name = config.name or Path(config.model.partition("@")[0]).absolute().name
    every = [_chosen(config, probe, kind) for probe, kind in kinds.items()]
    lacking = {one.name: told for one in every if (told := _lacks(one, task, columns))}
    for probe, told in lacking.items():
        if config.probes:
            raise UserError(f"probe {probe}: {told}")
    chosen = tuple(one for one in every if one.name not in lacking)
    if not chosen:
        raise UserError(f"no probe can run here: {'; '.join(lacking.values())}")
    for one in chosen:
        for strength in one.strengths:
            run_folder(config.results, task.name, run_name(name, one.name, strength))
    check_writable(config.results)
    planned = plan(config.scoring(task, columns, config.model, name))
    for one in chosen:
        _check_asked(config, task, one, columns, name)
    left = tuple(f"probe {probe} is left out: {told}" for probe, told in lacking.items())
    return Ready(config, task, planned, name, columns, chosen, left)


def _check_heeded(settings: Mapping[str, Any], task: TaskSpec, columns: Sequence[str]) -> None:
    """Refuse a setting of columns that are not judged."""
    groups = scored_groups(task)
    for group in dict.fromkeys(key.partition(".")[0] for key in settings):
        covered = groups.get(group, [])
        if covered and not {*covered} & {*columns}:
            raise UserError(f"--set {group}.…: {', '.join(covered)} is not judged by; drop the setting")


def _check_asked(config: ProbeConfig, task: TaskSpec, one: Chosen, judged: Sequence[str], name: str) -> None:
    """Plan what a probe asks otherwise, so that what is wrong is told before anything is scored."""
    if isinstance(one.probe, AskProbe):
        asked = plan(config.scoring(task, one.columns(task, judged), config.model, name))
        for strength in one.strengths:
            turned(asked, one.probe, strength, one.params)


def _lacks(chosen: Chosen, task: TaskSpec, columns: Sequence[str]) -> str:
    """Say in a line why a probe cannot be used here; empty where it can."""
    if not chosen.columns(task, columns) and not isinstance(chosen.probe, ModelProbe):
        return f"it asks for {' and '.join(chosen.probe.metrics)} alone, and no column judged by is of that"
    return chosen.probe.lacks(chosen.params)


def run_name(model: str, probe: str, strength: str) -> str:
    """Return the name of a probed run."""
    return f"{model}+{probe}:{strength}" if probe else f"{model}+{strength}"


def _columns(task: TaskSpec, given: tuple[str, ...]) -> tuple[TaskSpec, tuple[str, ...]]:
    """Return the task with the optional columns that are named, and the columns to judge by."""
    chosen = choose(task, given)
    lower = tuple(name for name in chosen.names if chosen.task.columns[name].goal == "lower")
    for name in (one.removeprefix(PLUS) for one in given):
        if not {*choose(task, (name,)).names} & {*lower}:
            raise UserError(
                f"a probe judges what is to be forgotten, and {name} is no column "
                "that is the better the lower"
            )
    if not lower:
        raise UserError(f"task {task.name} has no column that is the better the lower: nothing to probe")
    return chosen.task, lower


def _chosen(config: ProbeConfig, name: str, probe: AnyProbe) -> Chosen:
    quick: Mapping[str, Any] = probe.quick if config.budget == "quick" else {}
    own = {
        key.partition(".")[2]: value
        for key, value in config.settings.items()
        if key.partition(".")[0] == name
    }
    params = parse_params(probe.params, {**quick, **own}, f"probe {name}")
    strengths = tuple(probe.strengths(params))
    if not strengths or len(set(strengths)) < len(strengths):
        raise UserError(f"probe {name} has {'no strength' if not strengths else 'one strength twice'}")
    return Chosen(name, probe, params, strengths)


def steps_of(chosen: Chosen) -> int:
    """Return the optimiser steps that a probe takes with each model."""
    return chosen.probe.steps(chosen.params) if isinstance(chosen.probe, ModelProbe) else 0
