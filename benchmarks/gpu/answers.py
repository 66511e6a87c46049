"""What an engine answers to the questions of the exactness stage, and how far two sets of answers agree."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.words import draw, ids
from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.types import Generate, Logprobs

TOLERANCE = 1e-4
"""Nats by which log-probabilities may differ in float32; logits within which two tokens count as tied."""


@dataclass(frozen=True)
class Questions:
    """Prompts, prompts that share their beginning, and texts to score."""

    prompts: list[str]
    shared: list[str]
    texts: list[str]
    new: int
    """Tokens of an answer."""

    def first(self, count: int) -> "Questions":
        """Keep the first so many of each kind."""
        return Questions(self.prompts[:count], self.shared[:count], self.texts[:count], self.new)


def make_questions(vocabulary: int, count: int, longest: int, new: int) -> Questions:
    """Draw ``count`` prompts, as many that share a third of ``longest``, and as many texts."""
    rng = random.Random(0)
    lengths = [1 + (longest - 1) * place // max(1, count - 1) for place in range(count)]
    rng.shuffle(lengths)
    beginning = draw(rng, vocabulary, max(40, longest // 3))
    return Questions(
        [draw(rng, vocabulary, length) for length in lengths],
        [f"{beginning} {draw(rng, vocabulary, 1 + length % 23)}" for length in lengths],
        [draw(rng, vocabulary, 1 + length) for length in lengths],
        new,
    )


@dataclass(frozen=True)
class Answers:
    """Answers in the questions' order."""

    texts: dict[str, list[str]]
    """``prompts``, ``shared``, and ``stopped``: the first ones once more, each with a stop string."""
    scores: list[np.ndarray]

    def first(self, count: int) -> "Answers":
        """Keep the answers to the first so many questions of each kind."""
        return Answers({kind: texts[:count] for kind, texts in self.texts.items()}, self.scores[:count])


class CountingEngine(TransformersEngine):
    """Counts how often memory ran out."""

    ran_out = 0

    def _release(self) -> None:
        self.ran_out += 1
        super()._release()


def answer(
    engine: TransformersEngine, questions: Questions, stops: Sequence[str], size: int | None = None
) -> Answers:
    """Put all questions to an engine, ``size`` at a time; None: as many as it likes."""

    def groups(asks: list[Any]) -> Iterator[list[Any]]:
        step = size or max(1, len(asks))
        yield from (asks[start : start + step] for start in range(0, len(asks), step))

    prompts, new = questions.prompts, questions.new
    asked = {
        "prompts": [Generate(prompt, new) for prompt in prompts],
        "shared": [Generate(prompt, new) for prompt in questions.shared],
        "stopped": [Generate(prompt, new, (stop,)) for prompt, stop in zip(prompts, stops, strict=False)],
    }
    texts = {
        kind: [found.text for group in groups(asks) for found in ordered(engine.generate(group))]
        for kind, asks in asked.items()
    }
    scored = groups([Logprobs(text) for text in questions.texts])
    return Answers(texts, [found.logprobs for group in scored for found in ordered(engine.logprobs(group))])


def ordered(batches: Any) -> list[Any]:
    """Return an engine's answers in the order of what was asked."""
    found = dict(pair for batch in batches for pair in batch)
    return [found[index] for index in range(len(found))]


@dataclass
class Agreement:
    """How far answers agree with those of the reference."""

    same: int = 0
    tied: int = 0
    """Answers that part where the two likeliest tokens are as good as tied."""
    wrong: list[str] = field(default_factory=list)
    """Answers that part elsewhere."""
    worst: float = 0.0
    """Largest difference of a log-probability, in nats."""
    mean: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether nothing differs beyond float32's rounding."""
        return not self.wrong and self.worst <= TOLERANCE


Gap = Callable[[str, int, int], float]
"""(kind and place of an answer, its token) → how far apart the two likeliest tokens were there."""


def agree(reference: Answers, found: Answers, gap: Gap) -> Agreement:
    """Compare answers with the reference's, where ``gap`` tells near-ties of."""
    result = Agreement()
    for kind, texts in reference.texts.items():
        for place, (one, other) in enumerate(zip(texts, found.texts[kind], strict=True)):
            if one == other:
                result.same += 1
            elif gap(kind, place, _parting(ids(one), ids(other))) < TOLERANCE:
                result.tied += 1
            else:
                result.wrong.append(f"{kind}[{place}]")
    apart = [np.abs(a - b) for a, b in zip(reference.scores, found.scores, strict=True)]
    flat = np.concatenate(apart)
    # A difference that is no number is none that may pass.
    result.worst = float(flat.max()) if np.isfinite(flat).all() else float("inf")
    result.mean = float(flat.mean())
    return result


def _parting(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the place of the first token that two answers do not share."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))


class Gaps:
    """How far apart a model's two likeliest tokens were at each step of its answers."""

    def __init__(self, model: Any, questions: Questions, reference: Answers) -> None:
        """Take the reference's model, on the CPU, and its answers."""
        self._model, self._texts = model, reference.texts
        self._prompts = {"prompts": questions.prompts, "shared": questions.shared}

    @torch.inference_mode()
    def __call__(self, kind: str, place: int, token: int) -> float:
        """Return the gap, in logits, before a token of an answer."""
        kind = "prompts" if kind == "stopped" else kind  # the same ones, whose answers go on
        before = ids(self._prompts[kind][place]) + ids(self._texts[kind][place])[:token]
        logits = self._model(torch.tensor([before])).logits[0, -1].float()
        first, second = logits.topk(2).values.tolist()
        return float(first - second)
