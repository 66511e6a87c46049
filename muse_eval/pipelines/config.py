"""What a pipeline is asked to do, checked before a model is made."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from muse_eval import plugins
from muse_eval.config import (
    Positive,
    PositiveInt,
    RunConfig,
    Spec,
    TaskSpec,
    build,
    check_groups,
    columns_of,
    is_scored,
    parse_params,
)
from muse_eval.errors import UserError
from muse_eval.results import check_rule, run_folder
from muse_eval.scoring import check_writable
from muse_eval.scoring.columns import choose
from muse_eval.scoring.plan import plan
from muse_eval.unlearning.recipe import UnlearnConfig, configure

METHODS = ("ga", "npo", "simnpo", "ga_gdr", "npo_gdr", "simnpo_gdr")
"""What a pipeline unlearns with unless told otherwise."""


class ComparisonConfig(Spec):
    """What compares unlearned models of one target: shared by a pipeline and a tune."""

    task: str
    target: str | None = None
    """The target model; None: the built-in world's own, or the task's."""
    retrain: str | None = None
    """The retrain model; None: the built-in world's own, or the task's."""
    data_dir: Path | None = None
    tokenizer: str | None = None
    results: Path = Path("results")
    engine: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of scoring."""
    training_dtype: Literal["auto", "float32", "mixed", "bfloat16"] = "auto"
    """Precision of unlearning, as ``unlearning.recipe.UnlearnConfig`` has it."""
    lr: Positive | None = None
    epochs: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    lambda_: Annotated[float, Field(ge=0)] | None = None
    preset: str | None = None
    """Published hyper-parameters for all methods, over the task's."""
    micro_batch_size: PositiveInt | None = None
    gradient_checkpointing: bool | None = None
    lora: str | None = None
    """Adapters for all methods, as ``unlearning.recipe.parse_lora`` reads them."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """``--set``: ``engine.NAME``, or ``PARAMETER`` of a ``COLUMN``, ``METRIC`` or ``METHOD``, to value."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the intervals."""
    truncate: bool = False
    allow_pickle: bool = False
    trust_remote_code: bool = False

    @property
    def means(self) -> dict[str, Any]:
        """How every model is unlearned, beyond what shapes its weights."""
        names = ("micro_batch_size", "gradient_checkpointing", "lora", "allow_pickle", "trust_remote_code")
        return {**{name: getattr(self, name) for name in names}, "dtype": self.training_dtype}

    def scoring(self, task: TaskSpec, model: str, retrain: str, name: str, **more: Any) -> RunConfig:
        """Return what it takes to score one of the models."""
        kept = {key: value for key, value in self.settings.items() if is_scored(key, task)}
        shared = ("task", "data_dir", "tokenizer", "engine", "dtype", "results", "seed", "truncate")
        given = {field: getattr(self, field) for field in (*shared, "allow_pickle", "trust_remote_code")}
        whole = {**given, "model": model, "retrain": retrain, "name": name, "settings": kept, **more}
        wanted: RunConfig = build(RunConfig, "pipeline", **whole)
        return wanted


class PipelineConfig(ComparisonConfig):
    """A whole comparison: one task, its target and retrain model, some methods."""

    methods: tuple[str, ...] = METHODS
    optim: str | None = None
    max_len: PositiveInt | None = None
    """Tokens of a row of unlearning; None: the task's."""
    metrics: tuple[str, ...] = ()
    """Columns to score, as ``config.RunConfig`` has them."""
    limit: PositiveInt | None = None
    """Score only the first examples of each split; flagged."""
    utility: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Tasks of lm-eval, each a column more of every run but the epochs'."""
    select: str = "last"
    """The rule (``selection.RULES``) for the epoch that counts; ``last`` alone needs no other scored."""
    composite: str | None = None
    """What the rule ``best`` and the trajectory rank by; None: ``balance``."""
    rank_flagged: bool = False
    """Let ``best`` take ruined models too, those flagged ``collapsed`` or ``degenerate``."""
    trajectory: bool = False
    """Score every epoch, whatever the rule."""
    keep_checkpoints: bool = False
    """Keep the weights of every epoch, not only of those that some rule selects."""
    training_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Seed of the unlearning, from the same target; None: the task's own."""
    overwrite: bool = False

    @property
    def training(self) -> dict[str, Any]:
        """What every unlearning is given that is no method's own; what is None is left to preset or task."""
        names = ("lr", "epochs", "batch_size", "preset", "max_len", "optim")
        return {**self.means, **{name: getattr(self, name) for name in names}}

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


def scored_task(config: PipelineConfig) -> TaskSpec:
    """Return the task of a pipeline, with the optional columns that it scores.

    Raises:
        UserError: there is no such task or column.
    """
    return choose(plugins.task(config.task), config.metrics).task


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
    from muse_eval.unlearning.training.feasible import check_feasible

    if config.engine == "server":
        raise UserError("engine server answers for one model, and a pipeline makes others; use auto")
    task = scored_task(config)
    used = {name for method in config.methods for name in (method, plugins.method(method)[0])}
    others = {name for method in plugins.method_names() for name in (method, plugins.method(method)[0])}
    cure = "--methods leaves {group} out; add it there or drop the setting"
    check_groups(config.settings, task, used, dict.fromkeys(others - used, cure))
    for method in config.methods:
        _, kind, _ = plugins.method(method)
        if task.forget_sets and task.forget_sets.mode == "sequential" and not plugins.can_go_on(method):
            raise UserError(
                f"task {task.name} unlearns further what {method} made of two models; leave it out"
            )
        recipe = configured(config, task, method)
        parse_params(kind.params, recipe.params, f"method {method}")
        check_feasible(recipe)
    check_rule(config.select, config.ranked_by, choose(task, config.metrics).names)
    if config.composite is not None and not config.scores_epochs:
        raise UserError("--composite ranks epochs; it goes with --select best, or with --trajectory")
    if config.rank_flagged and config.select != "best":
        raise UserError("--rank-flagged is about what a composite ranks; it goes with --select best")
    wanted = {"metrics": config.metrics, "utility": config.utility}
    planned = plan(config.scoring(task, "target", "retrain", "target", **wanted))
    if task.forget_sets:
        for split in task.forget_sets.forget:
            if columns_of(split) != ("text",):
                raise UserError(f"task {task.name}: the forget set {split} is no split of texts")
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
