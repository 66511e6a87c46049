"""A sweep on a Ray cluster: each model is a task that starts the very same process on some node.

muse-eval must be installed on every node, and the working directory, the results folder and local models
must lie on a file system that all nodes share.
"""

import logging
import os
import signal
import socket
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from muse_eval.errors import Terminated, UserError, first_line
from muse_eval.sweeps.report import Report
from muse_eval.sweeps.worker import Job, Outcome, Processes, score


def score_on_ray(
    planned: Sequence[Job], at_once: int, gpus_per_model: int | None, report: Report
) -> list[Outcome]:
    """Score models as tasks of the cluster at ``RAY_ADDRESS``, else of this machine's, else of a new one.

    Args:
        planned: the models.
        at_once: how many tasks may be under way.
        gpus_per_model: GPUs of a task; None: one where the cluster has any.
        report: told of models as they begin and end.

    Raises:
        UserError: the cluster does not answer, or no node of it is large enough.
    """
    with _cluster() as ray:
        options = {"num_cpus": 1, "num_gpus": _gpus(ray, gpus_per_model), "max_retries": 0}
        task = ray.remote(**options)(_score)
        report.open()
        waiting = deque(planned)
        running: dict[Any, Job] = {}
        outcomes: dict[str, Outcome] = {}
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.popleft()
                    report.begin(job.name)
                    running[task.remote(job, str(Path.cwd()))] = job
                (ref,), _ = ray.wait(list(running))
                job = running.pop(ref)
                outcomes[job.name], heard = _result(ray, ref, job)
                for message in heard:
                    report.warn(job.name, message)
                report.end()
        finally:
            for ref in running:
                ray.cancel(ref, force=True)
        return [outcomes[job.name] for job in planned]


@contextmanager
def _cluster() -> Iterator[Any]:
    """Connect to a cluster, quietly, and leave it as it was."""
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    on_sigterm = signal.getsignal(signal.SIGTERM)
    import ray

    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no Ray cluster can be used ({first_line(error)}); check RAY_ADDRESS, "
            "or unset it to use this machine"
        ) from None
    asked: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if callable(on_sigterm):
            on_sigterm(number, frame)

    if threading.current_thread() is threading.main_thread():
        # Ray's own would end the process without a word.
        signal.signal(signal.SIGTERM, terminate if callable(on_sigterm) else on_sigterm)
    try:
        yield ray
    except KeyboardInterrupt:
        # Whatever is raised while Ray waits comes out of it as Ctrl-C.
        if asked:
            raise Terminated from None
        raise
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({error.strerror or error}); start it, "
            "or unset RAY_ADDRESS to use this machine"
        ) from None


def _gpus(ray: Any, wanted: int | None) -> int:
    """Return the GPUs of a task, refusing what would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = max((node.get("GPU", 0) for node in nodes if node.get("CPU", 0) >= 1), default=None)
    if largest is None:
        raise UserError("no node of the Ray cluster has a CPU for tasks; add a node")
    gpus = min(int(largest), 1) if wanted is None else wanted
    if gpus > largest:
        raise UserError(
            f"--gpus-per-model {gpus}: the largest node of the Ray cluster has {largest:.0f} GPUs; "
            "ask for fewer, or add a node"
        )
    return gpus


def _score(job: Job, cwd: str) -> tuple[Outcome, list[str]]:
    """Score a model on the node that runs this; relative paths mean there what they mean to the caller."""
    heard: list[str] = []
    try:
        os.chdir(cwd)
    except OSError:
        return Outcome(job.name, None, f"node {os.uname().nodename} has no folder {cwd}; share it"), heard
    return score(job, Processes(), warn=heard.append), heard


def _result(ray: Any, ref: Any, job: Job) -> tuple[Outcome, list[str]]:
    try:
        result: tuple[Outcome, list[str]] = ray.get(ref)
    except ray.exceptions.RayError as error:
        return Outcome(
            job.name, None, f"its Ray task was lost: {first_line(getattr(error, 'cause', None) or error)}"
        ), []
    return result
