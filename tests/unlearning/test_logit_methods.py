"""Losses over whole next-token distributions, by hand, and how they enter a step."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from muse_eval.types import LogitMethod
from muse_eval.unlearning import objectives, rows
from muse_eval.unlearning.logps import IGNORE
from muse_eval.unlearning.methods import ceu, npo_released, simnpo_released, undial

LOG2 = math.log(2)
SURE = torch.tensor([[LOG2, 0.0, 0.0]])
"""One position, three entries of ½, ¼, ¼; the true token is the first."""
FIRST = torch.tensor([0])


def slopes(loss: Tensor, logits: Tensor) -> list[float]:
    return torch.autograd.grad(loss.sum(), logits)[0][0].tolist()


def test_ceu_by_hand() -> None:
    """q = (0, ½, ½): −(½ log ¼ + ½ log ¼) = 1.386294; the gradient is p − q = (½, −¼, −¼)."""
    logits = SURE.clone().requires_grad_()
    loss = ceu.loss(logits, None, FIRST, ceu.Params())
    assert loss.tolist() == pytest.approx([1.386294], abs=1e-6)
    assert slopes(loss, logits) == pytest.approx([0.5, -0.25, -0.25])


def test_undial_by_hand() -> None:
    """β = log 2 makes the target's adjusted logits (0, 0, 0), q = ⅓ each: (log 2 + 2 log 4)/3 = 1.155245.

    The gradient is p − q = (⅙, −1/12, −1/12), and 0 where the model has reached q.
    """
    logits = SURE.clone().requires_grad_()
    loss = undial.loss(logits, SURE, FIRST, undial.Params(beta=LOG2))
    assert loss.tolist() == pytest.approx([1.155245], abs=1e-6)
    assert slopes(loss, logits) == pytest.approx([1 / 6, -1 / 12, -1 / 12])
    reached = torch.zeros(1, 3, requires_grad=True)
    after = undial.loss(reached, SURE, FIRST, undial.Params(beta=LOG2))
    assert slopes(after, reached) == pytest.approx([0, 0, 0], abs=1e-6)


def test_released_npo_by_hand() -> None:
    """Logits (1, −1) over a target's (0, 0), β = 2: −(log σ(−2) + log σ(2))/2 = 1.126928, labels or not."""
    logits, target = torch.tensor([[1.0, -1.0]]), torch.zeros(1, 2)
    params = npo_released.Params(beta=2.0)
    for following in (0, 1, IGNORE):
        found = npo_released.loss(logits, target, torch.tensor([following]), params)
        assert found.tolist() == pytest.approx([1.126928], abs=1e-6)


def test_released_simnpo_by_hand() -> None:
    """β = 1, γ = 0: −2 (log σ(−1) + log σ(1))/2 = 1.626523.

    γ stands inside β: β = 2, γ = ½ gives −(log σ(−3) + log σ(1))/2 = (3.048587 + 0.313262)/2 = 1.680925.
    """
    logits = torch.tensor([[1.0, -1.0]])
    plain = simnpo_released.loss(logits, None, FIRST, simnpo_released.Params(beta=1.0))
    shifted = simnpo_released.loss(logits, None, FIRST, simnpo_released.Params(beta=2.0, gamma=0.5))
    assert plain.tolist() == pytest.approx([1.626523], abs=1e-6)
    assert shifted.tolist() == pytest.approx([1.680925], abs=1e-6)


def test_released_losses_fall_while_the_probabilities_stay() -> None:
    """All logits lowered by 5 leave every probability as it was, and both losses call that progress."""
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    following = torch.zeros(4, dtype=torch.long)
    for method in (npo_released.METHOD, simnpo_released.METHOD):
        params = method.params()
        here, lower = (method.loss(moved, logits, following, params).mean() for moved in (logits, logits - 5))
        assert lower < here - 0.5
    assert torch.allclose(logits.softmax(-1), (logits - 5).softmax(-1), atol=1e-6)


class Table(nn.Module):
    """A model whose logits depend on the last token alone: row of a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return type("Output", (), {"logits": self.table[input_ids]})


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_a_step_averages_over_positions_then_rows(
    everywhere: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each position's loss is here its token's logit of entry 0: 1, 2, 4 for tokens 0, 1, 2.

    Rows 0 1 2 and 1 0 predict at their first two and one positions: ((1 + 2)/2 + 2)/2 = 1.75. With the last
    positions counted: ((1 + 2 + 4)/3 + (2 + 1)/2)/2 = 1.916667. Padding never counts.
    """
    monkeypatch.setattr(objectives, "CHUNK", chunk)
    table = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    model = Table(table)
    method = LogitMethod(
        loss=lambda logits, _target, _following, _params: logits[:, 0],
        params=type(None),
        everywhere=everywhere,
    )
    step = objectives.Step(model, lambda: None, {"forget": rows.pad([[0, 1, 2], [1, 0]])}, None, 0)  # type: ignore[arg-type, return-value]
    loss = objectives.forget_loss(method, step)
    assert loss.item() == pytest.approx(1.916667 if everywhere else 1.75, abs=1e-5)
    slope = torch.autograd.grad(loss, model.table)[0][:, 0].tolist()
    expected = [1 / 6 + 1 / 4, 1 / 6 + 1 / 4, 1 / 6] if everywhere else [1 / 4, 1 / 4 + 1 / 2, 0]
    assert slope == pytest.approx(expected)
