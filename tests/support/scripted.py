"""An engine with scripted answers: it counts what it was asked, and can crash after some batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from muse_eval.types import Generate, Generation, Logprobs, Request, TokenLogprobs, Truncate

A = TypeVar("A", Generate, Logprobs)
B = TypeVar("B")


class CrashError(Exception):
    """What the scripted engine raises when it is told to break off."""


def write(ask: Generate) -> Generation:
    """Answer a prompt with its words backwards."""
    return Generation(" ".join(reversed(ask.prompt.split()))[: ask.max_tokens])


def rate(ask: Logprobs) -> TokenLogprobs:
    """Score a text with log-probabilities drawn from its digest, one a word."""
    seed = int.from_bytes(hashlib.sha256(ask.text.encode()).digest()[:8], "big")
    size = len(ask.text.split())
    values = -np.random.default_rng(seed).gamma(2.0, size=(3, size)).astype(np.float32)
    return TokenLogprobs(values[0], values[1], -values[2]) if ask.moments else TokenLogprobs(values[0])


def cut(ask: Truncate) -> str:
    """Cut a text to its first words, the beginning counted as one."""
    return " ".join(ask.text.split()[: ask.max_tokens - 1])


class ScriptedEngine:
    """Answers by function of the request alone, in batches of a fixed size."""

    def __init__(
        self,
        id: str = "scripted 1",
        *,
        batch: int = 2,
        crash_after: int | None = None,
        write: Callable[[Generate], Generation] = write,
        rate: Callable[[Logprobs], TokenLogprobs] = rate,
    ) -> None:
        self.id, self.asked, self.open = id, list[Request](), True
        self._batch, self._left = batch, crash_after
        self._write, self._rate = write, rate

    @property
    def provenance(self) -> Mapping[str, Any]:
        """A made-up model."""
        return {"model": "scripted", "revision": None, "weights": self.id}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open = False

    def generate(self, asks: Sequence[Generate]) -> Iterator[list[tuple[int, Generation]]]:
        """Answer the prompts, the last first: the order of batches must not matter."""
        yield from self._batches(asks, self._write)

    def logprobs(self, asks: Sequence[Logprobs]) -> Iterator[list[tuple[int, TokenLogprobs]]]:
        """Score the texts, the last first."""
        yield from self._batches(asks, self._rate)

    def truncate(self, asks: Sequence[Truncate]) -> list[str]:
        """Cut the texts, in order and at once."""
        self.asked += asks
        return [cut(ask) for ask in asks]

    def _batches(self, asks: Sequence[A], answer: Callable[[A], B]) -> Iterator[list[tuple[int, B]]]:
        order = list(reversed(range(len(asks))))
        for start in range(0, len(order), self._batch):
            if self._left == 0:
                raise CrashError
            if self._left is not None:
                self._left -= 1
            indices = order[start : start + self._batch]
            self.asked += [asks[index] for index in indices]
            yield [(index, answer(asks[index])) for index in indices]
