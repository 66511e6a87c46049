"""Compares two engines on the same model and questions: log-probs, answers, columns."""

import argparse
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve import serve
from muse_eval.config import RunConfig
from muse_eval.engines import ModelSource, choose_engine, open_engine
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.engines.loading import load_config
from muse_eval.scoring import Plan
from muse_eval.scoring.answers import Store
from muse_eval.scoring.plan import plan
from muse_eval.types import Answer, Context, Generation, Reference, TokenLogprobs


@dataclass(frozen=True)
class ColumnParity:
    """A column's value by each engine, and how many of its answers are the same."""

    name: str
    first: float
    second: float
    alike: int
    answers: int
    """Generated ones."""


@dataclass(frozen=True)
class Parity:
    """How far two engines are apart."""

    logprob: float
    """The largest difference of a token's log-probability, in nats."""
    columns: tuple[ColumnParity, ...]


def compare(
    model: str,
    first: str,
    second: str,
    *,
    task: str,
    data_dir: Path | None = None,
    limit: int | None = None,
    server: Mapping[str, Any] | None = None,
) -> Parity:
    """Ask two engines all of a task's questions, in float32.

    Args:
        model: a checkpoint's folder.
        first: an engine.
        second: another one.
        task: the task whose questions are asked.
        data_dir: its data.
        limit: only the first examples of each split.
        server: fields of ``ModelSource`` for the engine ``server``.
    """
    planned = plan(
        RunConfig(
            model=model, task=task, data_dir=data_dir, limit=limit, settings={"privleak.moments": False}
        )
    )
    answers = [_answers(model, engine, planned, server or {}) for engine in (first, second)]
    apart, columns = 0.0, []
    for column in planned.columns:
        one, other = (found[column.name] for found in answers)
        pairs = list(zip(one, other, strict=True))
        texts = [
            (a.text, b.text) for a, b in pairs if isinstance(a, Generation) and isinstance(b, Generation)
        ]
        for a, b in pairs:
            if isinstance(a, TokenLogprobs) and isinstance(b, TokenLogprobs):
                apart = max(apart, float(np.abs(a.logprobs - b.logprobs).max()))
        context = Context(resamples=9, reference=Reference("published", "", {"Min-40%": 0.5}))
        values = [
            column.metric.score(column.splits, found, column.params, context).value for found in (one, other)
        ]
        assert values[0] is not None
        assert values[1] is not None
        alike = sum(a == b for a, b in texts)
        columns.append(ColumnParity(column.name, values[0], values[1], alike, len(texts)))
    return Parity(apart, tuple(columns))


def _answers(model: str, name: str, planned: Plan, server: Mapping[str, Any]) -> dict[str, list[Answer]]:
    source = ModelSource(model, fallbacks=planned.task.tokenizers, dtype="float32")
    if name == "server":
        source = ModelSource(tokenizer=model, **server)
    choice = choose_engine(name, {}, base_url=source.base_url)
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_engine(choice, source, asks=planned.requests()) as engine,
    ):
        store = Store(Path(scratch), lambda _: None)
        return {column.name: store.ask(engine, column.requests).values for column in planned.columns}


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--engines", default="hf,vllm", help="two, comma-separated; a server is started")
    given = parser.parse_args()
    first, second = given.engines.split(",")
    model = given.model
    with ExitStack() as stack:
        server = {}
        if "server" in (first, second):
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "server.log"
            context = load_config(find_checkpoint(model)).max_position_embeddings
            running = stack.enter_context(serve(Path(model), log, name="model", context=context))
            server = {"model": "model", "base_url": running.base_url, "revision": "parity"}
        found = compare(model, first, second, task=given.task, data_dir=given.data_dir, server=server)
    print(f"{first} against {second}: log-probs of a token at most {found.logprob:.1e} apart")
    for column in found.columns:
        same = f"{column.alike} of {column.answers} answers the same" if column.answers else ""
        print(f"{column.name}: {column.first:.4f} {column.second:.4f}  {same}")


if __name__ == "__main__":
    main()
