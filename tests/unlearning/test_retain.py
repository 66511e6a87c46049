"""Retain terms against values derived by hand."""

import math

import pytest
import torch

from muse_eval.types import SeqLogps
from muse_eval.unlearning import retain
from muse_eval.unlearning.heads import whole


def test_nll_by_hand() -> None:
    """Sums log(1/8) over 2 tokens and log(1/2) over 1: (2.079442/2 + 0.693147)/2 = 0.866434."""
    policy = SeqLogps(torch.tensor([math.log(1 / 8), math.log(1 / 2)]), torch.tensor([2.0, 1.0]))
    assert retain.nll(policy).item() == pytest.approx(0.866434, abs=1e-6)


def test_kl_by_hand() -> None:
    """KL(target ‖ policy) from (1/2, 1/2) to (3/4, 1/4), averaged with a position where they agree.

    ½ log(½ / ¾) + ½ log(½ / ¼) = ½ (−0.405465 + 0.693147) = 0.143841; over the two positions 0.071921.
    The other way round it is ¾ log(3/2) + ¼ log(1/2) = 0.130812. The third position predicts nothing.
    """
    target = torch.tensor([[[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]])
    policy = torch.tensor([[[math.log(3), 0.0], [6.0, 7.0], [50.0, 0.0]]])
    predicts = torch.tensor([[True, True, False]])
    assert retain.kl(whole(policy), whole(target), predicts).item() == pytest.approx(0.143841 / 2, abs=1e-6)


def test_kl_is_zero_at_the_target_and_ignores_a_shift_of_the_logits() -> None:
    """Raw logits (trap 4) would see the shift; probabilities do not."""
    logits = 3 * torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones(2, 5, dtype=torch.bool)
    shifted = (logits + 100).requires_grad_()
    found = retain.kl(whole(shifted), whole(logits), everywhere)
    assert found.item() == pytest.approx(0, abs=1e-5)
    assert torch.autograd.grad(found, shifted)[0].abs().max().item() < 1e-5


def test_kl_equals_torch_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = torch.Generator().manual_seed(1)
    policy = torch.randn(3, 5, 7, generator=made).requires_grad_()
    target = torch.randn(3, 5, 7, generator=made)
    predicts = torch.tensor([[1, 1, 1, 1, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 1]], dtype=torch.bool)
    rows = [
        torch.nn.functional.kl_div(
            policy[row][predicts[row]].log_softmax(-1),
            target[row][predicts[row]].log_softmax(-1),
            reduction="batchmean",
            log_target=True,
        )
        for row in range(3)
    ]
    expected = torch.stack(rows).mean()
    slope = torch.autograd.grad(expected, policy, retain_graph=True)[0]
    for size in (1, 4, 100):
        monkeypatch.setattr(retain, "CHUNK", size)
        found = retain.kl(whole(policy), whole(target), predicts)
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)
        assert torch.allclose(torch.autograd.grad(found, policy)[0], slope, atol=1e-7)
