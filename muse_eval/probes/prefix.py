"""Prefixes: VerbMem from a part of the prompt, from a longer one, and with the truth's beginning told.

After RWKU's prompt attacks (arXiv 2406.10890), with text of the task alone. A part is the prompt's last
words, so that the same truth follows; a prompt is lengthened by the words before it in the forget texts,
taken one after the other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from muse_eval.errors import UserError
from muse_eval.metrics.truths import joined
from muse_eval.probes.turning import over_rows, with_role
from muse_eval.types import Answer, AskProbe, Context, Metric, Row, Score, Splits

WORD = re.compile(r"\S+\s*")
"""A word with the space behind it."""

LEAVE_OUT = {
    "p": "they are of one word, or no words stand before them in the forget texts; "
    "leave it out by --set prefix.parts=[…]",
    "t": "the truths are of one word; leave it out by --set prefix.told=[]",
}
"""What to do about a kind of strength, by its first letter."""


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
    """Return VerbMem with other prompts; where some stay as they are, its score says how many.

    Its requests and its score raise ``UserError`` where all stay.
    """

    def change(splits: Splits, own: Any) -> tuple[Splits, Any]:
        rows, unchanged = changed(splits, strength)
        if unchanged == len(rows):
            raise UserError(f"probe prefix: {strength} changes no prompt; {LEAVE_OUT[strength[0]]}")
        return with_role(splits, forget=rows), own

    turned = over_rows(metric, change, "prompt")

    def score(splits: Splits, answers: Sequence[Answer], params: Any, context: Context) -> Score:
        found = turned.score(splits, answers, params, context)
        unchanged = changed(splits, strength)[1]
        if not unchanged:
            return found
        flags = (*found.flags, "unchanged")
        return replace(found, flags=flags, extras={**found.extras, "unchanged": unchanged})

    return replace(turned, score=score)


def changed(splits: Splits, strength: str) -> tuple[list[Mapping[str, str]], int]:
    """Return the rows with other prompts, and how many of them stay as they are."""
    what, _, number = strength.partition("-")
    size = float(number)
    texts = [row["text"] for row in splits["forget_texts"]]
    rows: list[Mapping[str, str]] = [
        told(row, size) if what == "truth" else resized(row, size, texts) for row in splits["forget"]
    ]
    return rows, sum(new["prompt"] == row["prompt"] for new, row in zip(rows, splits["forget"], strict=True))


def resized(row: Row, size: float, texts: Sequence[str]) -> Row:
    """Return a row whose prompt has so many times its words; at most as many as the text before it has.

    The row stays as it is where its prompt stands in no text, or at the very beginning.
    """
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
    """Return a row whose prompt goes on with the first words of the truth, and whose truth is the rest.

    The row stays as it is where the truth is one word.
    """
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
