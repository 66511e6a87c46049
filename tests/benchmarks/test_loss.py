"""The benchmark of losses measures two ways to the same gradients."""

import pytest
import torch

from benchmarks import loss
from muse_eval.unlearning import heads


@pytest.mark.parametrize("method", loss.METHODS)
def test_chunks_and_whole_logits_give_the_same_gradients(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(heads.BOUNDS, "cpu", 5 * 300)
    gradients = []
    for whole in (False, True):
        subject = loss.Subject(300, 32, 32)
        subject.step(method, whole)
        gradients.append([weight.grad for weight in subject.model.parameters()])
    for ours, plain in zip(*gradients, strict=True):
        assert ours is not None
        assert plain is not None
        assert plain.abs().max() > 0
        torch.testing.assert_close(ours, plain)


@pytest.mark.slow
def test_a_step_takes_what_is_reckoned_at_the_most() -> None:
    """As many tokens as have their logits whole: those of forget and of retain rows are kept."""
    method, vocabulary, tokens = "simnpo_klr", 32_768, 512
    assert vocabulary * tokens == heads.BOUNDS["cpu"]
    peak, reckoned = (
        loss.elsewhere(method, False, vocabulary, tokens),
        loss.reckoned(method, vocabulary, tokens),
    )
    assert 0.5 * reckoned < peak < reckoned
