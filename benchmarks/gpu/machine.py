"""Stage ``machine``: the card, and the two rates that the floor is reckoned from."""

import os
import platform
import shutil
import subprocess
from typing import Any

import torch

from benchmarks.gpu.job import Job, Row, Rows
from benchmarks.gpu.memory import GIB
from benchmarks.measure import matrix_rate, memory_rate

COLUMNS = {
    "what": "",
    "value": "measured",
}


def card(device: str) -> str:
    """Return the name of what is checked."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def facts(device: str) -> dict[str, Any]:
    """Return what tells this machine from another."""
    known: dict[str, Any] = {"card": card(device), "cores": os.cpu_count()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        known |= {
            "memory_gib": round(properties.total_memory / GIB, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "driver": _driver(),
            "cuda": torch.version.cuda or f"HIP {torch.version.hip}",
        }
    return known


def _driver() -> str | None:
    """Return the driver's version, as nvidia-smi tells it."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return told.split("\n")[0].strip() or None


def run(job: Job, rows: Rows) -> dict[str, Any]:
    """Measure; return the machine's facts and its floor."""
    found: dict[str, float] = {}
    kind = "bfloat16 product, 8,192 square" if job.on_gpu else "float32 product, a CPU second"

    def matrix() -> Row:
        # The first few of so short a time also wake the card.
        found["operations"] = matrix_rate(job.device, times=30 if job.on_gpu else 5)
        return {"value": f"{found['operations'] / 1e12:,.3g} TFLOP/s"}

    def memory() -> Row:
        found["bytes"] = memory_rate(job.device, times=30 if job.on_gpu else 5)
        return {"value": f"{found['bytes'] / 1e9:,.4g} GB/s"}

    rows.attempt(f"matrix rate ({kind})", matrix)
    rows.attempt("memory rate (a copy, bytes read and written)", memory)
    return {**facts(job.device), **found}
