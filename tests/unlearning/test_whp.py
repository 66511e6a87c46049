"""The WHP mixture by hand, and how its file is found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from muse_eval import plugins
from muse_eval.config.spec import parse_params
from muse_eval.errors import UserError
from muse_eval.unlearning.methods import whp

LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3)


def test_what_the_reinforced_model_prefers_goes_down() -> None:
    """Over three tokens the reinforced model is at +2, −1 and 0 against the target.

    α = 1: (1 − 2, 2 − 0, 3 − 0) = (−1, 2, 3). α = 0.5: (1 − 1, 2, 3). α = 3: (1 − 6, 2, 3).
    """
    target = torch.tensor([[1.0, 2.0, 3.0]])
    reinforced = torch.tensor([[3.0, 1.0, 3.0]])
    for alpha, first in ((1.0, -1.0), (0.5, 0.0), (3.0, -5.0)):
        found = whp.combine(target, reinforced, whp.Params(alpha))
        assert found.tolist() == [[first, 2.0, 3.0]]


@given(LOGITS, LOGITS)
def test_without_strength_it_is_the_target(target: list[float], reinforced: list[float]) -> None:
    found = whp.combine(torch.tensor(target), torch.tensor(reinforced), whp.Params(0.0))
    assert torch.equal(found, torch.tensor(target))


@given(LOGITS, LOGITS, st.floats(0, 10, width=32))
def test_no_logit_rises_and_all_stay_finite(
    target: list[float], reinforced: list[float], alpha: float
) -> None:
    found = whp.combine(torch.tensor(target), torch.tensor(reinforced), whp.Params(alpha))
    assert bool((found <= torch.tensor(target)).all())
    assert bool(found.log_softmax(-1).isfinite().all())


def test_a_mixture_is_found_by_its_file() -> None:
    mixture = plugins.mixture("whp")
    assert mixture is whp.METHOD
    assert mixture.params is whp.Params
    assert whp.Params() == whp.Params(alpha=1.0)


@pytest.mark.parametrize("name", ["whq", "whp_gdr", "../methods/whp", ""])
def test_an_unknown_mixture_is_told_the_methods(name: str) -> None:
    with pytest.raises(UserError, match=rf"no method '{name}'; .*methods: .*ga.*whp"):
        plugins.mixture(name)


def test_a_loss_is_no_mixture() -> None:
    with pytest.raises(UserError, match="method npo makes one model's weights"):
        plugins.mixture("npo")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": -0.1}, r"alpha.*greater than or equal to 0"),
        ({"alpha": float("inf")}, "alpha.*finite"),
        ({"alpah": 1}, "did you mean 'alpha'"),
    ],
)
def test_wrong_parameters_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_params(whp.Params, values, "whp")
