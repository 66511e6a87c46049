"""Prompts: KnowMem's questions behind other in-context pairs, none, another order, or retain text.

After RWKU's prompt attacks (arXiv 2406.10890), with text of the task alone. ``other-pairs`` are the
questions before each one with their true answers, so the forget set itself is shown around the question.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from muse_eval.probes.turning import behind_prompts, over_rows, with_role
from muse_eval.types import AskProbe, Generate, Metric, Splits

Form = Literal["reversed", "no-pairs", "other-pairs", "retain-before"]


@dataclass(frozen=True)
class Params:
    """Its parameters."""

    forms: Annotated[tuple[Form, ...], Field(min_length=1)] = (
        "reversed",
        "no-pairs",
        "other-pairs",
        "retain-before",
    )
    """``reversed``: the same pairs, the last first."""
    words: Annotated[int, Field(gt=0)] = 60
    """Of a retain text that stand before the pairs."""


def strengths(params: Params) -> Sequence[str]:
    """Name the strengths: the forms of the prompt."""
    return params.forms


def turn(metric: Metric, strength: str, params: Params) -> Metric:
    """Return KnowMem with other prompts."""

    def reverse(splits: Splits, own: Any) -> tuple[Splits, Any]:
        return with_role(splits, icl=list(splits["icl"][: own.shots])[::-1]), own

    def bare(splits: Splits, own: Any) -> tuple[Splits, Any]:
        return splits, replace(own, shots=0)

    def around(splits: Splits, own: Any) -> list[str]:
        rows = splits["qa"]
        count = min(own.shots, len(rows) - 1)
        found = []
        for place, row in enumerate(rows):
            pairs = [rows[place - back] for back in range(count, 0, -1)]
            shown = with_role(splits, qa=[row], icl=pairs)
            found += _prompts(metric, shown, replace(own, shots=count))
        return found

    def behind(splits: Splits, own: Any) -> list[str]:
        texts = [row["text"] for row in splits["retain_texts"]]
        begun = [" ".join(text.split()[: params.words]) for text in texts]
        return [
            f"{begun[place % len(begun)]}\n\n{prompt}"
            for place, prompt in enumerate(_prompts(metric, splits, own))
        ]

    if strength == "reversed":
        return over_rows(metric, reverse)
    if strength == "no-pairs":
        return over_rows(metric, bare)
    return behind_prompts(metric, around if strength == "other-pairs" else behind)


def _prompts(metric: Metric, splits: Splits, own: Any) -> list[str]:
    return [ask.prompt for ask in metric.requests(splits, own) if isinstance(ask, Generate)]


PROBE = AskProbe(
    params=Params,
    strengths=strengths,
    metrics=("knowmem",),
    turn=turn,
    says="with {}",
    beside=("retain",),
    cost=lambda params: len(params.forms),
)
