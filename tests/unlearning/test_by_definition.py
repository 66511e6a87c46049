"""Losses at many positions and rows, against sums written out in floats."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch

from muse_eval.types import SeqLogps
from muse_eval.unlearning.methods import (
    ceu,
    idkdpo,
    npo,
    npo_released,
    satimp,
    simnpo,
    simnpo_released,
    undial,
    wga,
)

POSITIONS, VOCABULARY = 5, 7
NOISE = torch.Generator().manual_seed(3)
LOGITS = 2 * torch.randn(POSITIONS, VOCABULARY, generator=NOISE)
TARGET = 2 * torch.randn(POSITIONS, VOCABULARY, generator=NOISE)
FOLLOWING = torch.tensor([6, 0, 3, 3, 1])


def softmax(row: Sequence[float]) -> list[float]:
    whole = sum(math.exp(z) for z in row)
    return [math.exp(z) / whole for z in row]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def cross_entropy(wanted: Sequence[float], row: Sequence[float]) -> float:
    return -sum(q * math.log(p) for q, p in zip(wanted, softmax(row), strict=True) if q)


def pairs() -> list[tuple[list[float], list[float], int]]:
    """Each position's logits, the target's, and the true token."""
    return list(zip(LOGITS.tolist(), TARGET.tolist(), FOLLOWING.tolist(), strict=True))


def test_undial_lowers_each_position_s_own_token() -> None:
    expected = [
        cross_entropy(softmax([z - 1.5 * (v == true) for v, z in enumerate(theirs)]), ours)
        for ours, theirs, true in pairs()
    ]
    found = undial.loss(LOGITS, TARGET, FOLLOWING, undial.Params(beta=1.5))
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_ceu_leaves_each_position_s_own_token_out() -> None:
    expected = []
    for ours, _, true in pairs():
        rest = softmax([z for v, z in enumerate(ours) if v != true])
        expected.append(cross_entropy([*rest[:true], 0.0, *rest[true:]], ours))
    found = ceu.loss(LOGITS, None, FOLLOWING, ceu.Params())
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_the_released_losses_average_over_the_vocabulary() -> None:
    npos = [
        -(2 / 0.5) * sum(log_sigmoid(-0.5 * (z - r)) for z, r in zip(ours, theirs, strict=True)) / VOCABULARY
        for ours, theirs, _ in pairs()
    ]
    found = npo_released.loss(LOGITS, TARGET, FOLLOWING, npo_released.Params(beta=0.5))
    assert found.tolist() == pytest.approx(npos, abs=1e-5)
    # γ within β's product, as the code has it.
    simnpos = [
        -(2 / 0.5) * sum(log_sigmoid(-0.5 * (z + 0.25)) for z in ours) / VOCABULARY for ours, _, _ in pairs()
    ]
    found = simnpo_released.loss(LOGITS, None, FOLLOWING, simnpo_released.Params(beta=0.5, gamma=0.25))
    assert found.tolist() == pytest.approx(simnpos, abs=1e-5)


# ── over sequences ───────────────────────────────────────────────────────────────────────────────
EACH = [[-0.5, -2.0, -0.1, 0.0], [-3.0, -0.25, -1.0, -0.75]]
TOKENS = [3, 4]
POLICY = SeqLogps(torch.tensor(EACH).sum(-1), torch.tensor(TOKENS).float(), torch.tensor(EACH))
REFERENCE = SeqLogps(torch.tensor([-1.0, -6.0]), torch.tensor(TOKENS).float())


def test_wga_and_satimp_weigh_each_token() -> None:
    def mean(weight: Callable[[float], float]) -> float:
        rows = [
            sum(weight(math.exp(logp)) * logp for logp in row) / tokens
            for row, tokens in zip(EACH, TOKENS, strict=True)
        ]
        return sum(rows) / len(rows)

    found = wga.loss(POLICY, None, wga.Params(alpha=0.5))
    assert float(found) == pytest.approx(mean(lambda p: p**0.5), abs=1e-6)
    found = satimp.loss(POLICY, None, satimp.Params(beta1=2.0, beta2=0.5))
    assert float(found) == pytest.approx(mean(lambda p: p**2 * (1 - p) ** 0.5), abs=1e-6)


def test_npo_and_simnpo_are_means_over_rows() -> None:
    ratios = [sum(row) - there for row, there in zip(EACH, REFERENCE.total.tolist(), strict=True)]
    expected = sum(-(2 / 0.4) * log_sigmoid(-0.4 * ratio) for ratio in ratios) / 2
    assert float(npo.loss(POLICY, REFERENCE, npo.Params(beta=0.4))) == pytest.approx(expected, abs=1e-5)
    means = [sum(row) / tokens for row, tokens in zip(EACH, TOKENS, strict=True)]
    expected = sum(-(2 / 0.4) * log_sigmoid(-0.4 * mean - 0.3) for mean in means) / 2
    found = simnpo.loss(POLICY, None, simnpo.Params(beta=0.4, gamma=0.3))
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_idkdpo_prefers_the_refusal() -> None:
    refusal = SeqLogps(torch.tensor([-4.0, -1.5]), torch.tensor([2.0, 2.0]))
    before = SeqLogps(torch.tensor([-3.0, -5.0]), torch.tensor([2.0, 2.0]))
    margins = [
        (wanted - wanted_before) - (sum(row) - there)
        for wanted, wanted_before, row, there in zip(
            [-4.0, -1.5], [-3.0, -5.0], EACH, REFERENCE.total.tolist(), strict=True
        )
    ]
    expected = sum(-(2 / 0.4) * log_sigmoid(0.4 * margin) for margin in margins) / 2
    found = idkdpo.loss(POLICY, REFERENCE, refusal, before, idkdpo.Params(beta=0.4))
    assert float(found) == pytest.approx(expected, abs=1e-5)
