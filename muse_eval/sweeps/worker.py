"""One model scored in a process of its own: what runs in it, and what starts it and listens to it.

The process reads a ``RunConfig`` as one line of JSON and answers in lines of JSON: ``step``, ``done`` and
``total``; ``warning``; ``note``; at last ``folder`` or ``error``. It ends when its standard input does.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from muse_eval import late
from muse_eval.config import RunConfig
from muse_eval.errors import UserError
from muse_eval.scoring.run import run
from muse_eval.types import Note, Progress, Warn, ignore

LOG = "worker.log"
"""What a process wrote to standard error, in the run's folder; it stays only where the model failed."""
TAIL_BYTES = 65_536


@dataclass(frozen=True)
class Job:
    """One model to score: its configuration, which has a name, and the folder that the run will have."""

    name: str
    config: RunConfig
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What became of one model of a sweep: the run's folder, or why there is none."""

    name: str
    folder: Path | None
    reason: str = ""
    """Why the model failed, in one line; empty where it did not."""


# ── the one who starts it ────────────────────────────────────────────────────────────────────────
class Processes:
    """The processes under way; one call ends them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: list[subprocess.Popen[str]] = []
        self._stopped = False

    def start(self, log: IO[bytes], env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a process that waits for its ``RunConfig``.

        Raises:
            InterruptedError: all are to end, so none may begin.
        """
        with self._lock:
            if self._stopped:
                raise InterruptedError("the sweep was stopped")
            # -P: a file in the working directory must not stand in for a module.
            child = subprocess.Popen(  # nosec B603  # a fixed command, no shell
                [sys.executable, "-P", "-m", "muse_eval.sweeps.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"GOMP_SPINCOUNT": "0", **os.environ, **env},
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
            self._started.append(child)
        threading.Thread(target=_bury, args=(child,), daemon=True).start()
        return child

    def stop(self) -> None:
        """End every process, with those it started, and let no other begin."""
        with self._lock:
            self._stopped = True
            for child in self._started:
                if child.poll() is None:
                    _kill_group(child.pid)


def _bury(child: subprocess.Popen[str]) -> None:
    # What a crashed process leaves behind would keep the GPU's memory, and the pipe open.
    child.wait()
    _kill_group(child.pid)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def score(
    job: Job,
    processes: Processes,
    *,
    env: Mapping[str, str] | None = None,
    progress: Progress = ignore,
    warn: Warn = ignore,
    note: Note = ignore,
) -> Outcome:
    """Score a model in a process of its own and say what became of it; a crash is an outcome too.

    Args:
        job: the model.
        processes: where the process is entered, to be ended with others.
        env: environment variables that differ from this process's own.
        progress: told of every finished batch.
        warn: told, in one line, of what is odd but not fatal.
        note: told, in one line, what was decided.
    """
    log = job.folder / LOG
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        errors = log.open("wb")
    except OSError as error:
        return Outcome(job.name, None, f"cannot write {log}: {error.strerror or error}")
    with errors:
        child = processes.start(errors, env or {})
    last: dict[str, Any] = {}
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        # One that died at once reads nothing; its exit code tells.
        with suppress(BrokenPipeError):
            child.stdin.write(f"{job.config.model_dump_json()}\n")
            child.stdin.flush()
        for line in child.stdout:
            last = _hear(line, progress, warn, note) or last
        # Only now: the process ends at once when its input does.
        code = child.wait()
        with suppress(BrokenPipeError):
            child.stdin.close()
    return _outcome(job, last, code, log)


def _hear(line: str, progress: Progress, warn: Warn, note: Note) -> dict[str, Any] | None:
    """Pass on one line of a process; return it where it is the last one."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    if not isinstance(told, dict):
        # Something printed it before the process could see to that.
        return None
    if "step" in told:
        progress(told["step"], told["done"], told["total"])
    elif "warning" in told:
        warn(told["warning"])
    elif "note" in told:
        note(told["note"])
    else:
        return told
    return None


def _outcome(job: Job, last: Mapping[str, Any], code: int, log: Path) -> Outcome:
    if "folder" in last:
        # Whatever happened on the way out: the result is whole.
        log.unlink(missing_ok=True)
        return Outcome(job.name, Path(last["folder"]))
    tail = _last_line(log)
    if "error" in last and not tail:
        log.unlink(missing_ok=True)
        with suppress(OSError):
            job.folder.rmdir()
        return Outcome(job.name, None, last["error"])
    return Outcome(job.name, None, f"{last.get('error') or _death(code, tail)}; log: {log}")


def _death(code: int, tail: str) -> str:
    ended = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    hint = " (as the system does when memory runs out)" if code == -signal.SIGKILL else ""
    return f"its process ended with {ended}{hint}" + (f": {tail}" if tail else "")


def _last_line(log: Path) -> str:
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
    return ""


# ── the process itself ───────────────────────────────────────────────────────────────────────────
def work(config: str, tell: Callable[..., None]) -> int:
    """Score what a JSON text describes, telling of it as it goes; return the exit code.

    Args:
        config: a ``RunConfig``. A finished run of the same settings and code is taken as it is.
        tell: called with the keys of each line.
    """

    def progress(step: str, done: int, total: int) -> None:
        tell(step=step, done=done, total=total)

    def warn(message: str) -> None:
        tell(warning=message)

    def note(message: str) -> None:
        tell(note=message)

    try:
        wanted = RunConfig.model_validate_json(config)
        done = run(wanted, progress=progress, warn=warn, note=note, reuse=True)
    except UserError as error:
        tell(error=str(error))
        return 2
    tell(folder=str(done.folder))
    return 0


def _end_with_parent() -> None:
    # The other end of the pipe closes however the parent ends, kill -9 included.
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():
        _kill_group(os.getpid())
    os._exit(1)


def main() -> int:
    """Be the process: read from standard input, answer on standard output."""
    late.start()
    config = sys.stdin.readline()
    # Libraries print to standard output too; from here on that goes into the log.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(**message: Any) -> None:
        with lock:
            print(json.dumps(message), file=out, flush=True)

    threading.Thread(target=_end_with_parent, daemon=True).start()
    return work(config, tell)


if __name__ == "__main__":
    with late.ended_at_once():
        sys.exit(main())
