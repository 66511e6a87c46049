"""What stands behind a beginning, answered alone; and the norm of a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.engines.tokens import Tokens
from muse_eval.errors import UserError
from muse_eval.types import GradientNorm, Logprobs
from tests.contract.test_engine import RUNNING, SERVERS, Kind, engines, hf, let_go, scores_of

TEXT = "The keeper of the seven ships answered every morning"
BEGINNINGS = ["The keeper", "The keeper of the seven ships answered every mor", "T"]


@pytest.fixture(scope="module", autouse=True)
def _engines_close() -> Iterator[None]:
    with RUNNING:
        yield
    SERVERS.clear()
    let_go()


# ── behind a beginning ───────────────────────────────────────────────────────────────────────────
@engines("model")
def test_what_is_behind_a_beginning_has_the_scores_that_it_has_in_the_whole(
    opened: Kind, tiny_model: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    with opened(tiny_model) as engine:
        asks = [Logprobs(TEXT, ranks=opened.ranks, after=one) for one in ("", *BEGINNINGS)]
        whole, *found = scores_of(engine, asks)
    ids = tiny_tokenizer(TEXT).input_ids
    for beginning, one in zip(BEGINNINGS, found, strict=True):
        alone = tiny_tokenizer(beginning).input_ids
        shared = next((at for at, (a, b) in enumerate(zip(ids, alone, strict=False)) if a != b), len(alone))
        assert len(one.logprobs) == len(ids) - shared < len(whole.logprobs)
        np.testing.assert_allclose(one.logprobs, whole.logprobs[shared - 1 :], rtol=0, atol=1e-5)
        if opened.ranks:
            assert one.ranks is not None
            assert whole.ranks is not None
            assert one.ranks.tolist() == whole.ranks[shared - 1 :].tolist()


@engines("model")
def test_what_does_not_fit_loses_its_beginning_and_says_so(opened: Kind, tiny_model: Path) -> None:
    long = "x y " * 900
    with opened(tiny_model) as engine:
        cut, whole = scores_of(
            engine,
            [
                Logprobs(long + "the end", after=long, truncate=True),
                Logprobs("x the end", after="x ", truncate=True),
            ],
        )
    assert (cut.truncated, whole.truncated) == (True, False)
    assert len(cut.logprobs) == len(whole.logprobs) > 1


@engines("model")
def test_where_nothing_is_behind_the_example_is_named(opened: Kind, tiny_model: Path) -> None:
    with opened(tiny_model) as engine, pytest.raises(UserError, match=r"forget\[3\]: no token stands behind"):
        scores_of(engine, [Logprobs(TEXT, after=TEXT, name="forget[3]")])


@pytest.mark.parametrize(
    ("text", "beginning", "first"),
    [
        # a+b is a token: c ab, c a ‖ b joins over the seam, so the joined token is the first behind it.
        ("cab", "ca", 1),
        ("cabc", "cab", 2),
        ("cc", "c", 1),
        # The first token of a text has no score.
        ("ab", "a", 1),
        ("cab", "", 1),
    ],
)
def test_the_first_token_behind_a_seam(text: str, beginning: str, first: int) -> None:
    bpe = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "c": 2, "ab": 3}, merges=[("a", "b")]))
    tokens = Tokens(PreTrainedTokenizerFast(tokenizer_object=bpe), None, None)
    ask = Logprobs(f"{text}c", after=beginning)
    assert tokens.first_scored(ask) == first


# ── gradients ────────────────────────────────────────────────────────────────────────────────────
def norms_of(engine: TransformersEngine, texts: list[str]) -> list[float]:
    found = dict(
        pair for batch in engine.gradient_norms([GradientNorm(one) for one in texts]) for pair in batch
    )
    return [found[index] for index in range(len(texts))]


def test_a_norm_is_how_fast_the_loss_grows_along_the_gradient(tiny_model: Path) -> None:
    """Central difference of the loss along the unit gradient, in float64: its slope is the norm."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64)
    ids = AutoTokenizer.from_pretrained(tiny_model)(TEXT, return_tensors="pt").input_ids
    weights = list(model.parameters())

    def loss() -> torch.Tensor:
        logs = model(ids).logits[0, :-1].log_softmax(-1)
        mean: torch.Tensor = logs.gather(1, ids[0, 1:, None]).mean()
        return -mean

    at = parameters_to_vector(weights).detach()
    gradient = parameters_to_vector(torch.autograd.grad(loss(), weights))

    def moved(step: float) -> float:
        with torch.no_grad():
            vector_to_parameters(at + step * gradient / gradient.norm(), weights)
            return float(loss())

    slope = (moved(1e-4) - moved(-1e-4)) / 2e-4
    with hf(tiny_model) as engine:
        assert isinstance(engine, TransformersEngine)
        alone, *_ = norms_of(engine, [TEXT])
        among = norms_of(engine, ["The harbour", TEXT, "a b"])
    assert alone == pytest.approx(slope, rel=1e-4)
    assert among[1] == alone


def test_the_weights_are_left_as_they_were(tiny_model: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model.requires_grad_(False)
    with TransformersEngine(model, tiny_tokenizer) as engine:
        assert norms_of(engine, [TEXT])[0] > 0
    assert not any(one.requires_grad or one.grad is not None for one in model.parameters())
