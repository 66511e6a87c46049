"""Stage ``vllm``, only where it is asked for: transformers and vLLM on the same questions and weights.

It writes all weights to disk and starts an engine twice, which takes minutes; see ``benchmarks.engines``.
"""

import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu.job import Job, Row, Rows
from benchmarks.subject import random_checkpoint

COLUMNS = {
    "what": "",
    "start": "start, s",
    "seconds": "s",
    "tokens_per_second": "tokens/s",
    "peak": "peak, GiB",
    "note": "s a column",
}
ENGINES = ("hf", "vllm")


def run(job: Job, rows: Rows) -> dict[str, Any]:
    """Ask each engine a task's questions: those of ``--data-dir``, else the built-in world's."""
    if find_spec("vllm") is None:
        rows.skip("vLLM", "vLLM is not installed")
        return {}
    with tempfile.TemporaryDirectory(dir=job.out) as scratch:
        model = random_checkpoint(job.shape, Path(scratch) / job.shape)
        for engine in ENGINES:
            rows.attempt(engine, partial(measure, job, model, engine), 60 if job.on_gpu else 0)
    return {"questions": job.task if job.data_dir else "muse_mini"}


def measure(job: Job, model: Path, engine: str) -> Row:
    """Start an engine in a process of its own and ask it everything."""
    from benchmarks import engines

    dtype = str(job.dtype).removeprefix("torch.")
    task = job.task if job.data_dir else "muse_mini"
    (done,) = engines.measure(engines.Job("", str(model), task, job.data_dir, None, dtype, True), [engine])
    seconds = sum(line["wall"] for line in done["lines"])
    tokens = sum(prompt + new for line in done["lines"] for prompt, new in line["lengths"])
    return {
        "start": done["start"]["wall"],
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak": done["peak"],
        "note": ", ".join(f"{line['column']} {line['wall']:.1f}" for line in done["lines"]),
    }
