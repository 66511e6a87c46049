"""A tune made ready: its configuration, what is checked before a model is made, what decides its numbers."""

import importlib.util
from typing import Annotated, Any

from pydantic import Field

from muse_eval import plugins, provenance
from muse_eval.config import PositiveInt, check_groups, stated
from muse_eval.errors import UserError
from muse_eval.own_code import code_digest
from muse_eval.pipelines import ComparisonConfig
from muse_eval.results import composite, run_folder
from muse_eval.scoring import UNSCORED, Plan, check_writable
from muse_eval.scoring.plan import plan
from muse_eval.tuning.grid import OPTIONS, Axis, read_axes, recipe, require_feasible, resolve
from muse_eval.types import Progress
from muse_eval.unlearning.recipe import parse_lora


class TuneConfig(ComparisonConfig):
    """One method's settings on one task, and what compares them; ``seed`` is also of what is sampled."""

    method: str
    grid: Annotated[tuple[str, ...], Field(min_length=1)]
    """As typed: ``NAME=V1:V2,NAME=LOW..HIGH``."""
    composite: str = "balance"
    rank_flagged: bool = False
    """Rank ruined models too, those flagged ``collapsed`` or ``degenerate``."""
    trials: PositiveInt | None = None
    """How many settings to sample; None: the whole grid, which then has no ranges."""
    keep_models: bool = False
    """Keep every trial's weights, not the best one's alone."""

    @property
    def fixed(self) -> dict[str, Any]:
        """What was given for all trials of that which can be tuned."""
        named = {name: getattr(self, {"lambda": "lambda_"}.get(name, name)) for name in OPTIONS}
        given = {name: value for name, value in named.items() if value is not None}
        return given | ({"preset": self.preset} if self.preset else {})


def check(config: TuneConfig) -> tuple[Plan, tuple[Axis, ...]]:
    """Find what is wrong with grid, method, task, data, settings or folders before a model is made.

    Raises:
        UserError: something is, or Optuna is not installed.
    """
    if config.trials is None:
        require_feasible(config.grid)
    from muse_eval.unlearning.training.feasible import check_feasible

    if importlib.util.find_spec("optuna") is None:
        raise UserError("tune needs optuna: pip install '.[tune]'")
    if config.engine == "server":
        raise UserError("engine server answers for one model, and every trial makes another; use auto")
    plugins.split_method(config.method)
    task = plugins.task(config.task)
    if task.forget_sets:
        raise UserError(f"task {task.name} has several forget sets, and tune unlearns one; use its base task")
    loss, _, _ = plugins.method(config.method)
    cure = "a tune's method is set by --grid; use --grid {name}={value}"
    check_groups(config.settings, task, refused=dict.fromkeys((loss, config.method), cure))
    axes = read_axes(config.grid, task, config.method)
    for axis in axes:
        if axis.name in config.fixed:
            raise UserError(f"{axis.name} is given both by --grid and by its own option; keep one of them")
        if axis.span and config.trials is None:
            raise UserError(f"--grid {axis.name} is a range: say how many settings to sample with --trials")
    resolve(task, config.method, {}, **config.fixed)
    # Where batch sizes are tried, a trial whose rows do not divide fails alone and the others go on.
    tried = {"micro_batch_size": None} if any(axis.name == "batch_size" for axis in axes) else {}
    check_feasible(recipe(task, config.method, {}, **config.fixed, **{**config.means, **tried}))
    composite(config.composite, dict.fromkeys(task.columns))
    planned = plan(config.scoring(task, "target", "retrain", "target"))
    check_writable(config.results)
    run_folder(config.results, task.name, config.method)
    return planned, axes


def identity(config: TuneConfig, planned: Plan, models: dict[str, str], progress: Progress) -> dict[str, Any]:
    """Describe what all trials have in common and what decides their numbers, down to code and versions."""
    import torch

    from muse_eval.engines.checkpoint import find_checkpoint
    from muse_eval.engines.loading import load_tokenizer, tokenizer_digest
    from muse_eval.unlearning.objectives import uses_retain

    task, code = planned.task, config.trust_remote_code
    _, method, term = plugins.method(config.method)
    for split in (task.unlearn.forget, *((task.unlearn.retain,) if uses_retain(method, term) else ())):
        planned.data.split(split)

    def digests(model: str) -> list[str]:
        found = find_checkpoint(
            model, allow_pickle=config.allow_pickle, trust_remote_code=code, progress=progress
        )
        tokenizer = load_tokenizer(found, config.tokenizer, task.tokenizers, code)
        return [found.digest, tokenizer_digest(tokenizer)]

    return {
        "method": config.method,
        "models": {name: digests(model) for name, model in models.items()},
        "task": task.model_dump(mode="json", exclude=UNSCORED),
        "data": planned.data.describe()["sha256"],
        "columns": {column.name: stated(column.params) for column in planned.columns},
        "engine": [planned.engine.name, getattr(planned.engine.settings, "quantization", None)],
        "dtype": config.dtype,
        # Only where they are given: studies from before there were such options stay what they are.
        **({"lora": parse_lora(config.lora).model_dump()} if config.lora else {}),
        **({"training_dtype": config.training_dtype} if config.training_dtype != "auto" else {}),
        "seed": config.seed,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "versions": {name: one for name, one in provenance.versions().items() if name != "muse-eval"},
        "code": code_digest("tuning"),
    }
