"""A sweep on this machine: so many processes at once, each with its share of GPUs and cores."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

from muse_eval.errors import UserError
from muse_eval.sweeps.report import Report
from muse_eval.sweeps.worker import Job, Outcome, Processes, score


def score_here(
    planned: Sequence[Job], at_once: int, gpus_per_model: int | None, report: Report
) -> list[Outcome]:
    """Score on this machine, so many models at once.

    Args:
        planned: the models.
        at_once: how many may be under way.
        gpus_per_model: GPUs that a model's process sees, as in ``sweep``.
        report: told of models as they begin and end.

    Raises:
        UserError: there are too few GPUs.
    """
    environments = _environments(at_once, gpus_per_model)
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
