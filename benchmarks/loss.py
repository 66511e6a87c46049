"""Memory and CPU time of a training step's losses, from chunks of logits and from whole ones.

A step is the forward and backward pass of SimNPO with a retain term over random rows, by a model of two
layers in float32. Every peak is over what model, frozen target and gradients take, and in a process of its
own, so that none hides another's; there malloc gives back at once what is freed. Times are of one process:
chunks and whole logits take turns.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.measure import Meter, resident
from benchmarks.shapes import Shape
from benchmarks.subject import make_llama
from muse_eval import plugins
from muse_eval.unlearning import heads, rows
from muse_eval.unlearning.objectives import Step, forget_loss, retain_loss
from muse_eval.unlearning.recipe import configure
from muse_eval.unlearning.training.memory import Means, reckon
from muse_eval.unlearning.training.sizing import sizes_of

VOCABULARIES = (4_096, 32_768, 131_072)
METHODS = ("simnpo_gdr", "simnpo_klr")
TOKENS, TIMED, LENGTH = 4_096, 1_024, 512
"""Of the forget rows, and as many to retain, where the peak is taken and where the time is; of a row."""
HEADINGS = "method", "vocabulary", "MiB, chunks", "reckoned", "whole logits", "CPU s", "CPU s, whole", "×"
MIB = 2**20


class Subject:
    """A model to train, its frozen target, and how a step is taken."""

    def __init__(self, vocabulary: int, tokens: int, hidden: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.vocabulary = vocabulary
        sizes = Shape(hidden, layers=2, heads=hidden // 32, inner=3 * hidden, vocabulary=vocabulary)
        place = torch.device("cpu"), torch.float32
        self.model, self.target = make_llama(sizes, *place), make_llama(sizes, *place).requires_grad_(False)
        self.batch = {name: self.drawn(tokens) for name in ("forget", "retain")}

    def drawn(self, tokens: int) -> rows.Batch:
        """Draw rows."""
        length = min(tokens, LENGTH)
        return rows.pad(torch.randint(self.vocabulary, (tokens // length, length)).tolist())

    def step(self, method: str, whole: bool, batch: dict[str, rows.Batch] | None = None) -> None:
        """Add a step's gradients to those that there are."""
        _, form, term = plugins.method(method)

        @contextmanager
        def lent() -> Iterator[nn.Module]:
            yield self.target

        given = Step(self.model, lent, batch or self.batch, form.params(), seed=0)
        with ExitStack() as held:
            for model in () if whole else (self.model, self.target):
                held.enter_context(heads.readable(model))
            loss = forget_loss(form, given) + retain_loss(form, term, given)
        loss.backward()


def peak(method: str, whole: bool, vocabulary: int, tokens: int) -> float:
    """Return the MiB that a step takes over model, target and gradients."""
    subject = Subject(vocabulary, tokens, hidden=32)
    subject.step(method, whole, {name: subject.drawn(8) for name in subject.batch})
    before = resident()
    with Meter() as meter:
        subject.step(method, whole)
    return (meter.peak - before) / MIB


def reckoned(method: str, vocabulary: int, tokens: int) -> float:
    """Return the MiB that a training is reckoned to take for such a step's activations and logits."""
    subject = Subject(vocabulary, tokens, hidden=32)
    sizes = sizes_of(subject.model, configure(method=method, model="made here"))
    means = Means("float32", "adamw", False, tokens, min(tokens, LENGTH), on_gpu=False)
    return reckon(sizes, means)["activations"] / MIB


def elsewhere(*given: object) -> float:
    """Take a peak in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.loss", "--peak", json.dumps(given)]
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)


def seconds(method: str, vocabulary: int, tokens: int, hidden: int, turns: int) -> tuple[float, float]:
    """Return the CPU seconds of a step from chunks and from whole logits, each the median of its turns."""
    subject, taken = Subject(vocabulary, tokens, hidden), ([], [])  # type: ignore[var-annotated]
    for _ in range(turns):
        for whole in (False, True):
            with Meter() as meter:
                subject.step(method, whole)
            taken[whole].append(meter.cpu)
    chunks, plain = (sorted(each)[turns // 2] for each in taken)
    return chunks, plain


def main() -> None:
    """Print both tables, or take one peak for the process that asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of the forget rows; as many to retain")
    parser.add_argument("--timed", type=int, default=TIMED, help="tokens where time is taken, not memory")
    parser.add_argument("--hidden", type=int, default=512, help="size of the model whose time is taken")
    parser.add_argument("--turns", type=int, default=3, help="steps of each kind whose time is taken")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(peak(*json.loads(given.peak)))
        return
    tokens = f"{given.tokens:,} + {given.tokens:,} tokens (time: {given.timed:,} + {given.timed:,})"
    table = Table(title=f"a step of {tokens}, float32")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for method in METHODS:
        for vocabulary in VOCABULARIES:
            peaks = [elsewhere(method, whole, vocabulary, given.tokens) for whole in (False, True)]
            ours, plain = seconds(method, vocabulary, given.timed, given.hidden, given.turns)
            figures = (
                f"{peaks[0]:,.0f}",
                f"{reckoned(method, vocabulary, given.tokens):,.0f}",
                f"{peaks[1]:,.0f}",
                f"{ours:.1f}",
                f"{plain:.1f}",
                f"{ours / plain:.2f}",
            )
            table.add_row(method, f"{vocabulary:,}", *figures)
    Console(width=110).print(table)
    print(f"logits at a time: {heads.BOUNDS['cpu']:,}, {heads.BOUNDS['cpu'] * 4 / MIB:.0f} MiB")


if __name__ == "__main__":
    main()
