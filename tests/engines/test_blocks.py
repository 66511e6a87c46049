"""A chunk's logits are turned into answers block by block, and padding is computed for short texts alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from muse_eval.engines.hf import scoring
from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.types import Logprobs

TEXTS = ["The mill stood by the river.", "Ada wrote letters to her sister every week. " * 3, "A name."]


def test_blocks_change_no_bit(
    tiny_model: Path, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = LlamaForCausalLM.from_pretrained(tiny_model).eval(), tiny_tokenizer
    ids = [tokenizer(text).input_ids for text in TEXTS]
    asks = [Logprobs(text, moments=True, ranks=True) for text in TEXTS]
    monkeypatch.setattr(scoring, "BLOCK_ELEMENTS", 2**30)
    whole = scoring.score_texts(model, ids, asks, 0)
    seen: list[int] = []
    answers = scoring._score_logits

    def watched(logits: torch.Tensor, ids: torch.Tensor, moments: bool, ranks: bool) -> torch.Tensor:
        seen.append(len(logits))
        return answers(logits, ids, moments, ranks)

    monkeypatch.setattr(scoring, "_score_logits", watched)
    monkeypatch.setattr(scoring, "BLOCK_ELEMENTS", 3 * model.config.vocab_size)
    pieces = scoring.score_texts(model, ids, asks, 0)
    assert max(seen) == 3
    for one, other in zip(whole, pieces, strict=True):
        for name in ("logprobs", "mean", "std", "ranks"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_long_text_is_alone_in_its_batch_on_a_cpu(
    tiny_model: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model, tokenizer = LlamaForCausalLM.from_pretrained(tiny_model).eval(), tiny_tokenizer
    long = " ".join(["river"] * 150)
    engine = TransformersEngine(model, tokenizer)
    assert len(tokenizer(long).input_ids) > 512
    with engine:
        sizes = [len(batch) for batch in engine.logprobs([Logprobs(t) for t in (long, long, *TEXTS)])]
    assert sizes == [1, 1, 3]
