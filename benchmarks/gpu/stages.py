"""The stages and how one is run: on a GPU in a process of its own, which its time limit ends.

The next stage then finds the card's memory whole, and a kernel that fails takes only its own stage along.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.sheet import today

if TYPE_CHECKING:
    from benchmarks.gpu.job import Job

LIMITS = {"machine": 40, "exactness": 120, "scoring": 180, "training": 140, "small": 60, "vllm": 420}
"""The stages in order, and the seconds each may take."""
USUAL = tuple(name for name in LIMITS if name != "vllm")
"""What is run unless told otherwise: nine minutes in all."""
MARGIN = 5.0
"""Seconds before its limit when a stage begins no more rows."""
ROOT = Path(__file__).parents[2]
Stage = dict[str, Any]
"""What a sheet holds of a stage: status (done, skipped, failed), reason, seconds, date, facts, rows."""


def perform(name: str, told: Mapping[str, Any], file: Path) -> Stage:
    """Run a stage in this process."""
    from benchmarks.gpu.job import Job, Rows, reason
    from benchmarks.gpu.machine import card
    from benchmarks.gpu.memory import release

    job = Job(**told)
    rows, began, facts, why = Rows(file, job.seconds), time.monotonic(), dict[str, Any](), None
    # The many collections of a stage need not look again and again at what imports have made. What someone
    # else froze before stays so.
    ours = not gc.get_freeze_count()
    gc.freeze()
    try:
        if name != "machine":
            check_floor(job, card(job.device))
        # What a stage alone needs may be missing here.
        facts = import_module(f"benchmarks.gpu.{name}").run(job, rows)
    except Exception as error:  # noqa: BLE001 - the other stages go on, whatever it was
        why = reason(error)
    finally:
        release()
        if ours:
            gc.unfreeze()
    return ended(rows.all, time.monotonic() - began, facts, why or nothing_measured(rows.all))


def nothing_measured(rows: list[dict[str, Any]]) -> str | None:
    """Return why no row was measured, though one was to be; None where one was, or none was to be."""
    failed = [row.get("failed") or row["skipped"] for row in rows if "failed" in row or row.get("late")]
    return failed[0] if failed and all("failed" in row or "skipped" in row for row in rows) else None


def check_floor(job: "Job", card: str) -> None:
    """Refuse to measure without the machine's rates, or against those of another card."""
    if not {"operations", "bytes"} <= job.floor.keys():
        raise RuntimeError("the stage machine has measured no rates")
    if job.floor["card"] != card:
        raise RuntimeError(f"the rates are another card's ({job.floor['card']}; this is {card}): --again")


def ended(rows: list[dict[str, Any]], seconds: float, facts: Mapping[str, Any], why: str | None) -> Stage:
    """Return what a sheet holds of a stage that has ended; ``why`` it failed."""
    left_out = all("skipped" in row for row in rows)
    status = "failed" if why else "skipped" if left_out else "done"
    stage = {"status": status, "seconds": round(seconds, 1), "date": today()}
    return {**stage, **({"reason": why} if why else {}), "facts": dict(facts), "rows": rows}


def apart(name: str, told: Mapping[str, Any], file: Path) -> Stage:
    """Run a stage in a process of its own; where that dies or takes too long, keep the rows it had."""
    began, limit = time.monotonic(), float(told["seconds"])
    result = file.with_suffix(".ended")
    # Up to its limit from now on, its imports included; the rest is for writing down what it has.
    given = json.dumps([name, dict(told), time.time() + limit - MARGIN, str(file), str(result)])
    child = start("--stage", given)
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


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    """Start this very program once more; what it prints goes where progress goes."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.Popen(
        command, stdout=sys.stderr, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    )


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read the rows that a stage left behind, but for one that was cut off."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def child(given: str) -> None:
    """Be the process of a stage."""
    name, told, until, file, result = json.loads(given)
    # Some containers turn TF32 on for every product; set before torch starts.
    os.environ["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"] = "0"
    stage = perform(name, {**told, "seconds": until - time.time()}, Path(file))
    draft = Path(f"{result}.tmp")
    draft.write_text(json.dumps(stage), encoding="utf-8")
    draft.replace(result)
