"""The vLLM engine beyond the contract: memory, life and death, and what it refuses."""

from __future__ import annotations

import gc
import os
import random
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from gc import collect  # A fixture takes ``gc.collect`` away.
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from muse_eval.api import unlearn
from muse_eval.engines import ModelSource, choose_engine, open_engine
from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.engines.vllm.engine import VllmEngine
from muse_eval.errors import UserError
from muse_eval.types import Engine, Generate, Generation, Logprobs, Request, TokenLogprobs
from tests.e2e import other_model, write_data, write_task

PROMPTS = ["The keeper", "Where did the seven ships anchor?", "Who wrote the letter to the harbour?", "a"]
SHOTS = "Question: Where did the seven ships anchor?\nAnswer: in the bay of Oru\n\n" * 6
TEXTS = [
    SHOTS,
    SHOTS + "The keeper",
    SHOTS + "Nobody knew where the seven ships had gone.",
    "The lighthouse.",
]


def opened(folder: Path, name: str = "vllm", asks: tuple[Request, ...] = (), **settings: Any) -> Engine:
    source = ModelSource(str(folder), dtype="float32")
    return open_engine(choose_engine(name, settings), source, asks=asks)


def generations(engine: Engine, asks: list[Generate]) -> list[Generation]:
    found = dict(pair for batch in engine.generate(asks) for pair in batch)
    return [found[index] for index in range(len(asks))]


def scores(engine: Engine, asks: list[Logprobs]) -> list[TokenLogprobs]:
    found = dict(pair for batch in engine.logprobs(asks) for pair in batch)
    return [found[index] for index in range(len(asks))]


# ── life and death ───────────────────────────────────────────────────────────────────────────────
def test_two_models_one_after_the_other_in_one_process(tiny_model: Path, tmp_path: Path) -> None:
    other = other_model(tiny_model, tmp_path / "other")
    asks = [Generate(prompt, 12) for prompt in PROMPTS]
    answers: dict[Path, list[Generation]] = {}
    for folder in (tiny_model, other, tiny_model):
        with opened(folder) as engine:
            found = generations(engine, asks)
        assert answers.setdefault(folder, found) == found
        with opened(folder, "hf") as engine:
            assert generations(engine, asks) == found
    assert answers[tiny_model] != answers[other]


def test_unlearning_after_scoring(tiny_model: Path, tmp_path: Path) -> None:
    with opened(tiny_model) as engine:
        before = scores(engine, [Logprobs(TEXTS[3])])
    task, data = write_task(tmp_path / "village.yaml"), write_data(tmp_path / "data")
    made = unlearn(tiny_model, str(task), "ga", tmp_path / "out", data_dir=data)
    with opened(made) as engine:
        after = scores(engine, [Logprobs(TEXTS[3])])
    assert not np.allclose(before[0].logprobs, after[0].logprobs, atol=1e-3)


def test_closing_lets_go_of_the_weights(tiny_model: Path) -> None:
    def parameters() -> list[torch.nn.Parameter]:
        gc.unfreeze()  # vLLM hides what there is at its start from the collector.
        return [one for one in gc.get_objects() if issubclass(type(one), torch.nn.Parameter)]

    engine = opened(tiny_model)
    assert isinstance(engine, VllmEngine)
    others = {id(one): one for one in parameters()}  # Kept, so that no id is taken anew.
    with engine:
        generations(engine, [Generate("The keeper", 2)])
        assert engine._llm is not None
        held = [weakref.ref(one) for one in parameters() if id(one) not in others]
        assert len(held) > 10
    assert engine._llm is None
    collect()
    assert not [one for one in held if one() is not None]
    assert not torch.distributed.is_initialized()


def test_answers_that_nobody_takes_do_not_hold_up_the_next_question(tiny_model: Path) -> None:
    with opened(tiny_model, batch_tokens=16) as engine:
        batches: Iterator[Any] = iter(engine.logprobs([Logprobs(text) for text in TEXTS]))
        del batches
        assert len(generations(engine, [Generate("The keeper", 4)])) == 1
        assert isinstance(engine, VllmEngine)
        assert not engine._llm.has_unfinished_requests()


# ── memory ───────────────────────────────────────────────────────────────────────────────────────
def test_the_context_is_what_the_questions_need(tiny_model: Path) -> None:
    notes: list[str] = []
    asks = (Generate("The keeper", 8), Logprobs(SHOTS))
    with opened(tiny_model, "hf") as plain:
        (scored,) = scores(plain, [Logprobs(SHOTS)])
    source = ModelSource(str(tiny_model), dtype="float32")
    with open_engine(choose_engine("vllm", {}), source, asks=asks, note=notes.append) as engine:
        generations(engine, [Generate("The keeper", 8)])
        scores(engine, [Logprobs(SHOTS)])
        # Opened once, for the longest of both; what is longer opens it again.
        assert [line.split(";")[0] for line in notes] == [
            f"engine vllm: context {len(scored.logprobs) + 2} tokens"
        ]
        scores(engine, [Logprobs(SHOTS + SHOTS)])
    assert len(notes) == 2


def test_the_bound_of_a_step_follows_the_vocabulary(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(tiny_model)
    assert isinstance(engine, VllmEngine)
    bounds = []
    for vocabulary in (320, 32_000, 128_000):
        engine._config.vocab_size = vocabulary
        monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**32})())
        bounds.append(engine._starter.batch_tokens())
    # A quarter of 4 GiB over three float32 tables.
    assert bounds == [4_096, 2**30 // (32_000 * 12), 2**30 // (128_000 * 12)]


def test_each_model_has_a_cache_of_its_own_size(
    tiny_model: Path,
    tmp_path: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = saved(tmp_path / "wide", tiny_tokenizer, num_attention_heads=32, head_dim=128)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**36})())
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "")
    sizes = []
    for folder in (tiny_model, wide, tiny_model):
        engine = opened(folder)
        assert isinstance(engine, VllmEngine)
        engine._starter._arguments(8_192, 256, whole=False)
        sizes.append(os.environ["VLLM_CPU_KVCACHE_SPACE"])
    # Keys and values of 32 heads of 128 in float32, for eight requests, and the rest of a GiB.
    assert sizes == ["1", "3", "1"]


def test_where_memory_runs_out_it_is_tried_once_more_with_half(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm import LLMEngine

    step, sizes = LLMEngine.step, []

    def scarce(self: Any) -> Any:
        limit = self.vllm_config.scheduler_config.max_num_batched_tokens
        sizes.append(limit)
        if limit > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self)

    asks = tuple(Logprobs(text) for text in TEXTS)
    with opened(tiny_model, asks=asks) as engine:
        expected = scores(engine, list(asks))
    monkeypatch.setattr(LLMEngine, "step", scarce)
    with opened(tiny_model, asks=asks, batch_tokens=128) as engine:
        found = scores(engine, list(asks))
    assert set(sizes) == {128, 64}
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=0, atol=1e-5)
    with (
        opened(tiny_model, asks=asks, batch_tokens=512) as engine,
        pytest.raises(UserError, match="does not fit in memory"),
    ):
        scores(engine, list(asks))


# ── the cache of prefixes ────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("seed", [0, 1])
def test_cached_prefixes_leave_logprobs_alone(tiny_model: Path, seed: int) -> None:
    order = random.Random(seed).sample(range(len(TEXTS)), len(TEXTS))
    with opened(tiny_model, "hf") as plain:
        expected = scores(plain, [Logprobs(text) for text in TEXTS])
    with opened(tiny_model) as engine:
        # Fills the cache with the very prefixes that the texts begin with.
        generations(engine, [Generate(text, 4) for text in TEXTS])
        for _ in range(2):
            found = scores(engine, [Logprobs(TEXTS[index]) for index in order])
            for index, one in zip(order, found, strict=True):
                np.testing.assert_allclose(one.logprobs, expected[index].logprobs, rtol=0, atol=1e-4)


# ── what it refuses ──────────────────────────────────────────────────────────────────────────────
def saved(folder: Path, tokenizer: PreTrainedTokenizerFast, **sizes: Any) -> Path:
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 65_536,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    LlamaForCausalLM(LlamaConfig(**{**common, **sizes})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_shape_that_it_cannot_run_is_one_line(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = saved(tmp_path / "odd", tiny_tokenizer, head_dim=8)
    with opened(folder) as engine, pytest.raises(UserError, match=r"vLLM cannot run odd: .*--engine hf"):
        generations(engine, [Generate("The keeper", 2)])


def test_no_room_for_the_cache_is_one_line(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    folder = saved(
        tmp_path / "wide",
        tiny_tokenizer,
        num_hidden_layers=4,
        num_attention_heads=32,
        num_key_value_heads=32,
        head_dim=128,
    )
    with (
        opened(folder, kv_cache_gib=1) as engine,
        pytest.raises(UserError, match=r"no memory for the key-value cache of wide .*engine\.kv_cache_gib"),
    ):
        scores(engine, [Logprobs("a " * 9_000)])


# ── identity ─────────────────────────────────────────────────────────────────────────────────────
def test_a_quantized_model_is_another(tiny_model: Path) -> None:
    plain, quantized = opened(tiny_model), opened(tiny_model, quantization="fp8")
    assert plain.id != quantized.id
    assert (plain.provenance["quantization"], quantized.provenance["quantization"]) == (None, "fp8")


def test_auto_takes_what_vllm_cannot_run_to_transformers(tiny_model: Path, tmp_path: Path) -> None:
    """On a GPU ``auto`` is vLLM; its choice is made here by hand."""
    odd = tmp_path / "odd"
    shutil.copytree(tiny_model, odd)
    path = odd / "config.json"
    path.write_text(path.read_text().replace('"LlamaForCausalLM"', '"NobodyForCausalLM"'))
    choice = replace(choose_engine("vllm", {}), automatic=True)
    notes: list[str] = []
    with open_engine(choice, ModelSource(str(tiny_model), dtype="float32"), note=notes.append) as engine:
        assert isinstance(engine, VllmEngine)
    with open_engine(choice, ModelSource(str(odd), dtype="float32"), note=notes.append) as engine:
        assert isinstance(engine, TransformersEngine)
    assert notes == ["engine hf, not vllm: it does not know the architecture NobodyForCausalLM"]
