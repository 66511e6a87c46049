"""Processes that are forked where all imports are done: fresh ones, for what does not ask how one begins.

All of them have one seed of Python's hashes, which is not that of the process that starts them.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import IO

_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "hypothesis",
        "pytest",
        "muse_eval.metrics.privleak",
        "muse_eval.results.runs",
        "muse_eval.scoring.answers",
    ]
)


def _run(out: Connection, work: Callable[..., None], given: tuple[object, ...]) -> None:
    os.dup2(out.fileno(), 1)
    out.close()
    work(*given)


@contextmanager
def forked(work: Callable[..., None], *given: object) -> Iterator[tuple[ForkServerProcess, IO[str]]]:
    """Begin a function in another process; yield that and what it prints, and wait for its end."""
    # The server forks by a call of its own, which no audit hook sees: tests/support/marks.py does now.
    sys.audit("os.fork")
    ours, theirs = _SERVER.Pipe(duplex=False)
    process = _SERVER.Process(target=_run, args=(theirs, work, given))
    process.start()
    theirs.close()
    try:
        with os.fdopen(os.dup(ours.fileno()), encoding="utf-8") as printed:
            ours.close()
            yield process, printed
        process.join()
    finally:
        process.kill()
