"""Where texts stand twice: the same text, a shared passage, a short text inside a long one, stock text."""

from __future__ import annotations

import random

import pytest

from muse_eval.data.overlap import (
    ANCHOR,
    SHARED,
    STOCK,
    Match,
    Place,
    TextIndex,
    normal,
    repeats,
    shared,
    strangers,
    words,
)


def prose(seed: int, count: int) -> list[str]:
    """Return words of which no two texts of different seeds share one."""
    return [f"w{seed}x{number}" for number in range(count)]


def text(*parts: list[str]) -> str:
    return " ".join(word for part in parts for word in part)


def found(one: list[str], other: list[str]) -> list[tuple[int, int, int]]:
    """Return (row, other row, words) of each shared text of two sides of one split each."""
    matches = shared(TextIndex({"a": one}), TextIndex({"b": other}))
    assert {m.place.split for m in matches} <= {"a"}
    assert {m.other.split for m in matches} <= {"b"}
    return [(m.place.row, m.other.row, m.words) for m in matches]


# ── words and repeats ────────────────────────────────────────────────────────────────────────────
def test_words_are_casefolded_without_punctuation() -> None:
    assert words("“The Owl's 2 eyes—STRASSE, Straße!”") == [
        *("the", "owl", "s", "2", "eyes"),
        *("strasse", "strasse"),
    ]


def test_where_no_space_stands_between_words_each_character_is_one() -> None:
    assert words("北京 2024年 hello") == ["北", "京", "2024", "年", "hello"]
    assert words("Привет, мир") == ["привет", "мир"]


def test_a_text_is_the_same_whatever_its_case_and_white_space() -> None:
    assert normal(" The\n\tOWL  said ") == normal("the owl said")
    assert normal("the owl said.") != normal("the owl said")
    assert repeats(["The owl", "a mill", "the  OWL", "THE owl\n", "an owl"]) == {2: 0, 3: 0}
    assert repeats(["the owl", "the owls"]) == {}


def test_blank_texts_are_not_the_same() -> None:
    assert repeats(["", "the owl", " \n", "the owl"]) == {3: 1}
    assert found(["the owl", ""], ["", "a mill"]) == []


# ── shared passages ──────────────────────────────────────────────────────────────────────────────
def test_blank_texts_are_the_same_as_nothing() -> None:
    assert repeats(["", "a", " ", "A"]) == {3: 1}
    assert shared(TextIndex({"raw/retain1": ["", "b"]}), TextIndex({"raw/forget": ["\n", "a"]})) == []


def test_the_same_text_is_found_however_short() -> None:
    assert found(["Yes.", "No."], ["maybe", " no. "]) == [(1, 1, 0)]
    long = text(prose(1, 200))
    assert found([long], [long.upper()]) == [(0, 0, 0)]


@pytest.mark.parametrize(("common", "told"), [(SHARED, True), (SHARED - 1, False)])
def test_fifty_words_in_a_row_are_a_passage(common: int, told: bool) -> None:
    passage = prose(0, common)
    one = text(prose(1, 100), passage, prose(2, 100))
    other = text(prose(3, 300), passage, prose(4, 5))
    expected = [(1, 2, common)] if told else []
    assert found([text(prose(5, 80)), one], [text(prose(6, 80)), text(prose(7, 9)), other]) == expected


def test_words_in_another_order_or_with_gaps_are_none() -> None:
    """Every twelfth word differs, so that no thirteen in a row are shared."""
    passage = prose(0, 120)
    broken = [word if number % 12 else f"other{number}" for number, word in enumerate(passage)]
    assert found([text(passage)], [text(broken)]) == []
    assert found([text(passage)], [text(sorted(passage, reverse=True))]) == []


def test_punctuation_and_case_hide_nothing() -> None:
    passage = prose(0, 60)
    one = text(prose(1, 60), passage)
    assert found([one], [", ".join(passage).upper() + text(["."], prose(2, 60))]) == [(0, 0, 60)]


@pytest.mark.parametrize(
    ("length", "told"), [(ANCHOR, True), (SHARED - 1, True), (ANCHOR - 1, False), (5, False)]
)
def test_a_short_text_that_stands_whole_in_a_long_one(length: int, told: bool) -> None:
    short = prose(0, length)
    long = text(prose(1, 300), short, prose(2, 300))
    assert found([text(short)], [long]) == ([(0, 0, length)] if told else [])
    assert found([long], [text(short)]) == ([(0, 0, length)] if told else [])
    # One more word of its own, and it does not stand there whole.
    assert found([text(short, ["mine"])], [long]) == []
    assert found([long], [text(short, ["mine"])]) == []


def test_stock_text_tells_nothing() -> None:
    """A notice of 60 words in texts of 160: no half of them, so only as a passage that is no stock."""
    notice = prose(0, 60)
    own = [text(notice, prose(number, 100)) for number in range(1, 1 + STOCK)]
    other = text(prose(99, 100), notice)
    assert found([other], own[: STOCK - 1]) == [(0, 0, 60)]
    assert found([other], own) == []
    assert found(own, [other]) == []
    # Stock text beside a passage that is none: only the passage counts, and its own text is named.
    leak = prose(77, SHARED)
    leaked = text(notice, prose(98, 60), leak)
    assert found([leaked], [*own, text(leak, prose(97, 100))]) == [(0, STOCK, SHARED)]


def test_stock_text_that_is_half_of_a_text_is_told_all_the_same() -> None:
    notice = prose(0, 60)
    own = [text(notice, prose(number, 100)) for number in range(1, 1 + STOCK)]
    assert found([text(notice, prose(50, 60))], own) == [(0, 0, 60)]
    assert found([text(notice, prose(50, 61))], own) == []
    assert found(own, [text(notice, prose(50, 60))]) == [(0, 0, 60)]


def test_one_text_in_many_splits_of_a_side_is_no_stock() -> None:
    """Raw, VerbMem and PrivLeak hold the same text: three splits, one text."""
    leak = prose(0, 60)
    forget = {name: [text(leak, prose(1, 100))] for name in ("raw/f", "verbmem/f", "privleak/f")}
    holdout = TextIndex({"raw/h": [text(prose(2, 100), leak)]})
    match = Match(Place("raw/h", 0), Place("raw/f", 0), 60)
    assert shared(holdout, TextIndex(forget)) == [match]
    assert (str(match.place), str(match.other)) == ("raw/h[0]", "raw/f[0]")


def test_nothing_is_shared_with_nothing() -> None:
    assert found([], []) == []
    assert found([], ["text"]) == []
    assert found([text(prose(0, 60))], []) == []
    assert found(["", "…"], ["!"]) == []


@pytest.mark.parametrize("seed", range(6))
def test_hashes_find_what_comparing_words_finds(seed: int) -> None:
    """Texts spliced from 12 phrases of 5 to 40 words, against a slow search by tuples of words."""
    rng = random.Random(seed)
    phrases = [prose(number, rng.randint(5, 40)) for number in range(12)]

    def texts() -> list[list[str]]:
        chosen = [rng.choices(phrases, k=rng.randint(1, 4)) for _ in range(8)]
        return [[word for phrase in each for word in phrase] for each in chosen]

    one, other = texts(), texts()

    def grams(word_list: list[str]) -> list[tuple[str, ...]]:
        return [tuple(word_list[i : i + ANCHOR]) for i in range(len(word_list) - ANCHOR + 1)]

    def stock(side: list[list[str]]) -> set[tuple[str, ...]]:
        every = [set(grams(each)) for each in side]
        return {gram for each in every for gram in each if sum(gram in e for e in every) >= STOCK}

    def longest(hits: list[bool]) -> tuple[int, int]:
        """Return the words of the longest run, and where the first such run begins."""
        best, run = (0, 0), 0
        for position, hit in enumerate(hits):
            run = run + 1 if hit else 0
            best = max(best, (run, run - position - 1))
        return (best[0] + ANCHOR - 1 if best[0] else 0), -best[1]

    def half(each: list[str], side: list[list[str]]) -> int | None:
        """Return where a run of half the text begins, if there is one."""
        there = {gram for one_ in side for gram in grams(one_)}
        count, start = longest([gram in there for gram in grams(each)])
        return start if count >= max(min(SHARED, len(each)), len(each) / 2) else None

    known, there = stock(one) | stock(other), {gram for each in other for gram in grams(each)}
    told = {
        row
        for row, each in enumerate(one)
        if each in other
        or half(each, other) is not None
        or longest([gram in there - known for gram in grams(each)])[0] >= SHARED
    }
    for each in other:
        start = half(each, one)
        if start is not None:
            told.add(min(row for row, own in enumerate(one) if grams(each)[start] in grams(own)))
    assert {row for row, _, _ in found(list(map(text, one)), list(map(text, other)))} == told
    assert len(told) < 8


# ── strangers ────────────────────────────────────────────────────────────────────────────────────
def test_a_stranger_shares_nothing_with_its_home() -> None:
    home = TextIndex({"raw": [text(prose(0, 100)), text(prose(1, 100))]})
    texts = TextIndex(
        {
            "asked": [
                text(prose(1, 100)[30:60]),
                text(prose(2, 40)),
                text(prose(2, 90), prose(0, ANCHOR)),
                text(prose(3, ANCHOR - 1)),
            ]
        }
    )
    assert strangers(texts, home) == [Place("asked", 1)]
    assert strangers(home, home) == []
    assert strangers(home, TextIndex({"raw": []})) == home.places
