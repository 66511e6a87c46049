"""What a pipeline is asked to do, checked before a model is made."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from muse_eval import plugins
from muse_eval.config import (
    ENGINE,
    Positive,
    PositiveInt,
    RunConfig,
    Spec,
    TaskSpec,
    build,
    columns_of,
    parse_params,
    scored_groups,
)
from muse_eval.errors import UserError, unknown_name
from muse_eval.results import check_rule, run_folder
from muse_eval.scoring import check_writable
from muse_eval.scoring.plan import plan
from muse_eval.unlearning.recipe import UnlearnConfig, configure

METHODS = ("ga", "npo", "simnpo", "ga_gdr", "npo_gdr", "simnpo_gdr")
"""What a pipeline unlearns with unless told otherwise."""


class PipelineConfig(Spec):
    """A whole comparison: one task, its target and retrain model, some methods."""

    task: str
    methods: tuple[str, ...] = METHODS
    target: str | None = None
    """The target model; None: the built-in world's own, or the task's."""
    retrain: str | None = None
    """The retrain model; None: the built-in world's own, or the task's."""
    data_dir: Path | None = None
    tokenizer: str | None = None
    results: Path = Path("results")
    engine: str = "auto"
    dtype: str = "auto"
    lr: Positive | None = None
    epochs: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    lambda_: Annotated[float, Field(ge=0)] | None = None
    preset: str | None = None
    """Published hyper-parameters for all methods, over the task's."""
    micro_batch_size: PositiveInt | None = None
    gradient_checkpointing: bool = False
    lora: str | None = None
    """Adapters for all methods, as ``unlearning.recipe.parse_lora`` reads them."""
    optim: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    """``--set``: ``engine.NAME``, or ``PARAMETER`` of a ``COLUMN``, ``METRIC`` or ``METHOD``, to value."""
    select: str = "last"
    """The rule (``selection.RULES``) for the epoch that counts; ``last`` alone needs no other scored."""
    composite: str | None = None
    """What the rule ``best`` and the trajectory rank by; None: ``balance``."""
    trajectory: bool = False
    """Score every epoch, whatever the rule."""
    keep_checkpoints: bool = False
    """Keep the weights of every epoch, not only of those that some rule selects."""
    training_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Seed of the unlearning, from the same target; None: the task's own."""
    seed: int = 0
    truncate: bool = False
    overwrite: bool = False
    allow_pickle: bool = False
    trust_remote_code: bool = False

    @property
    def training(self) -> dict[str, Any]:
        """What every unlearning is given that is no method's own; what is None is left to preset or task."""
        names = ("lr", "epochs", "batch_size", "preset", "micro_batch_size", "lora", "optim")
        given = {name: getattr(self, name) for name in names}
        return {**given, "gradient_checkpointing": self.gradient_checkpointing}

    def weight(self, method: str) -> float | None:
        """Return λ for a method: None where none was given, or where the method has nothing to weigh."""
        return self.lambda_ if plugins.split_method(method)[1] else None

    @property
    def scores_epochs(self) -> bool:
        """Whether every epoch is scored."""
        return self.trajectory or self.select != "last"

    @property
    def ranked_by(self) -> str:
        """The composite that epochs are ranked by."""
        return self.composite or "balance"


def other_seed(config: PipelineConfig, task: TaskSpec) -> int | None:
    """Return the unlearning's seed where it is not the task's own, else None."""
    return None if config.training_seed == task.data.seed else config.training_seed


def run_name(config: PipelineConfig, task: TaskSpec, method: str, number: int | None = None) -> str:
    """Return the name of a method's run and model; another seed and a forget set belong to it."""
    seed = other_seed(config, task)
    seeded = method if seed is None else f"{method}-seed{seed}"
    return seeded if number is None else f"{seeded}-{number}"


def run_names(config: PipelineConfig, task: TaskSpec) -> dict[str, str]:
    """Return the names of all unlearned models' runs, and what each is called under the task's own seed."""
    plain = config.model_copy(update={"training_seed": None})
    numbers = range(1, len(task.forget_sets.forget) + 1) if task.forget_sets else (None,)
    return {
        run_name(config, task, method, number): run_name(plain, task, method, number)
        for method in config.methods
        for number in numbers
    }


def check(config: PipelineConfig) -> None:
    """Find what is wrong with methods, task, data, settings or folders before a model is made.

    Raises:
        UserError: something is.
    """
    if config.engine == "server":
        raise UserError("engine server answers for one model, and a pipeline makes others; use auto")
    task = plugins.task(config.task)
    _check_groups(config, task)
    for method in config.methods:
        _, kind, _ = plugins.method(method)
        if task.forget_sets and task.forget_sets.mode == "sequential" and not plugins.can_go_on(method):
            raise UserError(
                f"task {task.name} unlearns further what {method} made of two models; leave it out"
            )
        lineage = configured(config, task, method)
        parse_params(kind.params, lineage.params, f"method {method}")
    check_rule(config.select, config.ranked_by, list(task.columns))
    if config.composite is not None and not config.scores_epochs:
        raise UserError("--composite ranks epochs; it goes with --select best, or with --trajectory")
    planned = plan(run_config(config, task, "target", "retrain", "target"))
    if task.forget_sets:
        for split in task.forget_sets.forget:
            if columns_of(split) != ("text",):
                raise UserError(f"task {task.name}: the fold {split} is no split of texts")
            planned.data.split(split)
    check_writable(config.results)
    for name in ("retrain", "target", *run_names(config, task)):
        run_folder(config.results, task.name, name)


def configured(config: PipelineConfig, task: TaskSpec, method: str) -> UnlearnConfig:
    """Return what a method unlearns with, but for the model that it starts from.

    Raises:
        UserError: a value is of a wrong kind or out of bounds.
    """
    return configure(
        task.unlearn,
        method=method,
        model="target",
        params=method_params(config, method),
        lambda_=config.weight(method),
        **config.training,
    )


def method_params(config: PipelineConfig, method: str) -> dict[str, Any]:
    """Return what ``--set`` gives a method: what its loss is given, and over that what it is itself."""
    loss, _, _ = plugins.method(method)
    groups = [_group(config, name) for name in dict.fromkeys((loss, method))]
    return {name: value for group in groups for name, value in group.items()}


def _group(config: PipelineConfig, group: str) -> dict[str, Any]:
    start = f"{group}."
    return {key.removeprefix(start): value for key, value in config.settings.items() if key.startswith(start)}


def _check_groups(config: PipelineConfig, task: TaskSpec) -> None:
    """Refuse a ``--set`` that no engine, column or method of this pipeline would heed.

    Raises:
        UserError: there is one.
    """
    used = {name for method in config.methods for name in (method, plugins.method(method)[0])}
    others = {name for method in plugins.method_names() for name in (method, plugins.method(method)[0])}
    known = {ENGINE, *scored_groups(task), *used}
    for key in config.settings:
        group = key.partition(".")[0]
        if group not in known and group in others:
            raise UserError(
                f"--set {group}.…: --methods leaves {group} out; add it there or drop the setting"
            )
        if group not in known:
            raise UserError(f"--set {group}.…: {unknown_name('group', group, known)}")


def run_config(config: PipelineConfig, task: TaskSpec, model: str, retrain: str, name: str) -> RunConfig:
    """Return what it takes to score one of the pipeline's models."""
    scored = {ENGINE, *scored_groups(task)}
    wanted: RunConfig = build(
        RunConfig,
        "pipeline",
        model=model,
        task=config.task,
        retrain=retrain,
        name=name,
        data_dir=config.data_dir,
        tokenizer=config.tokenizer,
        engine=config.engine,
        dtype=config.dtype,
        settings={key: value for key, value in config.settings.items() if key.partition(".")[0] in scored},
        results=config.results,
        seed=config.seed,
        truncate=config.truncate,
        overwrite=config.overwrite,
        allow_pickle=config.allow_pickle,
        trust_remote_code=config.trust_remote_code,
    )
    return wanted
