"""Which texts stand in more than one place: the same text twice, passages that two sets of texts share."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

ANCHOR = 13
"""Words in a row that are hashed and looked up.

Thirteen is what GPT-3's authors took to find test data in their training text (arXiv 2005.14165, appendix
C); fewer catch idioms, dates and titles. From runs of such hits the length of a shared passage follows, so
that one index finds long passages and short texts that stand whole in another.
"""
SHARED = 50
"""Words in a row that make a shared passage: a paragraph, where quotations are mostly shorter."""
STOCK = 3
"""Texts of one split that make the words they share a publisher's stock text, which tells nothing.

In MUSE-News a notice about cookies (60 words) and one on how to write to the newsroom (up to 91) stand in
forget, retain and holdout alike; no other passage does.
"""

SPACELESS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Kana and Han
)
_WORD = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+")
_BASE = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


def words(text: str) -> list[str]:
    """Return the words of a text, casefolded, without punctuation.

    In scripts that put no space between words (Chinese, Japanese, Thai …) each character is one.
    """
    return _WORD.findall(text.casefold())


def normal(text: str) -> str:
    """Return the form in which two texts are the same: casefolded, each run of white space one space."""
    return " ".join(text.casefold().split())


@dataclass(frozen=True, order=True)
class Place:
    """One row of one split."""

    split: str
    row: int

    def __str__(self) -> str:
        """Name it as a run's errors do: ``raw/forget[3]``."""
        return f"{self.split}[{self.row}]"


@dataclass(frozen=True)
class Match:
    """A text and the other in which it stands, whole or in part."""

    place: Place
    other: Place
    words: int
    """Of the longest passage shared; 0 where the texts are the same but for case and white space."""


def repeats(texts: Sequence[str]) -> dict[int, int]:
    """Return each row that repeats an earlier one, with the first of its kind; blank rows repeat none."""
    first: dict[str, int] = {}
    forms = enumerate(map(normal, texts))
    found = {row: first.setdefault(form, row) for row, form in forms if form}
    return {row: of for row, of in found.items() if row != of}


class TextIndex:
    """Texts made ready to be compared: each place's text, and a hash of every ``ANCHOR`` words in a row.

    A hash is a polynomial in 64-bit digests of the words, so that all of a corpus are computed at once;
    two different word sequences collide once in some 10¹⁹ pairs.
    """

    def __init__(self, splits: Mapping[str, Sequence[str]]) -> None:
        self.places = [Place(split, row) for split, texts in splits.items() for row in range(len(texts))]
        self.texts = [text for texts in splits.values() for text in texts]

    @cached_property
    def equal(self) -> dict[str, Place]:
        """Return the first place of each text that is not blank, by its normal form."""
        found: dict[str, Place] = {}
        for place, form in zip(self.places, map(normal, self.texts), strict=True):
            if form:
                found.setdefault(form, place)
        return found

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Return the number of words of each text, (texts,)."""
        return self._hashed[0]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Return where each text's hashes begin and the last one's end, (texts + 1,)."""
        return np.concatenate([[0], np.cumsum(np.maximum(self.lengths - ANCHOR + 1, 0))])

    @cached_property
    def hashes(self) -> Hashes:
        """Return the hash of every ``ANCHOR`` words in a row of one text, (hashes,)."""
        lengths, numbers = self._hashed
        if len(numbers) < ANCHOR:
            return np.empty(0, np.uint64)
        rolled = np.zeros(len(numbers) - ANCHOR + 1, np.uint64)
        for offset in range(ANCHOR):
            rolled = rolled * _BASE + numbers[offset : offset + len(rolled)]
        ends = np.repeat(np.cumsum(lengths), lengths)[: len(rolled)]
        return rolled[np.arange(len(rolled)) + ANCHOR <= ends]

    @cached_property
    def _hashed(self) -> tuple[NDArray[np.int64], Hashes]:
        """Return the number of words of each text, and the digest of every word of all texts."""
        digests = _Digests()
        numbers = [np.fromiter(map(digests.__getitem__, words(text)), np.uint64) for text in self.texts]
        lengths = np.array([len(one) for one in numbers], np.int64)
        return lengths, np.concatenate([np.empty(0, np.uint64), *numbers])

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.hashes, kind="stable")

    def find(self, hashes: Hashes) -> NDArray[np.int64]:
        """Return where each of the hashes first stands among these texts' own, −1 where nowhere."""
        if not len(self.hashes):
            return np.full(len(hashes), -1)
        values = self.hashes[self._order]
        near = np.minimum(np.searchsorted(values, hashes), len(values) - 1)
        return np.where(values[near] == hashes, self._order[near], -1)

    @cached_property
    def stock(self) -> Hashes:
        """Return the hashes that stand in ``STOCK`` or more texts of one split."""
        if not len(self.hashes):
            return self.hashes
        values, texts = self.hashes[self._order], self.text_of(self._order)
        once = np.flatnonzero(np.append(True, (np.diff(texts) != 0) | (values[1:] != values[:-1])))
        values, splits = values[once], self._splits[texts[once]]
        before, after = slice(None, 1 - STOCK), slice(STOCK - 1, None)
        same = (values[before] == values[after]) & (splits[before] == splits[after])
        return np.unique(values[after][same])

    @cached_property
    def _splits(self) -> NDArray[np.int64]:
        names = {name: number for number, name in enumerate(dict.fromkeys(p.split for p in self.places))}
        return np.array([names[place.split] for place in self.places])

    def text_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which text the hash at each position belongs to."""
        return np.searchsorted(self.starts, positions, side="right") - 1


class _Digests(dict[str, int]):
    def __missing__(self, word: str) -> int:
        self[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
        return self[word]


def shared(one: TextIndex, other: TextIndex) -> list[Match]:
    """Return the texts of ``one`` that share a passage with texts of ``other``, each with one of those.

    A passage is ``SHARED`` words in a row that are stock text of neither side; or, stock or not, half of
    either text (of at least as many words), or the whole of a shorter one. A text of fewer than ``ANCHOR``
    words is shared where the other side has the same. Time grows with the words, but for one sort a side.
    """
    found = {
        place: Match(place, other.equal[form], 0)
        for place, text in zip(one.places, one.texts, strict=True)
        if (form := normal(text)) in other.equal
    }
    stock = np.union1d(one.stock, other.stock)
    for match in _runs(one, other, stock):
        found.setdefault(match.place, match)
    for match in _runs(other, one, None):
        found.setdefault(match.other, Match(match.other, match.place, match.words))
    return sorted(found.values(), key=lambda match: match.place)


def strangers(texts: TextIndex, home: TextIndex) -> list[Place]:
    """Return the texts that share not even ``ANCHOR`` words in a row with any of ``home``.

    Texts too short to tell are taken for known.
    """
    hits = np.concatenate([[0], np.cumsum(home.find(texts.hashes) >= 0)])
    known = hits[texts.starts[1:]] - hits[texts.starts[:-1]]
    return [
        place
        for place, count, length in zip(texts.places, known, texts.lengths, strict=True)
        if count == 0 and length >= ANCHOR
    ]


def _runs(texts: TextIndex, others: TextIndex, stock: Hashes | None) -> Iterator[Match]:
    """Yield the texts of which half is in others or, where stock is given, a passage that is none."""
    at = others.find(texts.hashes)
    for text in np.unique(texts.text_of(np.flatnonzero(at >= 0))).tolist():
        span = slice(texts.starts[text], texts.starts[text + 1])
        length = int(texts.lengths[text])
        start, count = _longest(at[span] >= 0)
        enough = max(min(SHARED, length), length / 2)
        if count < enough and stock is not None:
            start, count = _longest((at[span] >= 0) & ~np.isin(texts.hashes[span], stock))
            enough = SHARED
        if count >= enough:
            other = int(others.text_of(at[span][start]))
            yield Match(texts.places[text], others.places[other], count)


def _longest(hits: NDArray[np.bool_]) -> tuple[int, int]:
    """Return where the longest run of hits begins, and how many words it spans."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hits.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    begins, lengths = edges[::2], edges[1::2] - edges[::2]
    longest = int(np.argmax(lengths))
    return int(begins[longest]), int(lengths[longest]) + ANCHOR - 1
