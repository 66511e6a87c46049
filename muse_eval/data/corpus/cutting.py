"""Cuts texts into pieces of a length, in words or in a tokenizer's tokens, always where a word ends."""

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from muse_eval.data.overlap import SPACELESS
from muse_eval.errors import UserError

T = TypeVar("T")
Mark = tuple[int, int]
"""The end of a word in a text, and the units (words, or a tokenizer's tokens) up to there."""
Measure = Callable[[str], list[Mark]]

_WORD = re.compile(rf"[{SPACELESS}]|[^\s{SPACELESS}]+")


def by_words(text: str) -> list[Mark]:
    """Measure a text in words; in scripts that put no space between them each character is one."""
    return [(found.end(), number) for number, found in enumerate(_WORD.finditer(text), 1)]


def by_tokens(tokenizer: Any) -> Measure:
    """Return what measures a text in a tokenizer's tokens, special ones aside, at the ends of words.

    Raises:
        UserError: the tokenizer cannot say where its tokens stand.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("the tokenizer does not tell where its tokens stand in a text; leave --tokenizer out")

    def measure(text: str) -> list[Mark]:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ends = [end for _, end in found["offset_mapping"]]
        return [(end, bisect_right(ends, end)) for end, _ in by_words(text)]

    return measure


def cut(text: str, marks: Iterable[Mark], sizes: Sequence[int]) -> list[tuple[str, ...]]:
    """Cut a text, where words end, into groups of pieces; what does not fill a group is dropped.

    Args:
        text: the text.
        marks: its words' ends, as a ``Measure`` returns them.
        sizes: units of the pieces of a group; a piece has as few words as make its size.
    """
    groups: list[tuple[str, ...]] = []
    group: list[str] = []
    start = before = 0
    for end, units in marks:
        if units - before >= sizes[len(group)]:
            group.append(text[start:end])
            start, before = end, units
            if len(group) == len(sizes):
                groups.append(tuple(group))
                group = []
    return groups


def spread(groups: Sequence[Sequence[T]], most: int, rng: random.Random) -> list[T]:
    """Take the first of every text's groups, then the second …, ``most`` in all; of the last round a draw."""
    taken: list[tuple[int, int]] = []
    for turn in range(max(map(len, groups), default=0)):
        here = [(text, turn) for text, found in enumerate(groups) if turn < len(found)]
        taken += here if len(here) <= most - len(taken) else rng.sample(here, most - len(taken))
    return [groups[text][turn] for text, turn in sorted(taken)]
