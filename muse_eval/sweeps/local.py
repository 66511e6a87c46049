"""Scores many models, each in a process of its own: one that fails leaves the others alone."""

import importlib.util
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

from muse_eval.config.run import RunConfig
from muse_eval.config.spec import canonical_json
from muse_eval.errors import UserError, unknown_name
from muse_eval.results.runs import run_folder
from muse_eval.scoring.plan import plan
from muse_eval.scoring.run import check_writable
from muse_eval.sweeps.models import model_name
from muse_eval.sweeps.worker import Job, Outcome, Processes, score
from muse_eval.types import Note, Progress, Warn, ignore

PLACES = ("local", "ray")
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
    if on not in PLACES:
        raise unknown_name("place", on, PLACES)
    if on == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("--on ray needs Ray, not installed here: in the checkout, pip install '.[ray]'")
    planned = check(configs)
    at_once = min(jobs, len(planned))
    alone = at_once == 1 and on == "local"
    report = Report(None if alone else len(planned), at_once, stage, progress, warn, note)
    if on == "ray":
        from muse_eval.sweeps.ray import score_on_ray

        return score_on_ray(planned, at_once, gpus_per_model, report)
    return _score_here(planned, _environments(at_once, gpus_per_model), report)


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


class Report:
    """Tells of one model after the other by stages, of several at once by steps named after them."""

    def __init__(
        self,
        several: int | None,
        at_once: int,
        stage: Callable[[str], None],
        progress: Progress,
        warn: Warn,
        note: Note,
    ) -> None:
        self._lock = threading.Lock()
        self._stage, self._progress, self._warn, self._note = stage, progress, warn, note
        self._noted: set[str] = set()
        self._several, self._at_once, self._over = several, at_once, 0

    def open(self) -> None:
        """Say what is to be done, now that nothing stands in its way."""
        if self._several is not None:
            self._stage(f"models: {self._several}, {self._at_once} at a time")
            self._progress("models", 0, self._several)

    def begin(self, name: str) -> None:
        """Say that a model's turn has come."""
        with self._lock:
            if self._several is None:
                self._stage(f"score {name}")

    def step(self, name: str, step: str, done: int, total: int) -> None:
        """Pass on how far a model is."""
        with self._lock:
            self._progress(step if self._several is None else f"{name}: {step}", done, total)

    def warn(self, name: str, message: str) -> None:
        """Pass on a model's warning."""
        with self._lock:
            self._warn(f"{name}: {message}")

    def note(self, message: str) -> None:
        """Pass on what was decided, which most models have in common."""
        with self._lock:
            if message not in self._noted:
                self._noted.add(message)
                self._note(message)

    def end(self) -> None:
        """Say that a model is over, one way or the other."""
        with self._lock:
            self._over += 1
            if self._several is not None:
                self._progress("models", self._over, self._several)


def _score_here(
    planned: Sequence[Job], environments: Sequence[dict[str, str]], report: Report
) -> list[Outcome]:
    """Score on this machine, as many models at once as there are environments."""
    report.open()
    processes = Processes()
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for one in environments:
        free.put(one)

    def work(job: Job) -> Outcome:
        env = free.get()
        try:
            report.begin(job.name)
            step, warn = partial(report.step, job.name), partial(report.warn, job.name)
            return score(job, processes, env=env, progress=step, warn=warn, note=report.note)
        finally:
            free.put(env)
            report.end()

    with ThreadPoolExecutor(len(environments)) as pool:
        futures = [pool.submit(work, job) for job in planned]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            raise


# ── what each process gets of this machine ───────────────────────────────────────────────────────
def _environments(jobs: int, gpus_per_model: int | None) -> list[dict[str, str]]:
    """Return for each job the environment variables that give it its share of GPUs and cores."""
    wanted = gpus_per_model != 0 and (jobs > 1 or gpus_per_model is not None)
    dealt = deal(visible_gpus() if wanted else [], jobs, gpus_per_model)
    env = {}
    if jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        env["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    return [env if gpus is None else {**env, "CUDA_VISIBLE_DEVICES": gpus} for gpus in dealt]


def deal(gpus: Sequence[str], jobs: int, gpus_per_model: int | None) -> list[str | None]:
    """Deal GPUs out to jobs: what ``CUDA_VISIBLE_DEVICES`` is for each; None: left as it is.

    Raises:
        UserError: there are too few.
    """
    each = gpus_per_model if gpus_per_model is not None else min(len(gpus), 1)
    if each == 0:
        return [None] * jobs
    if jobs * each > len(gpus):
        raise UserError(
            f"--jobs {jobs} with --gpus-per-model {each} needs {jobs * each} GPUs, and {len(gpus)} can be "
            "seen; lower one of them, or let models share what there is with --gpus-per-model 0"
        )
    return [",".join(gpus[job * each : (job + 1) * each]) for job in range(jobs)]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(index) for index in range(count)])[:count]
