"""What ``auto`` reckons: when vLLM's start pays."""

import pytest

from muse_eval.engines import _device, choose_engine, like
from muse_eval.engines.cost import AutoSettings, Device, reckon, saved
from muse_eval.engines.hf.engine import GPU_TOKENS
from muse_eval.engines.settings import HfSettings, VllmSettings
from muse_eval.errors import UserError
from muse_eval.types import Generate, Logprobs

SEVEN = Device(weights=13_500_000_000, token=524_288, room=30e9)
"""Llama-2-7B in 16 bits on a card of 80 GB."""


def muse(draws: int = 1) -> list[Generate | Logprobs]:
    """Return questions of MUSE-News's lengths."""
    prompts = [Generate("x" * 3_900, max_tokens=128, sample=n) for n in range(100 * draws)]
    questions = [Generate("x" * 1_400, max_tokens=32) for _ in range(200)]
    return [*prompts, *questions, *(Logprobs("x" * 8_000) for _ in range(200))]


def test_one_model_of_muse_does_not_pay_for_a_start() -> None:
    pays, told = reckon(muse(), SEVEN, AutoSettings())
    assert not pays
    # Two batches of 128 steps and two of 32, 30 ms instead of 6.75 each.
    assert saved(muse(), SEVEN, AutoSettings()) == pytest.approx(320 * (0.03 - 0.00675))
    assert told.startswith("its faster steps are reckoned to save 7 s on this model, its start to cost 60 s")


def test_many_draws_pay() -> None:
    assert reckon(muse(draws=16), SEVEN, AutoSettings(models=1))[0]


def test_models_in_a_row_share_what_the_first_start_compiled() -> None:
    some, later = muse(draws=8), AutoSettings(vllm_start=200.0, vllm_restart=10.0)
    assert not reckon(some, SEVEN, later)[0]
    assert reckon(some, SEVEN, AutoSettings(models=20, vllm_start=200.0, vllm_restart=10.0))[0]


def test_texts_alone_save_nothing() -> None:
    assert saved([Logprobs("x" * 8_000)] * 200, SEVEN, AutoSettings()) == 0


def test_no_start_to_pay_for_takes_vllm() -> None:
    assert reckon([Logprobs("x")], SEVEN, AutoSettings(vllm_start=0.0))[0]


def test_a_step_that_reads_longer_than_it_launches_saves_nothing() -> None:
    large = Device(weights=140_000_000_000, token=327_680, room=30e9)
    assert saved(muse(), large, AutoSettings()) == 0


def test_what_is_reckoned_with_is_set_beside_the_engines_own() -> None:
    chosen = choose_engine("auto", {"vllm_start": 12, "models": 3})
    assert chosen.reckoning == AutoSettings(models=3, vllm_start=12.0)
    assert isinstance(chosen.settings, HfSettings | VllmSettings)
    with pytest.raises(UserError, match="vllm_start"):
        choose_engine("hf", {"vllm_start": 12})
    with pytest.raises(UserError, match="models"):
        choose_engine("auto", {"models": 0})


def test_a_second_model_is_asked_by_the_engine_of_the_first() -> None:
    from muse_eval.engines import Choice

    chosen = Choice("vllm", "it is installed and a GPU is here", VllmSettings(), automatic=True)
    assert like(chosen, "hf").name == "hf"
    kept = like(chosen, "vllm")
    assert kept.name == "vllm"
    assert kept.automatic
    assert reckon([Logprobs("x")], SEVEN, kept.reckoning)[0]
    told = Choice("vllm", "as told", VllmSettings())
    assert like(told, "hf") is told


def test_a_batch_has_no_more_tokens_than_the_engine_gives_it() -> None:
    """Of 1B and 8 key-value heads of 64 a token's cache is 32 KB: memory would hold far longer batches."""
    small = _device(weights=2_500_000_000, token=32_768, memory=84_000_000_000)
    assert small.room == GPU_TOKENS * 32_768
    # 110,300 tokens of VerbMem's draws and 76,400 of the questions' a draw, in batches of 131,072.
    assert saved(muse(draws=16), small, AutoSettings()) == pytest.approx((128 * 14 + 32) * (0.03 - 0.00125))
