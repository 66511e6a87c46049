"""Target → unlearn → score → table: every stage is skipped where its result is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from muse_eval import plugins
from muse_eval.api import unlearn
from muse_eval.config import Positive, PositiveInt, RunConfig, Spec, TaskSpec, build
from muse_eval.errors import UserError
from muse_eval.plan import plan
from muse_eval.results import run_folder
from muse_eval.run import Progress, check_writable, ignore, run
from muse_eval.store import Warn

METHODS = ("ga", "npo", "simnpo", "ga_gdr", "npo_gdr", "simnpo_gdr")
"""What a pipeline unlearns with unless told otherwise."""

Stage = Callable[[str], None]
"""Called with the name of each stage as it begins."""


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
    settings: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    truncate: bool = False
    overwrite: bool = False
    allow_pickle: bool = False
    trust_remote_code: bool = False


def pipeline(
    config: PipelineConfig, *, stage: Stage = ignore, progress: Progress = ignore, warn: Warn = ignore
) -> list[Path]:
    """Make or find target and retrain, unlearn with each method, score all; return the runs' folders.

    Raises:
        UserError: something that the user can mend; what is finished stays, and is not done again.
    """
    check(config)
    task = plugins.task(config.task)
    models = _references(config, task, stage, progress)

    def score(model: str, name: str) -> Path:
        stage(f"score {name}")
        wanted = _run_config(config, model, models["retrain"], name)
        return run(wanted, progress=progress, warn=warn, reuse=True).folder

    folders = [score(models[name], name) for name in ("retrain", "target")]
    for method in config.methods:
        stage(f"unlearn with {method}")
        out = config.results / "models" / task.name / method
        unlearned = _unlearn(config, task, models["target"], method, out, progress)
        folders.append(score(str(unlearned), method))
    return folders


def check(config: PipelineConfig) -> None:
    """Find what is wrong with methods, task, data, settings or folders before a model is made.

    Raises:
        UserError: something is.
    """
    for method in config.methods:
        plugins.method(method)
    task = plan(_run_config(config, "target", "retrain", "target")).task
    check_writable(config.results)
    for name in ("retrain", "target", *config.methods):
        run_folder(config.results, task.name, name)


def _references(config: PipelineConfig, task: TaskSpec, stage: Stage, progress: Progress) -> dict[str, str]:
    """Return target and retrain: those given, else trained now (built-in world), else the task's."""
    given = {"target": config.target, "retrain": config.retrain}
    if task.data.source == "builtin" and None in given.values():
        from muse_eval.mini.train import make_models
        from muse_eval.unlearning.output import writing

        stage("make target and retrain")
        home = config.results / "models" / task.name
        with writing(home):
            made = make_models(home, task.data.seed, progress)
        return {name: given[name] or str(made[name]) for name in given}
    models = {}
    for name, model in given.items():
        ref = next((ref for key, ref in task.models.items() if key == name), None)
        if model is None and ref is None:
            raise UserError(f"task {task.name} names no {name} model; give --{name}")
        models[name] = model or (f"{ref.repo}@{ref.revision}" if ref else "")
    return models


def _run_config(config: PipelineConfig, model: str, retrain: str, name: str) -> RunConfig:
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
        settings=config.settings,
        results=config.results,
        seed=config.seed,
        truncate=config.truncate,
        overwrite=config.overwrite,
        allow_pickle=config.allow_pickle,
        trust_remote_code=config.trust_remote_code,
    )
    return wanted


def _unlearn(
    config: PipelineConfig, task: TaskSpec, target: str, method: str, out: Path, progress: Progress
) -> Path:
    return unlearn(
        target,
        config.task,
        method,
        out,
        data_dir=config.data_dir,
        overwrite=config.overwrite,
        progress=progress,
        tokenizer=config.tokenizer,
        lr=config.lr,
        epochs=config.epochs,
        batch_size=config.batch_size,
        lambda_=config.lambda_,
        seed=task.data.seed,
        allow_pickle=config.allow_pickle,
        trust_remote_code=config.trust_remote_code,
    )
