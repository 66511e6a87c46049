"""Stage ``scoring``: each column of MUSE at full size against the floor, and against one at a time.

The floor is the arithmetic at the card's own matrix rate, plus reading all weights once for each new token
at its own memory rate, as if all examples were decoded in one batch.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from benchmarks.floor import Work
from benchmarks.gpu.answers import ordered
from benchmarks.gpu.job import Job, Row, Rows
from benchmarks.gpu.memory import Span, release
from benchmarks.gpu.questions import Ask, Columns, make_columns
from benchmarks.gpu.words import SPECIAL
from benchmarks.plain import OneAtATime
from benchmarks.shapes import Shape
from benchmarks.subject import make_llama
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.engines.loading import LoadOptions, load_model
from muse_eval.types import Generate, Logprobs

COLUMNS = {
    "what": "",
    "examples": "examples",
    "read": "tokens read",
    "new": "new",
    "seconds": "s",
    "tokens_per_second": "tokens/s",
    "floor": "floor, s",
    "times_floor": "× floor",
    "tflops": "TFLOP/s",
    "gbytes": "GB/s of weights",
    "peak": "peak, GiB",
    "alone": "one at a time, s (scaled)",
    "ratio": "×",
    "note": "",
}
EXAMPLES_ALONE = 8
"""Examples that one at a time is measured on."""
WARM_UP = "w1 w2 w3 w4"
GIGA = 1e9


def run(job: Job, rows: Rows) -> dict[str, Any]:
    """Measure start-up, every column and one at a time; return what was scored."""
    columns, tokenizer, told = make_columns(job)
    sizes = replace(job.sizes, vocabulary=max(job.sizes.vocabulary, len(tokenizer)))
    score(job, rows, sizes, columns, tokenizer)
    release()
    rows.attempt("hash and load", partial(load, job, tokenizer, sizes), 20 if job.on_gpu else 0)
    rows.skip("vLLM", "a stage of its own: --only vllm writes all weights to disk and takes minutes")
    return {"questions": told}


def score(job: Job, rows: Rows, sizes: Shape, columns: Columns, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the model and ask it everything, then some of it one at a time; it is gone afterwards."""
    made: list[Any] = []
    if rows.attempt("make the weights on the device", partial(make, job, sizes, made)) is None:
        return
    subject, done = Subject(job, made[0], tokenizer), dict[str, Row]()
    with TransformersEngine(subject.model, tokenizer) as engine:
        rows.attempt("first answers (start-up)", partial(warm_up, subject, engine))
        for name, asks in columns.items():
            row = rows.attempt(name, partial(column, subject, engine, asks))
            done |= {name: row} if row else {}
    if len(done) == len(columns):
        rows.add(whole(list(done.values())))
    with OneAtATime(subject.model, tokenizer) as plain:
        for name, asks in columns.items():
            work = partial(alone, subject, plain, asks, done.get(name))
            rows.attempt(f"{name}, one at a time", work, 15 if job.on_gpu else 0)


def make(job: Job, sizes: Shape, made: list[Any]) -> Row:
    """Make the model's weights where they are used, and leave it in the list."""
    with Span(job.place) as span:
        made.append(make_llama(sizes, job.place, job.dtype, **SPECIAL))
    size = made[0].num_parameters() * job.dtype.itemsize / GIGA
    dtype = str(job.dtype).removeprefix("torch.")
    return {"seconds": span.seconds, "peak": span.peak, "note": f"{size:.3g} GB in {dtype}"}


class Subject:
    """The model that is scored, and what one pass over it costs."""

    def __init__(self, job: Job, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.job, self.model, self.tokenizer = job, model, tokenizer
        self.bytes = model.num_parameters() * job.dtype.itemsize
        self.work = Work(model)

    def length(self, ask: Ask) -> int:
        """Return how many tokens a request has."""
        text = ask.prompt if isinstance(ask, Generate) else ask.text
        return len(self.tokenizer(text, verbose=False).input_ids)

    def shared(self, asks: Sequence[Ask]) -> int:
        """Return how many tokens all prompts begin with."""
        found = [self.tokenizer(ask.prompt).input_ids for ask in asks if isinstance(ask, Generate)]
        pairs = zip(min(found), max(found), strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), min(map(len, found)) - 1)


def warm_up(subject: Subject, engine: TransformersEngine) -> Row:
    """Ask one question of each kind, which loads the kernels."""
    with Span(subject.job.place) as span:
        _answers(engine, [Generate(WARM_UP, 2)])
        _answers(engine, [Logprobs(WARM_UP, moments=True)])
    return {"seconds": span.seconds}


def _answers(engine: TransformersEngine, asks: Sequence[Ask]) -> list[Any]:
    prompts = [ask for ask in asks if isinstance(ask, Generate)]
    texts = [ask for ask in asks if isinstance(ask, Logprobs)]
    return [*ordered(engine.generate(prompts)), *ordered(engine.logprobs(texts))] if asks else []


@dataclass(frozen=True)
class Least:
    """What nobody can leave out of a column."""

    reads: list[int]
    """Tokens of each prompt or text."""
    news: list[int]
    """New tokens of each answer."""
    operations: float
    passes: int
    """Times that all weights are read to decode."""
    seconds: float


def least(subject: Subject, asks: Sequence[Ask]) -> Least:
    """Reckon a column's floor."""
    rates = subject.job.floor
    reads = [subject.length(ask) for ask in asks]
    # Random weights go on to the last token, and end at no stop.
    news = [ask.max_tokens if isinstance(ask, Generate) else 0 for ask in asks]
    if not any(news):
        operations = subject.work.texts(reads)
        return Least(reads, news, operations, 0, operations / rates["operations"])
    shared, passes = subject.shared(asks), max(news) - 1
    operations = subject.work.answers(list(zip(reads, news, strict=True)), shared)
    prefill = subject.work.answers([(length, 1) for length in reads], shared)
    decoding = max((operations - prefill) / rates["operations"], passes * subject.bytes / rates["bytes"])
    return Least(reads, news, operations, passes, prefill / rates["operations"] + decoding)


def column(subject: Subject, engine: TransformersEngine, asks: Sequence[Ask]) -> Row:
    """Answer a column's questions, all together."""
    with Span(subject.job.place) as span:
        _answers(engine, asks)
    floor = least(subject, asks)
    read, new = sum(floor.reads), sum(floor.news)
    return {
        "examples": len(asks),
        "read": read,
        "new": new,
        "seconds": span.seconds,
        "tokens_per_second": (read + new) / span.seconds,
        "floor": floor.seconds,
        "times_floor": span.seconds / floor.seconds,
        "tflops": floor.operations / span.seconds / 1e12,
        "gbytes": floor.passes * subject.bytes / span.seconds / GIGA or None,
        "peak": span.peak,
    }


def whole(done: Sequence[Row]) -> Row:
    """Add the columns up: from an engine that is ready to its last answer."""
    sums = {key: sum(row[key] for row in done) for key in ("examples", "read", "new", "seconds", "floor")}
    peaks = [row["peak"] for row in done if row["peak"] is not None]
    return {
        "what": "all columns",
        **sums,
        "tokens_per_second": (sums["read"] + sums["new"]) / sums["seconds"],
        "times_floor": sums["seconds"] / sums["floor"],
        "peak": max(peaks) if peaks else None,
    }


def alone(subject: Subject, engine: OneAtATime, asks: Sequence[Ask], ours: Row | None) -> Row:
    """Answer a few examples one at a time, as the published code works, and scale up to all."""
    # Evenly spread, since lengths may go with the order.
    some = asks[:: max(1, len(asks) // EXAMPLES_ALONE)][:EXAMPLES_ALONE]
    with Span(subject.job.place) as span:
        _answers(engine, some)
    scaled = span.seconds * len(asks) / len(some)
    ratio = scaled / ours["seconds"] if ours else None
    return {
        "examples": len(some),
        "seconds": span.seconds,
        "alone": scaled,
        "ratio": ratio,
        "peak": span.peak,
    }


def load(job: Job, tokenizer: PreTrainedTokenizerBase, sizes: Shape) -> Row:
    """Save a model cut to one layer, then hash and load it; what the whole would take is scaled by bytes."""
    model = make_llama(replace(sizes, layers=1), job.place, job.dtype, **SPECIAL)
    layer = sum(weight.numel() for weight in model.model.layers[0].parameters())
    part = model.num_parameters()
    whole = (part + (sizes.layers - 1) * layer) / part
    with tempfile.TemporaryDirectory(dir=job.out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        del model
        release()
        found = find_checkpoint(folder)
        with Span(job.place) as hashing:
            assert found.digest
        dtype = str(job.dtype).removeprefix("torch.")
        with Span(job.place) as loading:
            load_model(found, LoadOptions(dtype=dtype, device=job.device))
    return {
        "seconds": (hashing.seconds + loading.seconds) * whole,
        "note": f"scaled by bytes from one layer ({size / GIGA:.3g} GB, in the page cache): "
        f"hash {hashing.seconds * whole:.1f} s, load {loading.seconds * whole:.1f} s",
    }
