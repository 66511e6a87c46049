"""Peak memory and speed of unlearning beside plain fine-tuning, on the same rows and from the same weights.

Each is trained in a process of its own: on a CPU the peak is the process's largest resident size, on a GPU
what torch allocated at most. Fine-tuning reads the forget rows alone, as SimNPO without a retain term does;
a method that needs no second model must not need more memory than it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.floor import utilisation
from benchmarks.measure import matrix_rate
from benchmarks.shapes import SHAPES
from benchmarks.subject import random_checkpoint

METHODS = ("finetune", "simnpo", "npo", "simnpo_gdr", "npo_gdr", "npo_klr")
"""What is compared: first plain fine-tuning; with ``_gdr`` a retain row is run beside each forget row."""


@dataclass(frozen=True)
class Line:
    """What one training took."""

    method: str
    peak: float
    """GiB."""
    tokens_per_second: float
    """Target tokens of forget, retain and refusal rows, median over the steps but the first."""
    seconds: float
    """Of the whole call: loading, reference, steps, saving."""


def measure(method: str, model: Path, options: dict[str, Any]) -> Line:
    """Train for a few steps in this process."""
    from muse_eval.mini import corpus
    from muse_eval.unlearning.recipe import configure
    from muse_eval.unlearning.training import output
    from muse_eval.unlearning.training.train import unlearn

    world = corpus.splits()
    count = options.pop("rows")
    texts = {
        name: [" ".join(row["text"] for row in world[f"raw/{name}"]) * 8] for name in ("forget", "retain1")
    }
    tokens = options["max_len"] * count * 8  # characters enough for so many windows
    texts = {name: [some[0][:tokens]] for name, some in texts.items()}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        config = configure(method=method, model=str(model), epochs=1, lr=1e-6, **options)
        made = unlearn(config, texts["forget"], texts["retain1"], Path(scratch) / "out")
        log = output.read_log(made / output.LOG)
    speeds = sorted(line["tokens_per_second"] for line in log[1:] or log)
    peak = largest_resident()
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    return Line(method, peak / 2**30, speeds[len(speeds) // 2], time.perf_counter() - began)


def largest_resident() -> int:
    """Return this process's largest resident size, in bytes; the parent's own peak plays no part in it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def elsewhere(method: str, model: Path, options: dict[str, Any]) -> Line:
    """Measure in a process of its own, which nothing before has given memory."""
    command = [sys.executable, "-m", "benchmarks.training", "--child", method]
    given = ["--checkpoint", str(model), "--options", json.dumps(options)]
    done = subprocess.run([*command, *given], check=True, capture_output=True, text=True)
    return Line(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure each method and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="27m", help="of the random model")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rows", type=int, default=8, help="forget rows, about")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--micro-batch-size", type=int, default=2)
    parser.add_argument("--max-len", type=int, default=256)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--lora")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(asdict(measure(given.child, given.checkpoint, json.loads(given.options)))))
        return
    names = ("rows", "batch_size", "micro_batch_size", "max_len", "dtype", "gradient_checkpointing", "lora")
    options = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    with tempfile.TemporaryDirectory() as scratch:
        model = random_checkpoint(given.shape, Path(scratch) / given.shape)
        lines = [elsewhere(method, model, options) for method in given.methods.split(",")]
    gpu = torch.cuda.is_available()
    rate = matrix_rate("cuda" if gpu else "cpu")
    where = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    table = Table(title=f"{given.shape}, rows of {given.max_len} tokens, batch {given.batch_size}; {where}")
    for title in ("method", "peak GiB", "over the first", "tokens/s", "of the matrix rate", "s in all"):
        table.add_column(title, justify="left" if title == "method" else "right")
    for line in lines:
        more = f"{line.peak - lines[0].peak:+.3f}"
        share = f"{utilisation(SHAPES[given.shape], line.tokens_per_second, rate):.0%}"
        speed = f"{line.tokens_per_second:,.0f}"
        table.add_row(line.method, f"{line.peak:.3f}", more, speed, share, f"{line.seconds:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
