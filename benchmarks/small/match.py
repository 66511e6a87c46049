"""Finds the article that answers a question, and the stretch of it that holds the answer."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

WORD = re.compile(r"[a-z0-9]+")
END = re.compile(r"[.!?][\"'”’)]*$")
"""How a word ends after which a sentence begins."""


def words(text: str) -> list[str]:
    """Return a text's words as ROUGE reads them: lower case, a–z and 0–9."""
    return WORD.findall(text.lower())


class Rarity:
    """How much each word tells of a text: log of the texts in all by those that hold it."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = len(texts)
        self._holding = Counter(word for text in texts for word in set(words(text)))

    def of(self, word: str) -> float:
        """Return a word's weight, in nats; that of a word in every text is 0."""
        return math.log((self._texts + 1) / (self._holding[word] + 1))

    def share(self, question: str, text: str) -> float:
        """Return the share of a question's words that a text holds, each by its weight: 0 to 1."""
        asked = {word: self.of(word) for word in sorted(set(words(question)))}
        held = set(words(text))
        total = sum(asked.values())
        return sum(weight for word, weight in asked.items() if word in held) / total if total else 0.0


def plain(text: str) -> str:
    """Return a text's words between single spaces, one before and one behind all."""
    return f" {' '.join(words(text))} "


def holds(text: str, answer: str) -> bool:
    """Tell whether an answer stands in a text, word for word."""
    return plain(answer) in plain(text) and bool(words(answer))


def cut(text: str, start: int, length: int) -> str:
    """Return ``length`` words of a text, from the word ``start`` on, with the white space as it is.

    The beginning moves back to where its sentence begins, where that is at most half of ``length`` away.
    """
    pieces = re.findall(r"\S+\s*", text)
    start = max(0, min(start, len(pieces) - length))
    for first in range(start, max(-1, start - length // 2), -1):
        if first == 0 or END.search(pieces[first - 1].strip()) or "\n" in pieces[first - 1]:
            start = first
            break
    return "".join(pieces[start : start + length]).strip()


def window(text: str, question: str, answer: str, rarity: Rarity, length: int) -> str | None:
    """Return the stretch of a text that holds an answer and the most of its question, or None."""
    count = len(text.split())
    starts = range(0, max(1, count - length // 2), max(1, length // 6))
    found = [piece for start in starts if holds(piece := cut(text, start, length), answer)]
    return max(found, key=lambda piece: rarity.share(question, piece), default=None)


@dataclass(frozen=True)
class Answered:
    """A question of MUSE's with the stretch of an article that answers it."""

    question: str
    answer: str
    text: str
    article: str
    share: float
    """Of the question's words, how many the stretch holds, by weight."""


def answered(
    questions: Sequence[dict[str, str]], articles: Sequence[str], length: int, least: float
) -> list[Answered]:
    """Return the questions that a stretch of an article answers, the surest first; an article answers one.

    Args:
        questions: rows of ``question`` and ``answer``.
        articles: whole texts.
        length: words of a stretch.
        least: the least share of the question that the stretch must hold.
    """
    rarity, read = Rarity(articles), [(plain(text), text) for text in articles]
    found = []
    for row in questions:
        question, answer = row["question"], row["answer"]
        sought = plain(answer)
        holding = [text for known, text in read if sought in known and words(answer)]
        likely = sorted(holding, key=lambda text: -rarity.share(question, text))[:3]
        pieces = [
            (piece, text) for text in likely if (piece := window(text, question, answer, rarity, length))
        ]
        made = [Answered(question, answer, *both, rarity.share(question, both[0])) for both in pieces]
        found += sorted(made, key=lambda one: -one.share)[:1]
    found.sort(key=lambda one: (-one.share, one.question))
    surest = {one.article: one for one in reversed(found) if one.share >= least}
    return sorted(surest.values(), key=lambda one: (-one.share, one.question))
