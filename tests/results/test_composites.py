"""Composites against values derived by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_eval.errors import UserError
from muse_eval.results.composites import COMPOSITES, composite

SCORES = {"verbmem_f": 10.0, "knowmem_f": 20.0, "privleak": -30.0, "knowmem_r": 60.0}
percent = st.floats(0, 100)


def test_balance_by_hand() -> None:
    """(60 + (90 + 80 + 70)/3)/2 = (60 + 80)/2 = 70."""
    assert composite("balance", SCORES) == pytest.approx(70)


def test_a_leak_beyond_100_counts_as_100() -> None:
    """(60 + (90 + 80 + 0)/3)/2 = 58.333."""
    assert composite("balance", SCORES | {"privleak": 109.6}) == pytest.approx(58.3333, abs=1e-4)


def test_harmonic_by_hand() -> None:
    """3/(1/90 + 1/80 + 1/60) = 3/0.0402778 = 74.4828."""
    assert composite("harmonic", SCORES) == pytest.approx(74.4828, abs=1e-4)
    assert composite("harmonic", SCORES | {"knowmem_r": 0.0}) == 0
    # 3/(1/90 + 1/80 + 1/0.5) = 3/2.0236111.
    assert composite("harmonic", SCORES | {"knowmem_r": 0.5}) == pytest.approx(1.482498, abs=1e-5)


def test_what_is_undefined_has_no_composite_and_what_is_missing_is_an_error() -> None:
    assert composite("balance", SCORES | {"privleak": None}) is None
    with pytest.raises(UserError, match="needs the columns privleak"):
        composite("balance", {key: value for key, value in SCORES.items() if key != "privleak"})
    with pytest.raises(UserError, match="needs the columns verbmem_f, privleak; score all"):
        composite("balance", {"knowmem_f": 1.0, "knowmem_r": 2.0})
    with pytest.raises(UserError, match="did you mean 'balance'"):
        composite("balanse", SCORES)


@pytest.mark.parametrize("name", COMPOSITES)
@given(verbmem=percent, knowmem=percent, leak=st.floats(-100, 120), kept=percent)
def test_they_stay_within_0_and_100_and_like_what_is_kept(
    name: str, verbmem: float, knowmem: float, leak: float, kept: float
) -> None:
    scores = {"verbmem_f": verbmem, "knowmem_f": knowmem, "privleak": leak, "knowmem_r": kept}
    value, better = composite(name, scores), composite(name, scores | {"knowmem_r": 100.0})
    assert value is not None
    assert better is not None
    assert -1e-9 <= value <= better + 1e-9 <= 100 + 1e-6
