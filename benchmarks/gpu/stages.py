"""The stages and how one is run: on a GPU in a process of its own, which its time limit ends.

A card's memory is then whole again for the next stage, and a kernel that fails takes only its own stage along.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.sheet import today

if TYPE_CHECKING:
    from benchmarks.gpu.job import Job

LIMITS = {"machine": 40, "exactness": 100, "scoring": 190, "training": 140, "small": 70}
"""The stages in order, and the seconds each may take: nine minutes in all."""
Stage = dict[str, Any]
"""What a sheet holds of a stage: status (done or failed), reason, seconds, date, facts, rows."""


def perform(name: str, told: Mapping[str, Any], file: Path) -> Stage:
    """Run a stage in this process."""
    from benchmarks.gpu.job import Job, Rows, reason
    from benchmarks.gpu.machine import card
    from benchmarks.gpu.memory import release

    job = Job(**told)
    rows, began, facts, why = Rows(file, job.seconds), time.monotonic(), dict[str, Any](), None
    try:
        if name != "machine":
            check_floor(job, card(job.device))
        facts = import_module(f"benchmarks.gpu.{name}").run(job, rows)
    except Exception as error:  # noqa: BLE001 - the other stages go on, whatever it was
        why = reason(error)
    release()
    if why is None and not any("skipped" not in row and "failed" not in row for row in rows.all):
        first = next((row for row in rows.all if "failed" in row), None)
        why = first["failed"] if first else rows.all[0]["skipped"]
    return ended(rows.all, time.monotonic() - began, facts, why)


def check_floor(job: "Job", card: str) -> None:
    """Refuse to measure without the machine's rates, or against those of another card."""
    if not {"operations", "bytes"} <= job.floor.keys():
        raise RuntimeError("the stage machine has measured no rates")
    if job.floor["card"] != card:
        raise RuntimeError(f"the rates are those of another card ({job.floor['card']}; this is {card}): --again")


def ended(rows: list[dict[str, Any]], seconds: float, facts: Mapping[str, Any], why: str | None) -> Stage:
    """Return what a sheet holds of a stage that has ended; ``why`` it failed."""
    stage = {"status": "failed" if why else "done", "seconds": round(seconds, 1), "date": today()}
    return {**stage, **({"reason": why} if why else {}), "facts": dict(facts), "rows": rows}


def apart(name: str, told: Mapping[str, Any], file: Path) -> Stage:
    """Run a stage in a process of its own; where that dies or takes too long, keep the rows it had."""
    began, limit = time.monotonic(), float(told["seconds"])
    result = file.with_suffix(".ended")
    given = json.dumps([name, dict(told), str(file), str(result)])
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.gpu", "--stage", given], stdout=sys.stderr)
    why = None
    try:
        code = child.wait(limit)
        if not result.exists():
            why = f"its process ended with {code}"
    except subprocess.TimeoutExpired:
        why = f"stopped at its limit of {limit:.0f} s (--limit {name}=SECONDS gives it more)"
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if why is None:
        stage: Stage = json.loads(result.read_text(encoding="utf-8"))
        return stage
    return ended(read_rows(file), time.monotonic() - began, {}, why)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read the rows that a stage left behind, but for one that was cut off."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def child(given: str) -> None:
    """Be the process of a stage."""
    name, told, file, result = json.loads(given)
    # Before torch starts: a stage that is stopped must not leave its allocator to be guessed at.
    os.environ.setdefault("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "0")
    stage = perform(name, told, Path(file))
    draft = Path(f"{result}.tmp")
    draft.write_text(json.dumps(stage), encoding="utf-8")
    draft.replace(result)


def job_values(job: "Job") -> dict[str, Any]:
    """Return a job as plain values."""
    return asdict(job)
