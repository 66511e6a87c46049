"""The largest of k draws out of n: by its definition, and against every choice."""

from __future__ import annotations

from itertools import combinations
from math import comb

import pytest

from muse_eval.statistics import expected_max


def test_of_three_draws() -> None:
    values = [0.2, 0.9, 0.5]
    assert expected_max(values, 1) == pytest.approx(1.6 / 3)
    assert expected_max(values, 2) == pytest.approx((0.9 + 0.9 + 0.5) / 3)
    assert expected_max(values, 3) == pytest.approx(0.9)


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_it_is_the_mean_over_all_choices(k: int) -> None:
    values = [0.1, 0.1, 0.7, 0.0, 1.0, 0.3, 0.7]
    largest = [max(chosen) for chosen in combinations(values, k)]
    assert expected_max(values, k) == pytest.approx(sum(largest) / len(largest))


def test_of_zeros_and_ones_it_is_the_published_formula() -> None:
    n, leaking, k = 200, 3, 64
    values = [1.0] * leaking + [0.0] * (n - leaking)
    assert expected_max(values, k) == pytest.approx(1 - comb(n - leaking, k) / comb(n, k))


@pytest.mark.parametrize("k", [0, 4])
def test_more_than_there_are_is_no_choice(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}, of 3 values"):
        expected_max([0.1, 0.2, 0.3], k)
