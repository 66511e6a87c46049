"""AUC and intervals: against sklearn, against pairs counted by hand, and under simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from muse_eval.statistics.intervals import (
    TwoClasses,
    _percentiles,
    auc,
    auc_interval,
    mean_interval,
    relative_auc_interval,
)

# Few distinct values, so that ties are common.
scores = st.lists(st.sampled_from([-2.5, -1.0, 0.0, 0.25, 3.0]), min_size=1, max_size=12)


def counted(negatives: list[float], positives: list[float]) -> float:
    wins = sum(1.0 if p > n else 0.5 if p == n else 0.0 for n in negatives for p in positives)
    return wins / (len(negatives) * len(positives))


@pytest.mark.parametrize(
    ("negatives", "positives", "expected"),
    [
        ([1.0], [2.0], 1.0),
        ([2.0], [1.0], 0.0),
        ([1.0], [1.0], 0.5),
        # pairs won by the positive: 2>1, 4>1, 4>3 of four
        ([1.0, 3.0], [2.0, 4.0], 0.75),
        # 2>1 is won, 2=2 is half: 1.5 of two
        ([1.0, 2.0], [2.0], 0.75),
        # three negatives, one positive above one of them
        ([0.0, 5.0, 6.0], [1.0], 1 / 3),
    ],
)
def test_auc_counts_pairs(negatives: list[float], positives: list[float], expected: float) -> None:
    assert auc(negatives, positives) == pytest.approx(expected, abs=1e-15)


@given(scores, scores)
def test_auc_is_the_share_of_pairs_and_what_sklearn_says(a: list[float], b: list[float]) -> None:
    labels = [0] * len(a) + [1] * len(b)
    assert auc(a, b) == pytest.approx(counted(a, b), abs=1e-12)
    assert auc(a, b) == roc_auc_score(labels, a + b)  # to the last bit


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_auc_refuses_what_is_no_finite_number(odd: float) -> None:
    with pytest.raises(ValueError, match=r"^a score is no finite number$"):
        auc([0.0, odd], [1.0])


@given(scores, scores)
def test_auc_turned_round_is_one_minus_it(a: list[float], b: list[float]) -> None:
    assert auc(a, b) + auc(b, a) == pytest.approx(1.0, abs=1e-12)
    assert auc(a, a) == pytest.approx(0.5, abs=1e-12)


@given(scores, scores)
def test_wins_average_to_the_auc(a: list[float], b: list[float]) -> None:
    wins = TwoClasses(a, b).wins()
    assert wins.shape == (len(a), len(b))
    assert wins.mean() == pytest.approx(auc(a, b), abs=1e-12)


# ── interval of a mean ───────────────────────────────────────────────────────────────────────────
VALUES = [0.1, 0.4, 0.45, 0.9, 1.0, 0.0, 0.3]


def test_mean_interval_has_the_same_bytes_for_the_same_seed() -> None:
    first = mean_interval(VALUES, seed=3, resamples=500)
    assert mean_interval(VALUES, seed=3, resamples=500) == first
    assert mean_interval(VALUES, seed=4, resamples=500) != first


def test_mean_interval_is_the_percentile_bootstrap_of_two_values() -> None:
    # Of two values 0 and 1 a resample's mean is 0, ½ or 1 with ¼, ½, ¼: the middle 95 % reach both ends.
    assert mean_interval([0.0, 1.0], seed=0, resamples=2_000) == (0.0, 1.0)


def test_mean_interval_leaves_out_two_and_a_half_percent_on_each_side() -> None:
    # A single 1 among 100 zeros is drawn Poisson(1) times: P(0) = 0.37, P(≤3) = 0.981, so [0, 3 %].
    assert mean_interval([1.0] + [0.0] * 99, seed=0, resamples=20_000) == (0.0, 0.03)
    # With 18 ones of 100 the mean is about normal: 0.18 ± 1.96·√(0.18·0.82/100).
    low, high = mean_interval([1.0] * 18 + [0.0] * 82, seed=0, resamples=20_000)
    assert low == pytest.approx(0.18 - 1.96 * 0.0384, abs=0.011)
    assert high == pytest.approx(0.18 + 1.96 * 0.0384, abs=0.011)


def test_the_tails_are_two_and_a_half_percent_to_the_digit() -> None:
    """Of 0 … 400 the ends are 2.5 % of the way from each: 10 and 390."""
    assert _percentiles(np.arange(401, dtype=np.float64)) == pytest.approx((10, 390), abs=1e-9)


def test_intervals_keep_their_bytes() -> None:
    """What earlier versions stored; another way to draw would make every stored interval another."""
    scores = TwoClasses([n * n % 17 / 17 for n in range(20)], [(n * n + 5 * n) % 23 / 20 for n in range(15)])
    assert mean_interval(VALUES, seed=3, resamples=500) == (0.20714285714285713, 0.7071428571428572)
    assert auc_interval(scores, seed=3, resamples=500) == (0.41, 0.7833333333333333)


def test_mean_interval_of_equal_values_is_that_value() -> None:
    assert mean_interval([0.25] * 5, seed=0, resamples=100) == (0.25, 0.25)
    assert mean_interval([0.7], seed=0, resamples=100) == (0.7, 0.7)


def test_mean_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(300):
        low, high = mean_interval(rng.beta(2, 5, size=60).tolist(), seed=trial, resamples=400)
        hits += low <= 2 / 7 <= high
    assert 0.89 <= hits / 300 <= 0.985


# ── interval of a relative AUC ───────────────────────────────────────────────────────────────────
OWN = TwoClasses([1.0, 2.0, 3.0, 5.0, 6.0], [0.5, 2.5, 4.0, 5.5])
OTHER = TwoClasses([1.0, 2.5, 3.5, 4.5, 7.0], [8.0, 3.0, 7.5, 9.0])


def test_relative_interval_has_the_same_bytes_for_the_same_seed() -> None:
    first = relative_auc_interval(OWN, OTHER, seed=1, resamples=50)
    assert first is not None
    assert relative_auc_interval(OWN, OTHER, seed=1, resamples=50) == first
    assert relative_auc_interval(OWN, OTHER, seed=2, resamples=50) != first


def test_a_model_measured_against_itself_has_no_spread() -> None:
    own = TwoClasses([float(i) for i in range(20)], [i + 0.5 for i in range(20)])
    assert relative_auc_interval(own, own, seed=0, resamples=300) == (0.0, 0.0)


def test_a_published_reference_is_a_constant() -> None:
    against_half = relative_auc_interval(OWN, 0.5, seed=0, resamples=300)
    against_quarter = relative_auc_interval(OWN, 0.25, seed=0, resamples=300)
    assert against_half is not None
    assert against_quarter is not None
    # (AUC − ¼)/¼ = 2·(AUC − ½)/½ + 1, resample by resample.
    assert against_quarter == pytest.approx([2 * bound + 1 for bound in against_half])
    assert against_half[0] < auc(OWN.negatives, OWN.positives) / 0.5 - 1 < against_half[1]


def test_a_saturated_auc_has_no_spread() -> None:
    apart = TwoClasses([5.0, 6.0, 7.0], [1.0, 2.0])
    assert relative_auc_interval(apart, 0.4, seed=0, resamples=100) == (-1.0, -1.0)


def test_an_auc_s_interval_is_that_relative_to_one_and_one_more() -> None:
    low, high = relative_auc_interval(OWN, 1.0, seed=3, resamples=200) or (0.0, 0.0)
    assert auc_interval(OWN, seed=3, resamples=200) == pytest.approx((low + 1, high + 1))
    assert auc_interval(TwoClasses([1.0, 2.0], [3.0]), seed=0, resamples=50) == (1.0, 1.0)
    assert auc_interval(TwoClasses([1.0], [1.0]), seed=0, resamples=50) == (0.5, 0.5)


def test_no_interval_where_a_resampled_reference_is_zero() -> None:
    # Only one of four pairs is won under the reference: some resamples miss it.
    barely = TwoClasses([1.0, 4.0], [2.0, 0.0])
    assert relative_auc_interval(OWN_SMALL, barely, seed=0, resamples=300) is None
    assert relative_auc_interval(OWN_SMALL, 0.0, seed=0, resamples=10) is None


OWN_SMALL = TwoClasses([1.0, 3.0], [2.0, 4.0])


def test_both_classes_are_resampled_each_with_draws_of_its_own() -> None:
    # With one text a class there is no spread; with one in one class only the other's draws matter.
    lone = relative_auc_interval(TwoClasses([1.0], [2.0]), 0.5, seed=0, resamples=50)
    assert lone == (1.0, 1.0)
    negatives = relative_auc_interval(TwoClasses([1.0, 3.0], [2.0]), 0.5, seed=0, resamples=2_000)
    positives = relative_auc_interval(TwoClasses([2.0], [1.0, 3.0]), 0.5, seed=0, resamples=2_000)
    assert negatives == (-1.0, 1.0)
    assert positives == (-1.0, 1.0)
    # Were both classes drawn alike, a model that scores both the same would come out at ½ every time.
    pairs = TwoClasses([float(i) for i in range(8)], [float(i) for i in range(8)])
    low, high = relative_auc_interval(pairs, 0.5, seed=0, resamples=2_000) or (0.0, 0.0)
    assert low < -0.4
    assert high > 0.4


def test_a_measured_reference_is_resampled_along_with_the_model() -> None:
    # The same texts under a model that ranks nearly alike: their common noise cancels.
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 1, 40), rng.normal(0.3, 1, 40)
    own = TwoClasses(low.tolist(), high.tolist())
    near = TwoClasses((low + 0.01).tolist(), (high + 0.011).tolist())
    paired = relative_auc_interval(own, near, seed=0, resamples=500)
    constant = relative_auc_interval(own, auc(near.negatives, near.positives), seed=0, resamples=500)
    assert paired is not None
    assert constant is not None
    assert paired[1] - paired[0] < 0.2 * (constant[1] - constant[0])


def test_relative_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Holdout minus forget ~ N(0.5, √2): AUC = Φ(0.5/√2) = 0.6382.
    truth = 0.6382 / 0.5 - 1
    rng = np.random.default_rng(11)
    hits = 0
    for trial in range(200):
        classes = TwoClasses(rng.normal(0.0, 1, 40).tolist(), rng.normal(0.5, 1, 40).tolist())
        found = relative_auc_interval(classes, 0.5, seed=trial, resamples=300)
        assert found is not None
        hits += found[0] <= truth <= found[1]
    assert 0.88 <= hits / 200 <= 0.99


def test_a_metric_written_for_0_1_still_finds_them() -> None:
    from muse_eval import statistics, stats

    for name in stats.__all__:
        assert getattr(stats, name) is getattr(statistics, name)
