"""Stage ``training``: tokens a second, share of the card's matrix rate and peak memory of six steps each.

Every method starts from fresh random weights, goes through muse-eval's own ``unlearn`` and is stopped after
its steps, before a checkpoint of many gigabytes would be written. What does not fit the card is cut in
layers, and the row says so with its reckoning.
"""

import gc
import random
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.floor import utilisation
from benchmarks.gpu.job import Job, Row, Rows
from benchmarks.gpu.memory import Span, held, release
from benchmarks.gpu.words import SPECIAL, draw, word_tokenizer
from benchmarks.shapes import Shape
from benchmarks.subject import make_llama
from muse_eval.unlearning.recipe import configure
from muse_eval.unlearning.training import memory
from muse_eval.unlearning.training.fitting import SHARE
from muse_eval.unlearning.training.train import unlearn

COLUMNS = {
    "what": "",
    "layers": "layers",
    "optimizer": "optimizer",
    "tokens_per_second": "tokens/s",
    "utilisation": "of the matrix rate",
    "peak": "peak, GiB",
    "reckoned": "reckoned, GB",
    "seconds": "s in all",
    "note": "",
}
STEPS = 6
BATCH = 2
GIGA = 1e9


@dataclass(frozen=True)
class Subject:
    """A method as it is measured."""

    method: str
    lora: str | None = None

    @property
    def name(self) -> str:
        """What its row is called."""
        return f"{self.method}, LoRA r=16" if self.lora else self.method


SUBJECTS = (
    Subject("finetune"),
    Subject("simnpo_gdr"),
    Subject("npo_gdr"),
    Subject("rmu"),
    Subject("simnpo_gdr", "r=16"),
)


def run(job: Job, rows: Rows) -> dict[str, Any]:
    """Train with every method, then look at what a finished training leaves in memory."""
    length = 64 if job.small else 2_048
    for subject in SUBJECTS:
        if subject.lora and find_spec("peft") is None:
            rows.skip(subject.name, "peft is not installed: pip install peft")
            continue
        rows.attempt(subject.name, partial(measure, job, subject, length), 15 if job.on_gpu else 0)
    rows.attempt("hand-over", partial(hand_over, job, length), 20 if job.on_gpu else 0)
    return {"steps": STEPS, "batch": BATCH, "tokens_a_row": length}


# ── what fits ────────────────────────────────────────────────────────────────────────────────────
def optimizer() -> str:
    """Return AdamW with its states in 8 bits where that is installed."""
    return "adamw_8bit" if find_spec("bitsandbytes") is not None and torch.cuda.is_available() else "adamw"


def reckon(sizes: Shape, subject: Subject, optim: str, item: int, length: int) -> dict[str, float]:
    """Reckon the bytes that a training takes, as muse-eval does before it starts one.

    Args:
        sizes: of the model.
        subject: fine-tuning and the losses train every weight, RMU three matrices beside a frozen copy of
            the model, LoRA its adapters in float32.
        optim: AdamW, or its states in 8 bits.
        item: bytes of a weight.
        length: tokens of a row; gradient checkpointing is on.
    """
    rmu, trained = subject.method == "rmu", sizes.weights
    if rmu:
        trained = 3 * sizes.hidden * sizes.inner
    if subject.lora:
        trained = 16 * sizes.layers * (11 * sizes.hidden + 3 * sizes.inner)
    known = memory.Sizes(
        weights=sizes.weights,
        trained=trained,
        embedding=0 if rmu or subject.lora else sizes.embedding,
        hidden=sizes.hidden,
        inner=sizes.inner,
        layers=sizes.layers,
        vocabulary=sizes.vocabulary,
        adapters=subject.lora is not None,
        frozen=rmu,
        item=item,
        rows=1 if subject.method == "finetune" else 2,
    )
    dtype = "bfloat16" if item == 2 else "float32"
    return memory.reckon(
        known, memory.Means(dtype, optim, checkpointing=True, tokens=BATCH * length, longest=length)
    )


def fit(sizes: Shape, subject: Subject, optim: str, item: int, length: int, room: float) -> Shape:
    """Cut layers, two at least staying, until the reckoning fits the memory, in bytes.

    Raises:
        MemoryError: two layers are too many.
    """
    for layers in range(sizes.layers, 1, -1):
        cut = replace(sizes, layers=layers)
        if sum(reckon(cut, subject, optim, item, length).values()) <= room:
            return cut
    raise MemoryError(f"not even two layers of this shape fit {room / GIGA:.0f} GB; take a smaller --shape")


# ── one method ───────────────────────────────────────────────────────────────────────────────────
class Enough(Exception):  # noqa: N818 - nothing went wrong
    """The steps that are measured are done."""


def measure(job: Job, subject: Subject, length: int) -> Row:
    """Train for some steps; the first, which warms up, does not count."""
    # 16-bit states and adapters are small, and bitsandbytes is a risk of its own.
    optim = "adamw" if subject.lora else optimizer()
    item = job.dtype.itemsize
    sizes, reckoned = job.sizes, None
    if job.on_gpu:
        room = SHARE * torch.cuda.mem_get_info()[0]
        sizes = fit(job.sizes, subject, optim, item, length, room)
        reckoned = reckon(sizes, subject, optim, item, length)
    model = make_llama(sizes, job.place, job.dtype, **SPECIAL)
    lines: list[Mapping[str, Any]] = []

    def log(line: Mapping[str, Any]) -> None:
        lines.append(line)
        if len(lines) == STEPS:
            raise Enough

    with tempfile.TemporaryDirectory(dir=job.out) as scratch, Span(job.place) as span, suppress(Enough):
        train(job, subject, optim, length, model, Path(scratch) / "out", log=log)
    speeds = sorted(line["tokens_per_second"] for line in lines[1:])
    speed = speeds[len(speeds) // 2]
    rate = job.floor["operations"]
    # Under adapters no weight has a gradient; RMU runs a part of the model only.
    share = utilisation(sizes, speed, rate, 4 if subject.lora else 6) if subject.method != "rmu" else None
    parts = [f"{name} {size / GIGA:.1f}" for name, size in (reckoned or {}).items() if size]
    return {
        "layers": f"{sizes.layers} of {job.sizes.layers}",
        "optimizer": optim,
        "tokens_per_second": speed,
        "utilisation": share,
        "peak": span.peak,
        "reckoned": sum(reckoned.values()) / GIGA if reckoned else None,
        "seconds": span.seconds,
        "note": " + ".join(parts),
    }


def train(job: Job, subject: Subject, optim: str, length: int, model: Any, out: Path, **log: Any) -> None:
    """Unlearn a loaded model on made-up rows, in one epoch that has a step more than is measured."""
    rng, vocabulary = random.Random(0), job.sizes.vocabulary
    config = configure(
        method=subject.method,
        model="made here",
        epochs=1,
        lr=1e-6,
        batch_size=BATCH,
        micro_batch_size=BATCH,
        max_len=length,
        dtype=_precision(job),
        gradient_checkpointing=job.on_gpu,
        optim=optim,
        lora=subject.lora,
    )
    forget, retain = (draw(rng, vocabulary, length * BATCH * (STEPS + 1)) for _ in range(2))
    unlearn(config, [forget], [retain], out, model=model, tokenizer=word_tokenizer(vocabulary), **log)


def _precision(job: Job) -> str:
    """Return the precision whose weights are as they were made: nothing else is kept beside them."""
    if not job.on_gpu:
        return "float32"
    if job.dtype is not torch.bfloat16:
        raise RuntimeError("this card has no bfloat16, in which the weights would be trained")
    return "bfloat16"


# ── what stays ───────────────────────────────────────────────────────────────────────────────────
def hand_over(job: Job, length: int) -> Row:
    """Train a model of two layers to the end, drop it, and tell what stays before and after a collection.

    Without automatic collections, whose moment nobody can foresee: it is what a scoring that follows at once
    may meet.
    """
    release()
    before = held(job.place)
    model = make_llama(replace(job.sizes, layers=2), job.place, job.dtype, **SPECIAL)
    own = held(job.place) - before
    gc.disable()
    try:
        with tempfile.TemporaryDirectory(dir=job.out) as scratch, Span(job.place) as span:
            subject = Subject("simnpo_gdr")
            train(job, subject, "adamw", length, model, Path(scratch) / "out")
        del model
        left = held(job.place) - before
        gc.collect()
        after = held(job.place) - before
    finally:
        gc.enable()
    mib = 2**20
    return {
        "layers": f"2 of {job.sizes.layers}",
        "optimizer": "adamw",
        "peak": span.peak,
        "seconds": span.seconds,
        "held": left / mib,
        "held_after_collection": after / mib,
        "note": f"the model's weights take {own / mib:,.0f} MiB; when unlearn has returned {left / mib:,.0f} "
        f"MiB are held, after gc.collect() {after / mib:,.0f}",
    }
