"""Forget told from holdout without a model: by length, by words, and when nothing can be said."""

from __future__ import annotations

import random

import pytest

from muse_eval.data.model_free import FEWEST, Told, told_by_length, told_by_words


def drawn(seed: int, texts: int, vocabulary: str = "abcdefghijklmnopqrstuvwxyz") -> list[str]:
    """Draw texts of 30 words from one vocabulary."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(vocabulary) + rng.choice("aeiou") for _ in range(30)) for _ in range(texts)]


def sized(*sizes: int) -> list[str]:
    return ["x" * size for size in sizes]


# ── length ───────────────────────────────────────────────────────────────────────────────────────
def test_length_tells_all_or_nothing() -> None:
    """Every text of one side is longer, or both sides have the same lengths."""
    short, long = sized(*range(1, 13)), sized(*range(13, 25))
    assert told_by_length(short, long) == told_by_length(long, short) == Told(1.0, (1.0, 1.0))
    same = told_by_length(short, short)
    assert same is not None
    assert same.auc == pytest.approx(0.5)
    assert same.ci[0] < 0.5 < same.ci[1]


def test_length_takes_the_better_direction() -> None:
    """Ten texts of 10 against 7 of 9 and 3 of 11: 70 of 100 pairs say forget is longer."""
    forget, holdout = sized(*[10] * 10), sized(*[9] * 7, *[11] * 3)
    for told in (told_by_length(forget, holdout), told_by_length(holdout, forget)):
        assert told is not None
        assert told.auc == pytest.approx(0.7)
        assert told.ci[0] < 0.7 < told.ci[1]


# ── words ────────────────────────────────────────────────────────────────────────────────────────
def test_other_words_are_told_apart() -> None:
    told = told_by_words(drawn(0, 30, "abcdef"), drawn(1, 30, "uvwxyz"))
    assert told == Told(1.0, (1.0, 1.0))
    assert told.suspicious


@pytest.mark.slow
def test_texts_of_one_source_are_seldom_told_apart() -> None:
    """Eight pairs of sides that differ by chance alone; at 40 texts a side about one in 25 is suspicious."""
    told = [told_by_words(drawn(2 * seed, 40), drawn(2 * seed + 1, 40)) for seed in range(8)]
    aucs = [one.auc for one in told if one is not None]
    assert 0.4 < sum(aucs) / 8 < 0.6
    assert sum(one.suspicious for one in told if one is not None) <= 1
    assert sum(one.ci[0] < 0.5 < one.ci[1] for one in told if one is not None) >= 5


def test_sides_of_unequal_size_change_nothing() -> None:
    told = told_by_words(drawn(0, 20, "abcdef"), drawn(1, 100, "uvwxyz"))
    assert told is not None
    assert told.auc == 1.0


@pytest.mark.slow
def test_the_same_seed_tells_the_same() -> None:
    forget, holdout = drawn(0, 20), drawn(1, 25, "abcdefghijklmnopqrstuvw")
    first = told_by_words(forget, holdout, seed=3)
    assert told_by_words(forget, holdout, seed=3) == first
    assert told_by_words(forget, holdout, seed=4) != first


# ── when nothing can be said, and what is suspicious ─────────────────────────────────────────────
def test_of_too_few_texts_nothing_is_said() -> None:
    few, many = drawn(0, FEWEST - 1), drawn(1, FEWEST)
    for one, other in ((few, many), (many, few)):
        assert told_by_length(one, other) is None
        assert told_by_words(one, other) is None
    assert told_by_length(many, many) is not None
    assert told_by_words(many, many) is not None


def test_texts_without_a_word_have_no_bag_of_words() -> None:
    assert told_by_words(["…"] * 10, ["—!"] * 10) is None
    assert told_by_words(["…"] * 10, ["—!"] * 9 + ["owl"]) is not None


@pytest.mark.parametrize(
    ("auc", "low", "suspicious"),
    [(0.90, 0.85, True), (0.66, 0.51, True), (0.65, 0.55, False), (0.70, 0.49, False), (0.3, 0.2, False)],
)
def test_suspicious_is_large_and_no_chance(auc: float, low: float, suspicious: bool) -> None:
    assert Told(auc, (low, 1.0)).suspicious == suspicious
