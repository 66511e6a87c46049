"""Forget losses against values derived by hand on one two-token example.

The example: a sequence of two tokens to which the policy gives the probabilities 1/2 and 1/4, so
log π(y|x) = log(1/2) + log(1/4) = −0.693147 − 1.386294 = −2.079442, |y| = 2, log π(y|x)/|y| = −1.039721.
The reference gives 1/2 and 1/2: log π_ref(y|x) = −1.386294.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from muse_eval import plugins
from muse_eval.config.spec import parse_params
from muse_eval.errors import UserError
from muse_eval.types import Method, SeqLogps
from muse_eval.unlearning.heads import whole
from muse_eval.unlearning.logps import IGNORE, each_logp, sequence_logps, targets
from muse_eval.unlearning.methods import ga, idkdpo, npo, satimp, simnpo, wga

POLICY = SeqLogps(
    total=torch.tensor([-2.0794415]),
    tokens=torch.tensor([2.0]),
    each=torch.tensor([[-0.6931472, -1.3862944, 0.0]]),
)
REFERENCE = SeqLogps(total=torch.tensor([-1.3862944]), tokens=torch.tensor([2.0]))


def logps(*rows: tuple[float, float]) -> SeqLogps:
    totals, tokens = zip(*rows, strict=True)
    return SeqLogps(total=torch.tensor(totals, requires_grad=True), tokens=torch.tensor(tokens))


def gradient(loss: Tensor, of: SeqLogps) -> list[float]:
    return torch.autograd.grad(loss, of.total)[0].tolist()


# ── values by hand ───────────────────────────────────────────────────────────────────────────────
def test_ga_is_the_mean_log_probability_of_a_token() -> None:
    """−2.079442 / 2 = −1.039721."""
    assert ga.loss(POLICY, None, ga.Params()).item() == pytest.approx(-1.039721, abs=1e-6)


def test_ga_weighs_rows_alike_whatever_their_length() -> None:
    """Sums −2 over 1 token and −4 over 3: (−2 − 4/3)/2 = −5/3, where the mean over tokens is −1.5."""
    assert ga.loss(logps((-2.0, 1), (-4.0, 3)), None, ga.Params()).item() == pytest.approx(-5 / 3)


def test_npo_by_hand() -> None:
    """The value for β = 1 and for the default β = 0.1.

    log π/π_ref = −2.079442 + 1.386294 = −0.693147 = log(1/2).
    β = 1: σ(0.693147) = 1/(1 + 1/2) = 2/3, so ℓ = −2 log(2/3) = 0.810930.
    β = 0.1: σ(0.0693147) = 1/(1 + 2^−0.1) = 1/1.933033, log σ = −0.659090, ℓ = 20 · 0.659090 = 13.18180.
    """
    assert npo.loss(POLICY, REFERENCE, npo.Params(beta=1.0)).item() == pytest.approx(0.810930, abs=1e-6)
    assert npo.loss(POLICY, REFERENCE, npo.Params()).item() == pytest.approx(13.18180, abs=1e-4)


def test_simnpo_by_hand() -> None:
    """The card's ℓ at its β = 0.7, γ = 0.

    −(β/|y|) log π = 0.35 · 2.079442 = 0.727805; e^−0.727805 = 0.482968; σ = 1/1.482968 = 0.674323;
    log σ = −0.394046; ℓ = (2/0.7) · 0.394046 = 1.125846.
    """
    assert simnpo.loss(POLICY, None, simnpo.Params()).item() == pytest.approx(1.125846, abs=1e-5)


def test_simnpo_gamma_is_outside_beta() -> None:
    """With β = 2 and γ = 1: 2·1.039721 − 1 = 1.079442, not 2·(1.039721 − 1) = 0.079442.

    e^−1.079442 = 0.339785; σ = 1/1.339785; log σ = −0.292509; ℓ = (2/2) · 0.292509 = 0.292509.
    (Inside β it would be log(1 + e^−0.079442) = 0.654215.)
    """
    found = simnpo.loss(POLICY, None, simnpo.Params(beta=2.0, gamma=1.0)).item()
    assert found == pytest.approx(0.292509, abs=1e-5)


def test_wga_by_hand() -> None:
    """α = 1: (½ · log ½ + ¼ · log ¼)/2 = (−0.346574 − 0.346574)/2; α = 0 is gradient ascent."""
    assert wga.loss(POLICY, None, wga.Params()).item() == pytest.approx(-0.346574, abs=1e-6)
    assert wga.loss(POLICY, None, wga.Params(alpha=0)).item() == pytest.approx(-1.039721, abs=1e-6)


def test_satimp_by_hand() -> None:
    """Weights at β₁ = β₂ = 1: ½·½ = 0.25 and ¼·¾ = 0.1875; (0.25 · log ½ + 0.1875 · log ¼)/2 = −0.216608.

    At β₁ = 5: ½⁵·½ = 0.015625 and ¼⁵·¾ = 0.000732422; (−0.0108304 − 0.0010154)/2 = −0.0059229.
    """
    found = satimp.loss(POLICY, None, satimp.Params(beta1=1, beta2=1)).item()
    assert found == pytest.approx(-0.216608, abs=1e-6)
    assert satimp.loss(POLICY, None, satimp.Params()).item() == pytest.approx(-0.0059229, abs=1e-6)
    assert satimp.loss(POLICY, None, satimp.Params(beta1=0, beta2=0)).item() == pytest.approx(-1.039721)


@pytest.mark.parametrize(("name", "weights"), [("wga", (0.25, 0.125)), ("satimp", (0.0078125, 0.000366211))])
def test_weights_are_constants(name: str, weights: tuple[float, float]) -> None:
    """The gradient of a token's log-probability is its weight over |y| = 2, and padding has none."""
    _, method, _ = plugins.method(name)
    assert isinstance(method, Method)
    assert POLICY.each is not None
    each = POLICY.each.clone().requires_grad_()
    policy = SeqLogps(each.sum(-1), POLICY.tokens, each)
    slopes = torch.autograd.grad(method.loss(policy, None, method.params()), each)[0][0]
    assert slopes[:2].tolist() == pytest.approx(weights, rel=1e-4)


def test_idkdpo_by_hand() -> None:
    """β = 1. Forget: log ratio −log 2. Refusal: −1 + 1.693147 = log 2. σ(log 4) = 4/5; ℓ = −2 log 0.8."""
    refusal = SeqLogps(torch.tensor([-1.0]), torch.tensor([3.0]))
    before = SeqLogps(torch.tensor([-1.6931472]), torch.tensor([3.0]))
    found = idkdpo.loss(POLICY, REFERENCE, refusal, before, idkdpo.Params(beta=1.0)).item()
    assert found == pytest.approx(0.446287, abs=1e-6)


def test_idkdpo_lowers_the_forget_text_and_raises_the_refusal() -> None:
    forget, refusal = logps((-2.0, 2)), logps((-9.0, 4))
    loss = idkdpo.loss(forget, REFERENCE, refusal, logps((-9.0, 4)), idkdpo.Params())
    lowered, raised = torch.autograd.grad(loss, (forget.total, refusal.total))
    assert lowered.item() > 0 > raised.item()


def test_losses_average_over_sequences() -> None:
    both = SeqLogps(torch.cat([POLICY.total, REFERENCE.total]), torch.tensor([2.0, 2.0]))
    alone = [simnpo.loss(one, None, simnpo.Params()).item() for one in (POLICY, REFERENCE)]
    assert simnpo.loss(both, None, simnpo.Params()).item() == pytest.approx(sum(alone) / 2)


# ── what must hold everywhere ────────────────────────────────────────────────────────────────────
@given(total=st.floats(-5000, 0), beta=st.floats(0.01, 10))
def test_npo_is_two_log_two_over_beta_at_the_reference(total: float, beta: float) -> None:
    same = SeqLogps(torch.tensor([total]), torch.tensor([7.0]))
    assert npo.loss(same, same, npo.Params(beta=beta)).item() == pytest.approx(
        2 / beta * math.log(2), rel=1e-6
    )


@given(total=st.floats(-500, 0), tokens=st.integers(1, 100), beta=st.floats(0.05, 5))
def test_simnpo_is_npo_with_a_sure_reference_and_beta_over_length(
    total: float, tokens: int, beta: float
) -> None:
    """SimNPO(β) = NPO(β/|y|) / |y| where the reference is certain of y (log π_ref = 0) and γ = 0."""
    policy = SeqLogps(torch.tensor([total]), torch.tensor([float(tokens)]))
    sure = SeqLogps(torch.zeros(1), policy.tokens)
    left = simnpo.loss(policy, None, simnpo.Params(beta=beta)).item()
    right = npo.loss(policy, sure, npo.Params(beta=beta / tokens)).item() / tokens
    assert left == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize("name", ["ga", "npo", "simnpo"])
def test_a_step_down_the_gradient_lowers_the_forget_log_probability(name: str) -> None:
    _, method, _ = plugins.method(name)
    assert isinstance(method, Method)
    policy = logps((-2.0, 2), (-30.0, 10))
    loss = method.loss(policy, logps((-3.0, 2), (-20.0, 10)), method.params())
    assert all(slope > 0 for slope in gradient(loss, policy))


def test_simnpo_leaves_unlikely_and_long_sequences_in_peace() -> None:
    """Its gradient with respect to log π is (2/|y|)·(1 − σ(…)): smaller where −log π/|y| is large."""
    policy = logps((-1.0, 2), (-20.0, 2), (-10.0, 20))
    likely, unlikely, long = gradient(simnpo.loss(policy, None, simnpo.Params()), policy)
    assert likely > 100 * unlikely
    assert likely == pytest.approx(10 * long)  # same mean log-probability, ten times the length
    # One of three: (1/3)·(2/2)·(1 − σ(0.35)) = (1/3)·0.413382
    assert likely == pytest.approx(0.413382 / 3, rel=1e-5)


def test_npo_saturates_and_ga_does_not() -> None:
    policy, reference = logps((-10.0, 2), (-400.0, 2)), logps((-10.0, 2), (-10.0, 2))
    near, far = gradient(npo.loss(policy, reference, npo.Params()), policy)
    assert far < 1e-10 < near
    assert len(set(gradient(ga.loss(policy, None, ga.Params()), policy))) == 1


def test_npo_with_small_beta_pulls_as_ga_on_sums() -> None:
    """β → 0: the gradient of ℓ with respect to each log π tends to 1 (over the batch)."""
    policy = logps((-10.0, 2), (-40.0, 5))
    slopes = gradient(npo.loss(policy, logps((-9.0, 2), (-50.0, 5)), npo.Params(beta=1e-6)), policy)
    assert slopes == pytest.approx([0.5, 0.5], rel=1e-4)


def test_extreme_values_stay_finite() -> None:
    extreme = SeqLogps(torch.tensor([-1e6, 0.0]), torch.tensor([2.0, 2.0]))
    assert math.isfinite(simnpo.loss(extreme, None, simnpo.Params()).item())
    assert math.isfinite(npo.loss(extreme, REFERENCE, npo.Params()).item())


def test_only_npo_needs_a_reference() -> None:
    assert [method.METHOD.reference for method in (ga, npo, simnpo, wga, satimp)] == [False, True] + [
        False
    ] * 3


def test_names_resolve_to_loss_and_retain_term() -> None:
    names = plugins.method_names()
    assert set(names) >= {f"{loss}{end}" for loss in ("ga", "npo", "simnpo") for end in ("", "_gdr", "_klr")}
    assert [plugins.method(f"simnpo{end}")[::2] for end in ("", "_gdr", "_klr")] == [
        ("simnpo", None),
        ("simnpo", "nll"),
        ("simnpo", "kl"),
    ]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("simnpo", {"beta": 0}, "beta"),
        ("npo", {"beta": -1}, "beta"),
        ("simnpo", {"gamma": -0.1}, "gamma"),
        ("simnpo", {"beta": float("inf")}, "beta"),
        ("simnpo", {"bta": 1}, "did you mean 'beta'"),
        ("ga", {"beta": 1}, "no parameter 'beta'"),
    ],
)
def test_wrong_parameters_are_refused(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_params(plugins.method(name)[1].params, values, f"method {name}")


# ── log-probabilities ────────────────────────────────────────────────────────────────────────────
def test_logps_by_hand() -> None:
    """Three tokens, a vocabulary of two; the first token is no target, the last position predicts none.

    Position 0 has logits (0, log 3): token 1 has 3/4. Position 1 has (log 4, 0): token 0 has 4/5.
    Sum: log 0.75 + log 0.8 = log 0.6 = −0.510826, over 2 tokens.
    """
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(4), 0.0], [9.0, -9.0]]])
    labels = torch.tensor([[0, 1, 0]])
    found = sequence_logps(each_logp(whole(logits), labels), labels)
    assert found.total.item() == pytest.approx(-0.510826, abs=1e-6)
    assert found.tokens.item() == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logps_and_gradient_equal_plain_log_softmax(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muse_eval.unlearning.logps.CHUNK", 5)  # does not divide the 3 × 7 positions
    torch.manual_seed(0)
    logits = (4 * torch.randn(3, 7, 11)).to(dtype).requires_grad_()
    labels = torch.randint(11, (3, 7))
    labels[1, 4:] = IGNORE
    found = sequence_logps(each_logp(whole(logits), labels), labels)
    plain = logits[:, :-1].float().log_softmax(-1)
    mask = labels[:, 1:] != IGNORE
    expected = (plain.gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0] * mask).sum(-1)
    assert found.total.dtype == torch.float32
    assert torch.allclose(found.total, expected, atol=1e-5)
    assert found.each is not None
    assert torch.equal(found.each.sum(-1), found.total)
    assert not found.each[~torch.nn.functional.pad(mask, (0, 1))].any()
    assert found.tokens.tolist() == [6, 3, 6]
    ours = torch.autograd.grad(found.total.sum(), logits, retain_graph=True)[0]
    theirs = torch.autograd.grad(expected.sum(), logits)[0]
    assert torch.allclose(ours.float(), theirs.float(), atol=1e-6)


def test_targets_move_labels_left() -> None:
    assert targets(torch.tensor([[5, 6, 7], [8, 9, IGNORE]])).tolist() == [[6, 7, -100], [9, -100, -100]]
