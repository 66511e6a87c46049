"""The words that ROUGE-L counted: the longest common subsequence of a truth and a response."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

MOST_CELLS = 50_000_000
"""Cells of the table that a subsequence is read from; above that a text is shown without it."""


@dataclass(frozen=True)
class Words:
    """A text cut into the words that ROUGE compares, and what stands between them."""

    pieces: list[str]
    """What stands before the first word, the word, what stands behind it, and so on: joined, the text."""
    words: list[str]
    """The words as they are compared: in lower case, letters a–z and digits."""


def cut(text: str) -> Words:
    """Cut a text as rouge-score 0.1.2 tokenises it without a stemmer.

    It puts the text in lower case and takes every run of a–z and 0–9. A letter whose lower case is several
    (İ) can end or begin a word within itself; such a letter stays whole with the word.
    """
    ends, words = [0], []
    word: list[str] = []
    for at, letter in enumerate(text):
        for low in letter.lower():
            if low.isascii() and low.isalnum():
                if not word:
                    # Two words within one letter share it: the second has no piece of its own.
                    ends.append(max(at, ends[-1]))
                word.append(low)
            elif word:
                words.append("".join(word))
                ends.append(at + 1 if letter.lower()[0] != low else at)
                word = []
    if word:
        words.append("".join(word))
        ends.append(len(text))
    ends.append(len(text))
    return Words([text[a:b] for a, b in pairwise(ends)], words)


@dataclass(frozen=True)
class Shared:
    """What a response shares with a truth."""

    truth: list[int]
    """Numbers of the truth's words in the subsequence, ascending."""
    response: list[int]
    """Numbers of the response's words, as many."""

    def f1(self, truth: Words, response: Words) -> float:
        """Return ROUGE-L's F1 that follows: 2·|LCS| over the words of both; 0 where nothing is shared."""
        return 2 * len(self.truth) / (len(truth.words) + len(response.words)) if self.truth else 0.0


def shared(truth: Sequence[str], response: Sequence[str]) -> Shared | None:
    """Return one longest common subsequence of two sequences of words; None where they are too long for it.

    Of several the one is taken that ends earliest in both.
    """
    if len(truth) * len(response) > MOST_CELLS:
        return None
    lengths = _lengths(truth, response)
    found = Shared([], [])
    row, column = len(truth), len(response)
    while row and column:
        here = lengths[row, column]
        if lengths[row - 1, column] == here:
            row -= 1
        elif lengths[row, column - 1] == here:
            column -= 1
        else:
            row, column = row - 1, column - 1
            found.truth.insert(0, row)
            found.response.insert(0, column)
    return found


def _lengths(truth: Sequence[str], response: Sequence[str]) -> np.ndarray:
    """Return (m + 1, n + 1): the length of the longest common subsequence of the first i and j words."""
    known = {word: number for number, word in enumerate(dict.fromkeys(truth))}
    rows = np.array([known[word] for word in truth], dtype=np.int32)
    columns = np.array([known.get(word, -1) for word in response], dtype=np.int32)
    lengths = np.zeros((len(truth) + 1, len(response) + 1), dtype=np.int32)
    for at, word in enumerate(rows, 1):
        above = lengths[at - 1]
        taken = np.maximum(above[1:], above[:-1] + (columns == word))
        lengths[at, 1:] = np.maximum.accumulate(taken)
    return lengths
