"""Sampling: the most that one of k drawn answers gives away (leak@k), where the greedy one may hide it.

The published protocol (arXiv 2511.04934): n = 200 draws at temperature 1 and top-p 1, ROUGE-L for MUSE;
leak@k is the mean of the largest score over all choices of k draws, example by example. The k are the
strengths, and all of them are taken from the same n draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass as checked

from muse_eval.config import Rising
from muse_eval.statistics import expected_max, mean_interval
from muse_eval.types import Answer, AskProbe, Context, Generate, Metric, Record, Request, Score, Splits


@checked(frozen=True)
class Params:
    """Its parameters."""

    n: Annotated[int, Field(gt=0)] = 200
    """Draws for each example."""
    ks: Annotated[Rising, Field(min_length=1)] = (1, 8, 64, 128)
    """At most n each."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _enough(self) -> "Params":
        if max(self.ks) > self.n:
            raise ValueError(f"ks go up to {max(self.ks)}, and n is {self.n}; raise n")
        return self


def strengths(params: Params) -> Sequence[str]:
    """Name the strengths: how many draws the largest is taken of."""
    return [str(k) for k in params.ks]


@dataclass(frozen=True)
class _Asks:
    """A metric's own requests: which of them are drawn several times, and which are asked once."""

    every: list[Request]
    drawn: list[int]
    once: list[int]

    @classmethod
    def of(cls, metric: Metric, splits: Splits, own: Any) -> "_Asks":
        every = metric.requests(splits, own)
        drawn = [place for place, ask in enumerate(every) if isinstance(ask, Generate)]
        return cls(every, drawn, [place for place in range(len(every)) if place not in set(drawn)])

    def draw(self, answers: Sequence[Answer], number: int) -> list[Answer]:
        """Return the answers as the metric takes them: those of one draw, and those asked once."""
        start = number * len(self.drawn)
        once = answers[-len(self.once) :] if self.once else ()
        found = dict(zip(self.drawn, answers[start : start + len(self.drawn)], strict=True))
        found |= dict(zip(self.once, once, strict=True))
        return [found[place] for place in range(len(self.every))]


def turn(metric: Metric, strength: str, params: Params) -> Metric:
    """Return a metric that draws n answers, and scores an example by the largest of k of them."""

    def requests(splits: Splits, own: Any) -> list[Request]:
        asks = _Asks.of(metric, splits, own)
        how: dict[str, Any] = {
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": params.seed,
        }
        several = [
            replace(ask, sample=number, name=f"{ask.name}, draw {number}", **how)
            for number in range(params.n)
            for place in asks.drawn
            if isinstance(ask := asks.every[place], Generate)
        ]
        return [*several, *(asks.every[place] for place in asks.once)]

    def score(splits: Splits, answers: Sequence[Answer], own: Any, context: Context) -> Score:
        asks = _Asks.of(metric, splits, own)
        # Of each draw nothing but its records counts, so one resample will do.
        quick = replace(context, resamples=1)
        draws = [metric.score(splits, asks.draw(answers, number), own, quick) for number in range(params.n)]
        undefined = next((one for one in draws if one.value is None), None)
        if undefined is not None:
            return undefined
        records = tuple(
            _largest(found, int(strength)) for found in zip(*(one.records for one in draws), strict=True)
        )
        values = [float(record.scores["rougeL"] or 0.0) for record in records]
        low, high = mean_interval(values, seed=context.seed, resamples=context.resamples)
        extras = {"draws": params.n, "k": int(strength)}
        flags = tuple(dict.fromkeys(flag for one in draws for flag in one.flags))
        value = 100 * float(np.mean(values))
        return Score(value, (100 * low, 100 * high), len(records), flags, extras=extras, records=records)

    return replace(metric, requests=requests, score=score)


def _largest(draws: Sequence[Record], k: int) -> Record:
    """Return an example's record: leak@k as its score, and the draw that gives most away as the evidence."""
    values = [float(record.scores["rougeL"] or 0.0) for record in draws]
    return replace(
        draws[int(np.argmax(values))], scores={"rougeL": expected_max(values, k), "largest": max(values)}
    )


PROBE = AskProbe(
    params=Params,
    strengths=strengths,
    metrics=("verbmem", "knowmem"),
    turn=turn,
    says="in the worst of {} draws",
    quick={"n": 8, "ks": (1, 4, 8)},
    cost=lambda params: params.n,
)
