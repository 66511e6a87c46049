"""Times every engine on the same model and questions, each in a process of its own, in one run.

``plain`` is transformers one example at a time, as the published code works; ``hf``, ``vllm`` and ``server``
are muse-eval's. A question is the same for all; each engine's answers are scored, so the values show that all
did the same work. Start-up (import, loading, a first answer of each kind) is told apart. CPU seconds are of
the process and of those it started, the server's too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.floor import Work
from benchmarks.measure import matrix_rate
from benchmarks.serve import serve
from benchmarks.shapes import SHAPES
from benchmarks.subject import random_checkpoint
from muse_eval.config import RunConfig
from muse_eval.engines import ENGINES as KINDS
from muse_eval.engines import ModelSource, choose_engine, open_engine
from muse_eval.engines.checkpoint import Checkpoint, find_checkpoint
from muse_eval.engines.loading import LoadOptions, load_tokenizer
from muse_eval.scoring import Plan
from muse_eval.scoring.answers import Store
from muse_eval.scoring.plan import PlannedColumn, plan
from muse_eval.types import Context, Engine, Generate, Generation, Logprobs, Reference, Truncate

ENGINES = ("plain", "hf", "vllm", "server")
GIB = 2**30
WARM_UP = "The keeper of the lighthouse wrote a letter every evening."


@dataclass(frozen=True)
class Line:
    """What one engine took for one column."""

    engine: str
    column: str
    wall: float
    cpu: float
    lengths: list[tuple[int, int]]
    """Tokens of each prompt or text, and of its answer."""
    value: float | None


@dataclass(frozen=True)
class Job:
    """What a worker is told."""

    engine: str
    model: str
    task: str
    data_dir: str | None
    examples: int | None
    dtype: str
    random: bool
    """Whether the weights are."""


# ── one engine, in a process of its own ──────────────────────────────────────────────────────────
def work(job: Job) -> dict[str, Any]:
    """Score every column with one engine; return its lines, its start-up and its peak memory."""
    planned = _plan(job)
    found = find_checkpoint(job.model)
    tokenizer = load_tokenizer(found, None, planned.task.tokenizers)
    subject = Subject(job, planned, found, tokenizer)
    with tempfile.TemporaryDirectory() as scratch, _opened(subject, Path(scratch)) as engine:
        for _ in engine.generate([Generate(WARM_UP, 2)]):
            pass
        for _ in engine.logprobs([Logprobs(WARM_UP)]):
            pass
        start = {"wall": time.time() - psutil.Process().create_time(), "cpu": cpu_seconds()}
        lines = [asdict(_score(subject, engine, column, Path(scratch))) for column in planned.columns]
        peak = _peak()
    return {"engine": job.engine, "start": start, "peak": peak, "lines": lines}


@dataclass(frozen=True)
class Subject:
    """What a worker measures."""

    job: Job
    planned: Plan
    checkpoint: Checkpoint
    tokenizer: Any

    def length(self, text: str) -> int:
        """Return how many tokens a text has."""
        return len(self.tokenizer(text, verbose=False).input_ids)

    def new(self, ask: Any, answer: Any) -> int:
        """Return how many tokens an answer has; random weights go on to the last, in no known words."""
        if not isinstance(answer, Generation):
            return 0
        if self.job.random:
            return int(ask.max_tokens)
        return len(self.tokenizer(answer.text, verbose=False, add_special_tokens=False).input_ids)


def _plan(job: Job) -> Plan:
    data = Path(job.data_dir) if job.data_dir else None
    settings = {"privleak.moments": False}  # vLLM has none, so nobody computes them.
    return plan(
        RunConfig(model=job.model, task=job.task, data_dir=data, limit=job.examples, settings=settings)
    )


@contextmanager
def _opened(subject: Subject, scratch: Path) -> Iterator[Engine]:
    job, asks = subject.job, subject.planned.requests()
    source = ModelSource(job.model, fallbacks=subject.planned.task.tokenizers, dtype=job.dtype)
    if job.engine == "plain":
        from benchmarks.plain import OneAtATime

        options = LoadOptions(dtype=job.dtype)
        with OneAtATime(subject.checkpoint, subject.tokenizer, options) as engine:
            yield engine
        return
    served: Any = nullcontext()
    if job.engine == "server":
        context = max(subject.length(_text(ask)) + _new(ask) for ask in asks)
        dtype = str(LoadOptions(dtype=job.dtype).torch_dtype).removeprefix("torch.")
        log = scratch / "server.log"
        served = serve(Path(job.model), log, name="model", context=context, dtype=dtype)
        source = replace(source, model="model", tokenizer=job.model, revision="benchmark")
    with served as server:
        if server is not None:
            source = replace(source, base_url=server.base_url)
        choice = choose_engine(job.engine, {}, base_url=source.base_url)
        with open_engine(choice, source, asks=asks, note=partial(print, " ", file=sys.stderr)) as engine:
            yield engine


def _text(ask: Any) -> str:
    return str(ask.prompt if isinstance(ask, Generate) else ask.text)


def _new(ask: Any) -> int:
    return int(ask.max_tokens) if isinstance(ask, Generate) else 1


def _score(subject: Subject, engine: Engine, column: PlannedColumn, scratch: Path) -> Line:
    print(f"  {column.spec.title} …", file=sys.stderr)
    began, spent = time.perf_counter(), cpu_seconds()
    answers = Store(scratch / column.name, lambda _: None).ask(engine, column.requests).values
    wall, cpu = time.perf_counter() - began, cpu_seconds() - spent
    context = Context(resamples=9, reference=Reference("published", "", {"Min-40%": 0.5}))
    score = column.metric.score(column.splits, answers, column.params, context)
    lengths = [
        (subject.length(_text(ask)), subject.new(ask, answer))
        for ask, answer in zip(column.requests, answers, strict=True)
        if not isinstance(ask, Truncate)
    ]
    return Line(subject.job.engine, column.name, wall, cpu, lengths, score.value)


def _family() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those it started."""
    total = 0.0
    for process in _family():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _peak() -> float:
    """Return the peak of GPU memory, else of resident memory over the family, in GiB."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return max(torch.cuda.max_memory_reserved(), total - free) / GIB
    total_kib = 0
    for process in _family():
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        total_kib += next((int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")), 0)
    return total_kib / 2**20


# ── all of them ──────────────────────────────────────────────────────────────────────────────────
def installed() -> list[str]:
    """Return the engines that can run here."""
    without = ("vllm", "server") if KINDS["vllm"].missing else ()
    return [name for name in ENGINES if name not in without]


def measure(job: Job, engines: Sequence[str]) -> list[dict[str, Any]]:
    """Run a worker for each engine, one after the other."""
    done = []
    for engine in engines:
        print(f"{engine}:", file=sys.stderr)
        told = json.dumps(asdict(replace(job, engine=engine)))
        command = [sys.executable, "-m", "benchmarks.engines", "--worker", told]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        done.append(json.loads(ran.stdout.splitlines()[-1]))
    return done


def floor(model: str, lines: Sequence[dict[str, Any]]) -> float:
    """Return the seconds of the arithmetic alone, at the machine's own matrix rate."""
    with torch.device("meta"):
        work = Work(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model)))
    operations = 0.0
    for line in lines:
        pairs = [(prompt, new) for prompt, new in line["lengths"]]
        answers = any(new for _, new in pairs)
        operations += work.answers(pairs) if answers else work.texts(prompt for prompt, _ in pairs)
    return operations / matrix_rate("cuda" if torch.cuda.is_available() else "cpu")


def _tokens(line: dict[str, Any]) -> int:
    return sum(prompt + new for prompt, new in line["lengths"])


def draw(done: Sequence[dict[str, Any]]) -> Table:
    """Lay the measurements out; ratios are of CPU seconds, or of wall seconds on a GPU, to plain's."""
    clock = "wall" if torch.cuda.is_available() else "cpu"
    base = {line["column"]: line[clock] for line in done[0]["lines"]}
    table = Table()
    ratio = f"× {done[0]['engine']} ({clock})"
    for heading in (
        "engine",
        "column",
        "wall s",
        "CPU s",
        "tokens/s",
        ratio,
        "value",
    ):
        table.add_column(heading, justify="left" if heading in ("engine", "column") else "right")
    for one in done:
        lines = one["lines"]
        for line in lines:
            table.add_row(
                one["engine"],
                line["column"],
                f"{line['wall']:.1f}",
                f"{line['cpu']:.1f}",
                f"{_tokens(line) / line['wall']:,.0f}",
                f"{base[line['column']] / line[clock]:.1f}",
                f"{line['value']:.3f}",
            )
        whole = {key: sum(line[key] for line in lines) for key in ("wall", "cpu")}
        start = one["start"]
        table.add_row(
            one["engine"],
            "in all",
            f"{whole['wall']:.1f}",
            f"{whole['cpu']:.1f}",
            f"{sum(map(_tokens, lines)) / whole['wall']:,.0f}",
            f"{sum(base.values()) / whole[clock]:.1f}",
            f"start {start['wall']:.0f} s, peak {one['peak']:.1f} GiB",
            end_section=True,
        )
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--model", help="a checkpoint's folder; none: random weights of --shape")
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), default="1m", help="of a model with random weights"
    )
    parser.add_argument("--task", default="muse_mini", help="the task whose questions are asked")
    parser.add_argument("--data-dir", help="the task's data in the layout of MUSE's loader")
    parser.add_argument("--examples", type=int, help="only the first N of each split")
    parser.add_argument("--engines", help="comma-separated, the first is the measure; else all installed")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(work(Job(**json.loads(given.worker)))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        model = given.model or str(random_checkpoint(given.shape, Path(scratch) / given.shape))
        job = Job("", model, given.task, given.data_dir, given.examples, given.dtype, not given.model)
        done = measure(job, given.engines.split(",") if given.engines else installed())
        least = floor(model, done[0]["lines"])
    Console(width=150).print(draw(done))
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, threads: {threads}"
    print(f"{given.model or given.shape} on {given.task}; {where}; torch {torch.__version__}")
    print(f"floor: {least:.1f} s of arithmetic at the machine's matrix rate, nothing shared between prompts")
    if given.json:
        given.json.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
