"""The one cache of answers, keyed by everything that can change an answer; resuming is its consequence.

Layout: ``cache/<engine>/<process>.jsonl``. A process only ever appends to a file of its own, one line a
finished batch, so a kill loses at most the batch in flight, two processes cannot corrupt each other, and no
lock is needed on any file system. A line carries a checksum; one that fails it is skipped with a warning.
"""

import base64
import errno
import os
import shlex
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from muse_eval.config import canonical_json, fingerprint
from muse_eval.errors import UserError, listed
from muse_eval.reading import CORPUS_BYTES, expect, parse_json, read_bytes
from muse_eval.types import (
    Answer,
    Batches,
    Engine,
    Generate,
    Generation,
    GradientNorm,
    Logprobs,
    Request,
    TakesGradients,
    TokenLogprobs,
    Truncate,
    Warn,
)

Progress = Callable[[int, int], None]
"""Called with (answers there, answers wanted)."""

MOST_NAMED = 20
"""Damaged lines of a file that a command to cut them out names; where there are more the file has to go."""


LATER = ("temperature", "top_p", "seed", "sample", "ranks", "after")
"""Fields that came after answers were stored: at their defaults they are no part of a key."""


def request_key(request: Request) -> str:
    """Return the digest of what is asked; the example's name is no part of it."""
    defaults = {one.name: one.default for one in fields(request)}
    asked = {
        name: value
        for name, value in asdict(request).items()
        if name != "name" and not (name in LATER and value == defaults[name])
    }
    return fingerprint({"kind": type(request).__name__, **asked})


@dataclass(frozen=True)
class Answers:
    """The answers to some requests, in their order."""

    values: list[Answer]
    seconds: float
    """Engine seconds spent on them, whichever process spent them."""
    asked: int
    """How many this call had to ask the engine."""


class Store:
    """Answers on disk under ``root``; without a root (``--no-cache``) in memory only."""

    def __init__(self, root: Path | None, warn: Warn) -> None:
        self._root, self._warn = root, warn

    def ask(self, engine: Engine, requests: Sequence[Request], progress: Progress | None = None) -> Answers:
        """Answer requests from the cache, asking the engine only for what is missing.

        Each finished batch is written before the next begins. Equal requests are asked once.
        """
        keys = [request_key(request) for request in requests]
        kept = EngineAnswers(self._root, engine.id, self._warn)
        wanted = dict(zip(keys, requests, strict=True))
        missing = {key: request for key, request in wanted.items() if key not in kept.answers}
        done = len(wanted) - len(missing)
        if missing and progress is not None:
            progress(done, len(wanted))
        with kept:
            for batch in _batches(engine, missing):
                kept.add(batch)
                done += len(batch.answers)
                if progress is not None:
                    progress(done, len(wanted))
        return Answers(
            values=[kept.answers[key] for key in keys],
            seconds=sum(kept.seconds[key] for key in wanted),
            asked=len(missing),
        )

    def missing(self, engine: Engine, groups: Mapping[str, Sequence[Request]]) -> dict[str, tuple[int, int]]:
        """Count, group by group, the different requests that the engine would have to be asked, and all."""
        known = EngineAnswers(self._root, engine.id, lambda _: None).answers
        wanted = {name: {request_key(one) for one in requests} for name, requests in groups.items()}
        return {name: (len(keys - known.keys()), len(keys)) for name, keys in wanted.items()}


@dataclass(frozen=True)
class _Batch:
    answers: dict[str, Answer]
    seconds: float


def _batches(engine: Engine, missing: dict[str, Request]) -> Iterator[_Batch]:
    """Put the missing requests to the engine, one kind after the other."""
    cuts = {key: ask for key, ask in missing.items() if isinstance(ask, Truncate)}
    prompts = {key: ask for key, ask in missing.items() if isinstance(ask, Generate)}
    texts = {key: ask for key, ask in missing.items() if isinstance(ask, Logprobs)}
    gradients = {key: ask for key, ask in missing.items() if isinstance(ask, GradientNorm)}
    if cuts:
        yield from _timed(list(cuts), iter([list(enumerate(engine.truncate(list(cuts.values()))))]))
    if prompts:
        yield from _timed(list(prompts), engine.generate(list(prompts.values())))
    if texts:
        yield from _timed(list(texts), engine.logprobs(list(texts.values())))
    if gradients:
        assert isinstance(engine, TakesGradients)
        yield from _timed(list(gradients), engine.gradient_norms(list(gradients.values())))


def _timed(keys: list[str], batches: Batches[Answer]) -> Iterator[_Batch]:
    clock = time.perf_counter()
    for batch in batches:
        yield _Batch({keys[index]: answer for index, answer in batch}, time.perf_counter() - clock)
        clock = time.perf_counter()


class EngineAnswers:
    """All stored answers of one engine, and the file this process adds to."""

    def __init__(self, root: Path | None, engine_id: str, warn: Warn) -> None:
        self.answers: dict[str, Answer] = {}
        self.seconds: dict[str, float] = {}
        self._engine_id = engine_id
        self._folder = None if root is None else root / fingerprint(engine_id)[:16]
        self._file: Any = None
        self._judged: set[str] = set()
        if self._folder is not None and self._folder.is_dir():
            for path in sorted(self._folder.glob("*.jsonl")):
                self._read(path, warn)
        self._forget_those_of_nan()

    def __enter__(self) -> "EngineAnswers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, batch: _Batch) -> None:
        """Keep a finished batch: one line, written at once."""
        share = batch.seconds / len(batch.answers)
        self.answers |= batch.answers
        self.seconds |= dict.fromkeys(batch.answers, share)
        if self._folder is None:
            return
        body = canonical_json(
            {
                "engine": self._engine_id,
                "seconds": batch.seconds,
                "answers": {key: _encode(answer) for key, answer in batch.answers.items()},
            }
        )
        line = f"{zlib.crc32(body.encode()):08x} {body}\n"
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = (self._folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl").open(
                    "ab", buffering=0
                )
            if self._file.write(line.encode()) < len(line.encode()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise UserError(
                f"cannot write to the cache {self._folder} ({error.strerror}); free some space or give "
                "another --results, then run the same command again: what is written is kept"
            ) from None

    def _read(self, path: Path, warn: Warn) -> None:
        try:
            lines = read_bytes(path, "cache file", CORPUS_BYTES).split(b"\n")
        except UserError as error:
            warn(f"{error}; its answers are asked again")
            return
        damaged = []
        for number, line in enumerate(lines, 1):
            if line:
                try:
                    self._take(line)
                except (UserError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
                    damaged.append(number)
        if damaged:
            warn(_damage(path, damaged))

    def _take(self, line: bytes) -> None:
        checksum, _, body = line.partition(b" ")
        if f"{zlib.crc32(body):08x}".encode() != checksum:
            raise ValueError("checksum")
        batch = expect(parse_json(body, "line"), dict, "line")
        if batch["engine"] != self._engine_id:
            raise ValueError("engine")
        answers = {key: _decode(value) for key, value in batch["answers"].items()}
        self.answers |= answers
        self.seconds |= dict.fromkeys(answers, batch["seconds"] / len(answers))
        self._judged |= {key for key, value in batch["answers"].items() if _is_judged(value)}

    def _forget_those_of_nan(self) -> None:
        """Drop answers of NaN logits, which version 0.1 stored like any other: all are the same bare text."""
        written = {key for key, one in self.answers.items() if isinstance(one, Generation)}
        if not written & self._judged:
            for key in written:
                del self.answers[key]


def _damage(path: Path, lines: Sequence[int]) -> str:
    """Say which lines of a cache file are damaged, and what takes them out of it."""
    few = len(lines) <= MOST_NAMED
    one = len(lines) == 1
    cure = f"sed -i '{';'.join(f'{number}d' for number in lines)}'" if few else "rm"
    return (
        f"cache file {path}, {listed('line', lines)}, {'is' if one else 'are'} damaged; "
        f"{'its' if one else 'their'} answers are asked again; to be rid of {'it' if one else 'them'}: "
        f"{cure} {shlex.quote(str(path))}"
    )


_ARRAYS = {"logprobs": "<f4", "mean": "<f4", "std": "<f4", "ranks": "<i4"}
"""How each array of an answer is stored."""


def _encode(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"cut": answer}
    if isinstance(answer, float):
        # As text: JSON has no NaN.
        return {"norm": repr(answer)}
    if isinstance(answer, Generation):
        told = {"defined": answer.defined} if _is_bare(answer.text) or not answer.defined else {}
        return {"text": answer.text, "truncated": answer.truncated, **told}
    packed = {
        name: base64.b64encode(array.astype(kind).tobytes()).decode()
        for name, kind in _ARRAYS.items()
        if (array := getattr(answer, name)) is not None
    }
    return {**packed, "truncated": answer.truncated}


def _is_bare(text: str) -> bool:
    """Tell whether a text may be the first token of a vocabulary over and over, which NaN logits give."""
    return len(set(text)) <= 1


def _is_judged(value: dict[str, Any]) -> bool:
    """Tell whether an answer says that its logits were finite, or is no bare text, which shows it."""
    return "text" in value and ("defined" in value or not _is_bare(str(value["text"])))


def _decode(value: dict[str, Any]) -> Answer:
    if "cut" in value:
        return str(value["cut"])
    if "norm" in value:
        return float(value["norm"])
    if "text" in value:
        return Generation(str(value["text"]), bool(value["truncated"]), bool(value.get("defined", True)))
    arrays = {
        name: np.frombuffer(base64.b64decode(value[name]), dtype=kind)
        for name, kind in _ARRAYS.items()
        if name in value
    }
    return TokenLogprobs(arrays.pop("logprobs"), truncated=bool(value["truncated"]), **arrays)


def engine_of(folder: Path) -> str:
    """Return the engine id that a folder's first sound line names."""
    for path in sorted(folder.glob("*.jsonl")):
        try:
            lines = read_bytes(path, most=CORPUS_BYTES).split(b"\n")
        except UserError:
            continue
        for line in lines:
            try:
                return expect(parse_json(line.partition(b" ")[2], "line"), str, "line", "engine")
            except UserError:
                continue
    return "unknown"
