"""Paired comparisons: cases by hand, properties, and what simulated truth says of intervals and p-values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_eval.statistics import (
    TwoClasses,
    best_set,
    bootstrap_p,
    difference,
    flip_p,
    holm,
    kolmogorov_smirnov,
    pairs_of,
    resampled_auc,
    resampled_mean,
    tpr_at,
)
from muse_eval.statistics.intervals import _counts, auc_interval, mean_interval

numbers = st.lists(st.floats(-50, 50), min_size=2, max_size=20)


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────
def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04 times 3, 2, 1: 0.03, 0.06, 0.04, which may not fall below 0.06.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.01, 0.03], family=6) == pytest.approx([0.06, 0.15])
    assert holm([0.5, 0.9], family=6) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs_and_best_set_by_hand() -> None:
    assert [str(pairs_of(n)) for n in (1, 2, 3, 10)] == ["0", "1", "3", "45"]
    assert best_set([1.0, 0.05, 0.051, 0.2]) == [True, False, True, True]


def test_sign_flips_by_hand() -> None:
    # Of the eight sign patterns of 1, 1, 1 two reach |sum| = 3: p is 1/4.
    assert flip_p([1.0, 1.0, 1.0]) == pytest.approx(0.25, abs=0.015)
    # 1, 1, -1: every pattern reaches 1.
    assert flip_p([1.0, 1.0, -1.0]) == 1.0
    assert flip_p([0.0] * 50) == 1.0
    # Sums that differ by less than a tie are equal: every pattern reaches the first.
    assert flip_p([1.0, 2e-10, 2e-10]) == 1.0


def test_few_flips_show_no_more_than_their_number() -> None:
    # None of nine reaches 5, which one of 16 patterns does; the bound is 2 exp(-5/2), 0.164.
    assert flip_p([1.0] * 5, resamples=9) == pytest.approx(1 / 10, abs=1e-12)


def test_flips_that_no_draw_reaches_are_bounded() -> None:
    assert flip_p([1.0] * 100) == pytest.approx(2 * math.exp(-50), abs=0)


def test_a_bootstrap_p_by_hand() -> None:
    drawn = np.array([-1.0, *[1.0] * 98, 2.0])
    assert bootstrap_p(1.0, drawn) == pytest.approx(2 * 2 / 101)
    assert bootstrap_p(0.0, np.zeros(100)) == 1.0
    # None of the other side: no more than one resample could show, and less where it lies far off.
    near = np.array([1.0, 3.0] * 50)
    assert bootstrap_p(2.0, near) == pytest.approx(min(2 / 101, math.erfc(2 / math.sqrt(2))))
    assert bootstrap_p(20.0, near + 18) < 1e-12
    # A spread of 2, and 0 four of them away.
    assert bootstrap_p(8.0, np.array([6.0, 10.0] * 50)) == pytest.approx(6.334e-5, rel=1e-3, abs=0)


def test_what_examples_could_show() -> None:
    values = [0.0, 100.0] * 50
    found = difference(50.0, resampled_mean(values), 100)
    # The standard error is 5 (50 / sqrt(100)); 2.80 of them.
    assert found.least == pytest.approx(14.0, rel=0.03)
    # A hundred equal outcomes: 1 − 0.025^(1/100) is 3.62 %.
    assert difference(0.0, resampled_mean([0.0] * 100), 100).least == pytest.approx(3.62, abs=0.01)


def test_rates_at_few_false_alarms_by_hand() -> None:
    scores = TwoClasses([float(i) for i in range(100)], [98.5, 99.0, 99.5, 90.5, 0.0])
    # One negative of 100 may be mistaken: the threshold is 98.
    assert tpr_at(scores, 0.01) == pytest.approx(3 / 5)
    # Ten: the threshold is 89.
    assert tpr_at(scores, 0.10) == pytest.approx(4 / 5)
    assert tpr_at(TwoClasses([1.0, 1.0], [1.0, 1.0]), 0.01) == 0.0
    assert tpr_at(scores, 1.0) == 1.0


def test_kolmogorov_smirnov_by_hand() -> None:
    # At 2 all of one lie below, half of the other.
    distance, p = kolmogorov_smirnov([1.0, 2.0], [1.5, 3.0])
    assert distance == pytest.approx(0.5)
    assert p == pytest.approx(1.0)
    assert kolmogorov_smirnov([1.0] * 50, [2.0] * 50)[0] == 1.0
    assert kolmogorov_smirnov([1.0] * 50, [2.0] * 50)[1] < 1e-20


# ── properties ───────────────────────────────────────────────────────────────────────────────────
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_keeps_the_order_and_is_never_above_bonferroni(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(
        p <= a <= min(1.0, len(ps) * p) or a == pytest.approx(p) for p, a in zip(ps, adjusted, strict=True)
    )
    assert sorted(adjusted) == [adjusted[i] for i in sorted(range(len(ps)), key=lambda i: ps[i])]
    assert all(a <= b for a, b in zip(adjusted, holm(ps, family=len(ps) + 5), strict=True))


@given(numbers)
def test_turning_a_difference_round_turns_its_interval_and_keeps_its_p(values: list[float]) -> None:
    turned = [-one for one in values]
    here = difference(1.0, resampled_mean(values, resamples=200), len(values), flip_p(values, resamples=200))
    there = difference(
        -1.0, resampled_mean(turned, resamples=200), len(values), flip_p(turned, resamples=200)
    )
    assert (here.low, here.high) == pytest.approx((-there.high, -there.low), abs=1e-9)
    assert here.p == there.p
    assert 0 < here.p <= 1


def test_the_same_seed_draws_the_same_examples_as_a_run_s_own_interval() -> None:
    values = list(np.random.default_rng(5).normal(size=40))
    tail = np.percentile(resampled_mean(values, seed=3, resamples=999), [2.5, 97.5])
    assert tuple(tail) == pytest.approx(mean_interval(values, seed=3, resamples=999), abs=1e-12)
    scores = TwoClasses(values[:15], values[15:])
    drawn = np.percentile(resampled_auc(scores, seed=3, resamples=999), [2.5, 97.5])
    assert tuple(drawn) == pytest.approx(auc_interval(scores, seed=3, resamples=999), abs=1e-12)
    # Paired: the difference of a row with itself is 0 in every resample.
    assert not (resampled_auc(scores) - resampled_auc(scores)).any()


# ── under simulation ─────────────────────────────────────────────────────────────────────────────
WORLDS, EXAMPLES, DRAWS = 2_000, 100, 1_000


def _within(covered: list[bool]) -> bool:
    return 0.93 <= sum(covered) / len(covered) <= 0.97


def test_nominal_intervals_of_paired_differences_cover() -> None:
    rng = np.random.default_rng(20)
    counts = _counts(EXAMPLES, 0, DRAWS)
    # Scores of the same examples agree, lie within 0 and 1, and are often exactly 0: ROUGE of two models.
    hard = rng.beta(0.8, 1.5, size=(WORLDS, EXAMPLES))
    noise = rng.uniform(size=(2, WORLDS, EXAMPLES))
    one, other = hard * (noise[0] > 0.3), hard * noise[1]
    truth = 0.8 / 2.3 * (0.5 - 0.7)
    drawn = counts @ (other - one).T / EXAMPLES
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    assert _within(list((low <= truth) & (truth <= high)))


def test_nominal_intervals_of_differences_of_aucs_cover() -> None:
    rng, covered = np.random.default_rng(21), []
    # Both models see the same 50 + 50 texts; AUC of N(0,1) against N(d,1) is Φ(d/√2).
    truth = 0.5 * (math.erf(0.5 / 2) - math.erf(1.0 / 2))
    for _ in range(600):
        shared = rng.normal(size=(2, 50))
        texts = [0.6 * shared + 0.8 * rng.normal(size=(2, 50)) for _ in range(2)]
        one, other = (TwoClasses(list(t[0]), list(t[1] + d)) for t, d in zip(texts, (1.0, 0.5), strict=True))
        drawn = resampled_auc(other, resamples=DRAWS) - resampled_auc(one, resamples=DRAWS)
        low, high = np.percentile(drawn, [2.5, 97.5])
        covered.append(bool(low <= truth <= high))
    assert _within(covered)


@pytest.mark.few(1)
@pytest.mark.parametrize("p_of", ["flips", "resamples"])
def test_holm_over_all_pairs_keeps_the_family_s_error_and_the_best_set_its_best(p_of: str) -> None:
    """Five equal models: whoever comes out best, the others are hardly ever said to be worse."""
    rng, wrong, rows = np.random.default_rng(22), 0, 5
    for _ in range(2_000):
        hard = rng.beta(0.8, 1.5, size=EXAMPLES)
        scores = hard + rng.uniform(-0.3, 0.3, size=(rows, EXAMPLES))
        best = int(np.argmin(scores.mean(axis=1)))
        gaps = [one - scores[best] for index, one in enumerate(scores) if index != best]
        ps = [
            flip_p(list(gap), resamples=DRAWS)
            if p_of == "flips"
            else bootstrap_p(float(gap.mean()), resampled_mean(list(gap), resamples=DRAWS))
            for gap in gaps
        ]
        wrong += not all(best_set(holm(ps, pairs_of(rows))))
    assert wrong / 2_000 <= 0.055


def test_a_model_that_is_worse_is_found() -> None:
    rng = np.random.default_rng(23)
    gap = list(rng.normal(0.5, 1.0, size=EXAMPLES))
    adjusted = holm([flip_p(gap), flip_p(list(rng.normal(0, 1.0, size=EXAMPLES)))], pairs_of(3))
    assert best_set(adjusted) == [False, True]


@pytest.mark.few(1)
@pytest.mark.parametrize("off", [0.0, 0.3])
def test_distances_to_a_third_keep_their_error_and_their_intervals_are_never_too_narrow(off: float) -> None:
    """Three models equally far from a reference; near it a distance cannot be below 0, which widens it."""
    rng, wrong, covered, worlds = np.random.default_rng(3), 0, 0, 2_000
    for _ in range(worlds):
        hard = rng.beta(0.8, 1.5, size=EXAMPLES)
        reference, *models = hard + rng.uniform(-0.3, 0.3, size=(4, EXAMPLES))
        gaps = [100 * (one + off - reference) for one in models]
        far = [abs(float(gap.mean())) for gap in gaps]
        drawn = [np.abs(resampled_mean(list(gap), resamples=DRAWS)) for gap in gaps]
        best = int(np.argmin(far))
        ps = [bootstrap_p(far[i] - far[best], drawn[i] - drawn[best]) for i in range(3) if i != best]
        wrong += not all(best_set(holm(ps, pairs_of(3))))
        low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
        covered += bool(low <= 0 <= high)
    assert wrong / worlds <= 0.055
    assert covered / worlds >= 0.93


def test_few_resampled_examples_show_no_difference() -> None:
    drawn = np.full(100, 78.1)
    assert [difference(78.1, drawn, n).p for n in (1, 3, 19)] == [1.0, 1.0, 1.0]
    assert difference(78.1, drawn, 20).p < 0.05
    # Flips of signs are exact for any number, and say themselves that few can show nothing.
    assert difference(78.1, drawn, 1, p=0.5).p == 0.5
