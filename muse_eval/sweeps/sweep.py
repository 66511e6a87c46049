"""Scores many models, each in a process of its own: one that fails leaves the others alone."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

from muse_eval.config import ENGINE, RunConfig, canonical_json
from muse_eval.errors import UserError, unknown_name
from muse_eval.results import run_folder
from muse_eval.scoring import check_writable
from muse_eval.scoring.plan import plan
from muse_eval.sweeps.local import score_here
from muse_eval.sweeps.models import model_name
from muse_eval.sweeps.ray import score_on_ray
from muse_eval.sweeps.report import Report
from muse_eval.sweeps.worker import Job, Outcome
from muse_eval.types import Note, Progress, Warn, ignore

Runner = Callable[[Sequence[Job], int, int | None, Report], list[Outcome]]
"""Scores models, so many at once, with so many GPUs each, and tells a report of them."""
RUNNERS: dict[str, Runner] = {"local": score_here, "ray": score_on_ray}
"""Where a sweep's processes can run."""


def sweep(
    configs: Sequence[RunConfig],
    *,
    jobs: int = 1,
    on: str = "local",
    gpus_per_model: int | None = None,
    stage: Callable[[str], None] = ignore,
    progress: Progress = ignore,
    warn: Warn = ignore,
    note: Note = ignore,
) -> list[Outcome]:
    """Score many models, each in a process of its own; return what became of each, in their order.

    Everything that can be checked is checked before the first process starts. A model that fails does not
    stop the others. Calling it again does only what is missing: a finished run of the same settings and
    code is taken as it is, without loading its model.

    Args:
        configs: the models, all of different names; a run without a name is called after its model.
        jobs: models under way at once.
        on: ``local``, or ``ray``: on the nodes of a Ray cluster, which must share the folders named here.
        gpus_per_model: GPUs that a model's process sees; 0: what this process sees; None: the same for
            one job, else one GPU where there are any. On Ray 0 is none, and None is one
            where the cluster has any.
        stage: called with the name of each stage as it begins.
        progress: told of every finished batch, from several threads but never at once.
        warn: told, in one line, of what is odd but not fatal.
        note: told, in one line and once for all models, what was decided.

    Raises:
        UserError: something that the user can mend, found before any model was scored.
    """
    if jobs < 1 or (gpus_per_model or 0) < 0:
        raise UserError("--jobs must be 1 or more, --gpus-per-model 0 or more")
    if on not in RUNNERS:
        raise unknown_name("place", on, RUNNERS)
    if on == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("--on ray needs Ray, not installed here: in the checkout, pip install '.[ray]'")
    planned = check(configs)
    at_once = min(jobs, len(planned))
    planned = [_in_a_row(job, ceil(len(planned) / at_once)) for job in planned]
    alone = at_once == 1 and on == "local"
    report = Report(None if alone else len(planned), at_once, stage, progress, warn, note)
    return RUNNERS[on](planned, at_once, gpus_per_model, report)


def _in_a_row(job: Job, models: int) -> Job:
    """Tell ``auto`` how many models each place will score, by which vLLM's start may pay."""
    config = job.config
    if config.engine != "auto" or (key := f"{ENGINE}.models") in config.settings:
        return job
    return replace(job, config=config.model_copy(update={"settings": {**config.settings, key: models}}))


def check(configs: Sequence[RunConfig]) -> list[Job]:
    """Find what is wrong with models, names, tasks, settings, data or folders before a process starts.

    Raises:
        UserError: something is.
    """
    if not configs:
        raise UserError("a sweep needs a model; give a folder, a hub id, a glob or a list of models")
    planned: dict[str, Job] = {}
    tasks: dict[str, str] = {}
    for config in configs:
        if config.engine == "server" or config.base_url is not None:
            raise UserError("engine server answers for one model; score that with muse-eval run")
        default = model_name(config.model)
        if config.retrain is not None:
            model_name(config.retrain)
        name = config.name or default
        if name in planned:
            raise UserError(
                f"{planned[name].config.model} and {config.model} would both be called {name!r}; "
                "give each a name of its own"
            )
        # Data and questions depend on the model only by its task, so most are planned once for all.
        same = config.model_dump(mode="json", exclude={"name"} if config.task is None else {"name", "model"})
        key = canonical_json(same)
        if key not in tasks:
            tasks[key] = plan(config).task.name
            check_writable(config.results)
        folder = run_folder(config.results, tasks[key], name)
        planned[name] = Job(name, config.model_copy(update={"name": name}), folder)
    return list(planned.values())
