"""Prefixes: VerbMem from a part of the prompt, from a longer one, and with the truth's beginning told.

After RWKU's prompt attacks (arXiv 2406.10890), with text of the task alone. A part is the prompt's last
words, so that the same truth follows; a prompt is lengthened by the words before it in the forget texts,
taken one after the other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from muse_eval.metrics.truths import joined
from muse_eval.probes.turning import over_rows, with_role
from muse_eval.types import AskProbe, Metric, Row, Splits

WORD = re.compile(r"\S+\s*")
"""A word with the space behind it."""


@dataclass(frozen=True)
class Params:
    """Its parameters."""

    parts: tuple[Annotated[float, Field(gt=0, le=8)], ...] = (0.25, 0.5, 2.0)
    """Lengths of the prompt, of its own."""
    told: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.25,)
    """Shares of the truth that the prompt goes on with; what is left of it is scored."""


def strengths(params: Params) -> Sequence[str]:
    """Name the strengths: the parts of the prompt, then the shares of the truth."""
    return [*(f"prompt-{part:g}" for part in params.parts), *(f"truth-{share:g}" for share in params.told)]


def turn(metric: Metric, strength: str, _params: Params) -> Metric:
    """Return VerbMem with other prompts."""
    what, _, number = strength.partition("-")
    size = float(number)

    def change(splits: Splits, own: Any) -> tuple[Splits, Any]:
        texts = [row["text"] for row in splits["forget_texts"]]
        rows: list[Mapping[str, str]] = []
        for row in splits["forget"]:
            rows.append(told(row, size) if what == "truth" else resized(row, size, texts))
        return with_role(splits, forget=rows), own

    return over_rows(metric, change, "prompt")


def resized(row: Row, size: float, texts: Sequence[str]) -> Row:
    """Return a row whose prompt has so many times its words; at most as many as the text before it has."""
    words = WORD.findall(row["prompt"])
    if size <= 1:
        return {**row, "prompt": "".join(words[-max(1, round(size * len(words))) :])}
    place = next((place for place, text in enumerate(texts) if row["prompt"] in text), None)
    if place is None:
        return row
    within = texts[place][: texts[place].index(row["prompt"])]
    before = "".join(f"{text}\n\n" for text in texts[:place]) + within
    more = WORD.findall(before)[-max(1, round((size - 1) * len(words))) :]
    return {**row, "prompt": "".join(more) + row["prompt"]}


def told(row: Row, share: float) -> Row:
    """Return a row whose prompt goes on with the first words of the truth, and whose truth is the rest."""
    lead = row["gt"][: len(row["gt"]) - len(row["gt"].lstrip(" "))]
    words = row["gt"].removeprefix(lead).split(" ")
    count = min(max(1, round(share * len(words))), len(words) - 1)
    if count < 1:
        return row
    begun, rest = " ".join(words[:count]), " ".join(words[count:])
    return {**row, "prompt": joined(row["prompt"], f"{lead}{begun}"), "gt": f" {rest}"}


PROBE = AskProbe(
    params=Params,
    strengths=strengths,
    metrics=("verbmem",),
    turn=turn,
    says="with {}",
    beside=("forget",),
    cost=lambda params: len(params.parts) + len(params.told),
)
