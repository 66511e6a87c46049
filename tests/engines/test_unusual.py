"""Models that are built otherwise than a Llama: a decoder within the decoder, a state for keys and values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    MambaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)

from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.types import Generate, Logprobs

ENDS: dict[str, Any] = {"vocab_size": 320, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODELS: dict[str, Callable[[], Any]] = {
    "opt": lambda: OPTConfig(
        **ENDS,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=16,
        max_position_embeddings=512,
        init_std=0.2,
    ),
    "mamba": lambda: MambaConfig(
        **ENDS, hidden_size=32, state_size=4, num_hidden_layers=2, initializer_range=0.2
    ),
}
TEXTS = ("The keeper wrote.", "Nobody knew where the seven ships had gone.", "a")


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", MODELS)
def test_it_answers_as_plain_transformers_does(kind: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(5)
    model: Any = AutoModelForCausalLM.from_config(MODELS[kind]()).eval()
    ids = [torch.tensor([tiny_tokenizer(text).input_ids]) for text in TEXTS]
    with torch.inference_mode():
        logs = [model(one, use_cache=False).logits[0, :-1].log_softmax(-1) for one in ids]
        said = [model.generate(one, max_new_tokens=9, do_sample=False)[0, one.shape[1] :] for one in ids]
    with TransformersEngine(model, tiny_tokenizer) as engine:
        scored = {i: one for some in engine.logprobs([Logprobs(t) for t in TEXTS]) for i, one in some}
        made = {i: one for some in engine.generate([Generate(t, 9) for t in TEXTS]) for i, one in some}
    for i, one in enumerate(ids):
        plain = logs[i].gather(1, one[0, 1:, None])[:, 0].numpy()
        np.testing.assert_allclose(scored[i].logprobs, plain, rtol=0, atol=1e-5)
        assert made[i].text == tiny_tokenizer.decode(said[i], skip_special_tokens=True)
