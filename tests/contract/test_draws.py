"""Sampled continuations and ranks, from each engine that gives them; a server's draws: test_server.py."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from muse_eval.engines.hf import choosing
from muse_eval.engines.hf.choosing import Chooser
from muse_eval.engines.hf.engine import SHARED_PREFIX, TransformersEngine
from muse_eval.errors import UserError
from muse_eval.types import Generate, Generation, Logprobs
from tests.contract.test_engine import (
    PROMPTS,
    RUNNING,
    SERVERS,
    SHOTS,
    TEXTS,
    Kind,
    Plain,
    engines,
    hf,
    let_go,
    plain_of,
    scores_of,
    texts_of,
    with_eos,
)

drawing = engines("model", "draws")
ranking = engines("model", "ranks")


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Plain:
    return plain_of(tiny_model)


@pytest.fixture(scope="module", autouse=True)
def _engines_close() -> Iterator[None]:
    with RUNNING:
        yield
    SERVERS.clear()
    let_go()


def drawn(prompt: str, max_tokens: int = 12, sample: int = 0, temperature: float = 1.0) -> Generate:
    return Generate(prompt, max_tokens, temperature=temperature, seed=5, sample=sample)


MIXED = [
    *(drawn(prompt, 12, sample) for prompt in PROMPTS[:3] for sample in range(3)),
    *(Generate(prompt, 12) for prompt in PROMPTS),
    *(drawn(prompt, limit, temperature=0.7) for prompt, limit in zip(PROMPTS, (1, 9, 3, 17), strict=False)),
    *(replace(drawn(prompt), top_p=0.6) for prompt in PROMPTS[1:4]),
    *(drawn(SHOTS + "Who", 6, sample) for sample in range(4)),
]


ALONE: dict[str, list[Generation]] = {}
"""Of each engine, what it says to each of them asked alone, in the first batch size."""


# ── draws ────────────────────────────────────────────────────────────────────────────────────────
@drawing
@pytest.mark.parametrize("batch_tokens", [None, pytest.param(1, marks=pytest.mark.slow), 150])
def test_a_draw_is_the_same_alone_among_others_and_in_any_order(
    opened: Kind, tiny_model: Path, batch_tokens: int | None
) -> None:
    order = random.Random(1).sample(range(len(MIXED)), len(MIXED))
    with opened(tiny_model, batch_tokens=batch_tokens) as engine:
        together = texts_of(engine, MIXED)
        shuffled = texts_of(engine, [MIXED[index] for index in order])
        if opened.name not in ALONE:
            ALONE[opened.name] = [texts_of(engine, [ask])[0] for ask in MIXED]
    alone = ALONE[opened.name]
    assert together == alone
    assert shuffled == [alone[index] for index in order]
    # Samples differ from each other and from what is likeliest.
    assert len({one.text for one in alone}) > len(MIXED) - 3


@drawing
def test_greedy_rows_among_drawn_ones_stay_greedy(opened: Kind, tiny_model: Path, plain: Plain) -> None:
    greedy = [ask for ask in MIXED if not ask.temperature]
    with opened(tiny_model) as engine:
        found = dict(zip(MIXED, texts_of(engine, MIXED), strict=True))
        # Without a temperature there is nothing that the others could decide.
        other = texts_of(engine, [replace(ask, seed=3, sample=9, top_p=0.3) for ask in greedy])
    expected = [plain.generate(ask.prompt, 12) for ask in greedy]
    assert [found[ask].text for ask in greedy] == [one.text for one in other] == expected


@drawing
def test_seed_sample_and_prompt_decide_a_draw(opened: Kind, tiny_model: Path) -> None:
    base = drawn(PROMPTS[0], 16)
    asks = [
        base,
        replace(base, name="the same"),
        replace(base, seed=6),
        replace(base, sample=1),
        replace(base, seed=1, sample=5),
        replace(base, prompt=PROMPTS[0] + " "),
    ]
    with opened(tiny_model) as engine:
        texts = [one.text for one in texts_of(engine, asks)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == len(asks) - 1


def first_tokens(plain: Plain, prompt: str, temperature: float) -> tuple[list[str], np.ndarray]:
    """Return each id as text, and softmax(logits / temperature) after a prompt."""
    ids = plain.tokenizer(prompt, return_tensors="pt").input_ids
    with torch.inference_mode():
        logits = plain.model(ids).logits[0, -1].double()
    texts = [str(plain.tokenizer.decode([one], skip_special_tokens=True)) for one in range(len(logits))]
    return texts, np.asarray((logits / temperature).softmax(-1))


def by_text(texts: Sequence[str], shares: np.ndarray) -> dict[str, float]:
    """Add up what reads alike: parts of a character, and special tokens."""
    found: dict[str, float] = {}
    for text, share in zip(texts, shares, strict=True):
        found[text] = found.get(text, 0.0) + float(share)
    return found


@drawing
@pytest.mark.parametrize("temperature", [0.5, pytest.param(1.0, marks=pytest.mark.slow), 2.0])
def test_first_tokens_are_distributed_as_the_softmax_says(
    opened: Kind, tiny_model: Path, plain: Plain, temperature: float
) -> None:
    draws = 2_000
    expected = by_text(*first_tokens(plain, PROMPTS[0], temperature))
    with opened(tiny_model) as engine:
        asks = [drawn(PROMPTS[0], 1, sample, temperature) for sample in range(draws)]
        seen = Counter(one.text for one in texts_of(engine, asks))
    assert seen.keys() <= expected.keys()
    frequent = [text for text, share in expected.items() if share * draws >= 5]
    rest = 1 - sum(expected[text] for text in frequent)
    counts = [*(seen[text] for text in frequent), draws - sum(seen[text] for text in frequent)]
    wanted = [*(expected[text] * draws for text in frequent), rest * draws]
    assert len(frequent) > 10
    assert stats.chisquare(counts, wanted).pvalue > 1e-3
    # Such counts do not come of another temperature.
    colder = by_text(*first_tokens(plain, PROMPTS[0], temperature * 0.5))
    shares = [colder[text] for text in frequent]
    assert stats.chisquare(counts, [draws * one for one in (*shares, 1 - sum(shares))]).pvalue < 1e-6


@drawing
def test_a_nucleus_cuts_the_tail_and_nothing_else(opened: Kind, tiny_model: Path, plain: Plain) -> None:
    texts, shares = first_tokens(plain, PROMPTS[0], 1.0)
    order = np.argsort(-shares)
    before = np.cumsum(shares[order]) - shares[order]
    for top_p in (1e-6, 0.1, 0.5):
        inside = {texts[index] for index in order[before < top_p]}
        with opened(tiny_model) as engine:
            asks = [replace(drawn(PROMPTS[0], 1, sample), top_p=top_p) for sample in range(300)]
            seen = {one.text for one in texts_of(engine, asks)}
        assert seen <= inside
        assert len(seen) >= 0.8 * len(inside)


@drawing
def test_stop_strings_end_a_drawn_answer(opened: Kind, tiny_model: Path) -> None:
    asks = [drawn(prompt, 24) for prompt in PROMPTS]
    with opened(tiny_model) as engine:
        whole = [one.text for one in texts_of(engine, asks)]
        stops = [(text[6:8], text[3:5]) for text in whole]
        found = texts_of(engine, [replace(ask, stop=stop) for ask, stop in zip(asks, stops, strict=True)])
        limited = texts_of(engine, [replace(ask, max_tokens=7) for ask in asks])
    for text, stop, one, short in zip(whole, stops, found, limited, strict=True):
        assert one.text == text[: min(text.find(string) for string in stop)]
        # A byte that begins a character and has no more to it reads otherwise.
        assert text.startswith(short.text.rstrip("�"))


@drawing
def test_eos_ends_a_drawn_answer(opened: Kind, tiny_model: Path, tmp_path: Path, plain: Plain) -> None:
    texts, shares = first_tokens(plain, PROMPTS[0], 1.0)
    # A whole character, so that what stands before it reads the same in a longer text.
    eos = next(one for one in np.argsort(-shares).tolist() if texts[one].isalnum() and texts[one].isascii())
    folder = with_eos(tiny_model, tmp_path / "eos", [eos, 2])
    asks = [drawn(PROMPTS[0], 8, sample) for sample in range(100)]
    with opened(tiny_model) as engine:
        whole = [one.text for one in texts_of(engine, asks)]
    with opened(folder) as engine:
        found = [one.text for one in texts_of(engine, asks)]
    # EOS is among the tokens that decoding shows unless it is special.
    shorter = [one for one, text in zip(found, whole, strict=True) if one != text]
    assert all(text.startswith(one) for one, text in zip(found, whole, strict=True))
    assert all(one.endswith(texts[eos]) for one in shorter)
    assert 0 < len(shorter) < 50


@drawing
def test_what_cannot_be_drawn_is_refused(opened: Kind, tiny_model: Path) -> None:
    for temperature, top_p, complaint in (
        (-0.5, 1.0, r"temperature is -0\.5; give 0"),
        (math.nan, 1.0, "temperature is nan"),
        (math.inf, 1.0, "temperature is inf"),
        (1.0, 0.0, "top_p is 0; give more than 0"),
        (1.0, 1.01, r"top_p is 1\.01"),
        (1.0, math.nan, "top_p is nan"),
    ):
        ask = Generate("short", 4, temperature=temperature, top_p=top_p, name="forget[2]")
        with opened(tiny_model) as engine, pytest.raises(UserError, match=rf"forget\[2\]: {complaint}"):
            engine.generate([Generate("short", 4), ask])


# ── ranks ────────────────────────────────────────────────────────────────────────────────────────
@ranking
def test_ranks_count_what_is_as_likely_or_likelier(opened: Kind, tiny_model: Path, plain: Plain) -> None:
    with opened(tiny_model) as engine:
        ranked = scores_of(engine, [Logprobs(text, ranks=True) for text in TEXTS])
        scored = scores_of(engine, [Logprobs(text) for text in TEXTS])
    sure = 0
    for text, one, other in zip(TEXTS, ranked, scored, strict=True):
        logs, ids = (np.asarray(found) for found in plain.logits(text))
        own = np.take_along_axis(logs, ids[:, None], 1)
        least, most = (logs > own + 1e-4).sum(1) + 1, (logs > own - 1e-4).sum(1)
        assert other.ranks is None
        assert one.ranks is not None
        assert one.ranks.dtype == np.int32
        assert (least <= one.ranks).all()
        assert (one.ranks <= most).all()
        sure += int((least == most).sum())
        np.testing.assert_array_equal(one.logprobs, other.logprobs)
    assert sure > 0.9 * sum(len(one.logprobs) for one in ranked)


@ranking
def test_each_text_gets_what_it_asks_for(opened: Kind, tiny_model: Path) -> None:
    asks = [
        Logprobs(text, ranks=index % 2 == 0, moments=opened.moments and index % 3 == 0)
        for index, text in enumerate(TEXTS)
    ]
    with opened(tiny_model) as engine:
        together = scores_of(engine, asks)
        for ask, one in zip(asks, together, strict=True):
            (alone,) = scores_of(engine, [ask])
            assert (one.ranks is not None, one.mean is not None) == (ask.ranks, ask.moments)
            np.testing.assert_allclose(one.logprobs, alone.logprobs, rtol=0, atol=1e-5)
            if ask.ranks:
                np.testing.assert_array_equal(one.ranks, alone.ranks)


# ── only the transformers engine ─────────────────────────────────────────────────────────────────
def by_hand(plain: Plain, ask: Generate) -> str:
    """Draw token by token with whole numbers of any size, without a cache or a batch."""
    ids: list[int] = plain.tokenizer(ask.prompt).input_ids
    content = json.dumps([ids, ask.seed, ask.sample]).encode()
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1
    new: list[int] = []
    while len(new) < ask.max_tokens and 2 not in new:
        with torch.inference_mode():
            logits = plain.model(torch.tensor([ids + new])).logits[0, -1].double() / ask.temperature
        start = mixed(seed + 0x9E3779B97F4A7C15 * (len(new) + 1))
        bits = [mixed(start + 0x9E3779B97F4A7C15 * (one + 1)) >> 12 for one in range(len(logits))]
        noise = [-math.log(-math.log((one + 0.5) / 2**52)) for one in bits]
        new.append(int((logits + torch.tensor(noise, dtype=torch.float64)).argmax()))
    return str(plain.tokenizer.decode(new, skip_special_tokens=True))


def mixed(value: int) -> int:
    value %= 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def test_draws_are_those_of_the_slow_way(tiny_model: Path, plain: Plain) -> None:
    asks = [ask for ask in MIXED if ask.temperature and ask.top_p == 1]
    with hf(tiny_model) as engine:
        found = [one.text for one in texts_of(engine, asks)]
    assert found == [by_hand(plain, ask) for ask in asks]


def test_samples_of_one_prompt_share_its_computation(
    tiny_model: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """200 samples in one batch: the prompts' tokens but the last of each, and then a token a row and step."""
    model = LlamaForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    seen: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    prompts = [PROMPTS[1], PROMPTS[4]]
    sizes = [len(tiny_tokenizer(prompt).input_ids) for prompt in prompts]
    asks = [drawn(prompt, 4, sample) for prompt in prompts for sample in range(100)]
    with TransformersEngine(model, tiny_tokenizer) as engine:
        texts = [one.text for one in texts_of(engine, asks)]
        assert len(set(texts)) > 150
        assert seen[:2] == sizes
        assert max(seen[2:]) <= 200
        seen.clear()
        long = [drawn(SHOTS, 4, sample) for sample in range(100)]
        assert len(tiny_tokenizer(SHOTS).input_ids) > SHARED_PREFIX
        assert len({one.text for one in texts_of(engine, long)}) > 75
    assert seen[:3] == [len(tiny_tokenizer(SHOTS).input_ids) - 1, 1, 100]


def test_a_nucleus_larger_than_it_is_looked_for_is_found_all_the_same(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = [replace(drawn(PROMPTS[0], 4, sample), top_p=0.8) for sample in range(50)]
    with hf(tiny_model) as engine:
        expected = texts_of(engine, asks)
        monkeypatch.setattr(choosing, "FEW", 2)
        monkeypatch.setitem(choosing.DRAW_ELEMENTS, "cpu", 1)
        assert texts_of(engine, asks) == expected


def test_logits_that_are_not_finite_leave_a_draw_undefined() -> None:
    inf, nan = math.inf, math.nan
    logits = torch.tensor([[0.0, nan, 1.0], [-inf, -inf, -inf], [-inf, 3.0, -inf], [inf, 0.0, 0.0]])
    chooser = Chooser.of([[1]] * 4, [replace(drawn("", 1, sample), top_p=0.9) for sample in range(4)])
    assert chooser.choose(logits, range(4), 0).tolist() == [-1, -1, 1, -1]


def test_the_smallest_temperature_is_greedy_and_the_largest_even() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.999]]).repeat(300, 1)
    for temperature, seen in ((5e-324, {1}), (1e308, {0, 1, 2})):
        asks = [drawn("", 1, sample, temperature) for sample in range(300)]
        assert set(Chooser.of([[1]] * 300, asks).choose(logits, range(300), 0).tolist()) == seen
