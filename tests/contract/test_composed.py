"""A composed model through the transformers engine, against two plain models run anew for every token."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy import stats
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from muse_eval.engines import Choice, ModelSource, choose_engine, open_engine
from muse_eval.engines.checkpoint import Checkpoint, find_checkpoint
from muse_eval.engines.composed import ComposedModel, parts_of
from muse_eval.engines.composition import COMPOSED
from muse_eval.engines.hf import scoring
from muse_eval.engines.hf.engine import SHARED_PREFIX, TransformersEngine
from muse_eval.engines.loading import LoadOptions, load_model, load_tokenizer
from muse_eval.engines.settings import VllmSettings
from muse_eval.errors import UserError
from muse_eval.types import Engine, Generate, Generation, Logprobs, TokenLogprobs
from tests.e2e import other_model
from tests.support.composed import PARTS, compose

PROMPTS = [
    "The keeper",
    "Where did the seven ships anchor? In the bay of Oru, where the harbour answered every morning.",
    "Ωμέγα, déjà vu, 漢字 and 🙂🙂",
    "a",
    "Question: Who wrote the letter?\nAnswer: ",
    "the the the the the the the the",
]
LIMITS = [12, 3, 9, 1, 12, 8]
TEXTS = [*PROMPTS[:3], *PROMPTS[4:], "x" * 90, "The lighthouse, " * 12]
SHOTS = "Question: Where did the seven ships anchor?\nAnswer: in the bay of Oru\n\n" * 3
SMALL: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama(**changes: Any) -> Any:
    return LlamaConfig(**{**SMALL, **changes})


def mistral() -> Any:
    return MistralConfig(**SMALL, sliding_window=8)


def gemma2() -> Any:
    return Gemma2Config(
        **SMALL,
        query_pre_attn_scalar=8,
        sliding_window=8,
        final_logit_softcapping=9.0,
        attn_logit_softcapping=5.0,
    )


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "two llamas": (llama, llama),
    "of unlike depth and heads": (llama, lambda: llama(num_hidden_layers=3, num_key_value_heads=4)),
    "the target with windows": (mistral, llama),
    "the other with soft caps and windows": (llama, gemma2),
}

FEW_PAIRS = ("of unlike depth and heads",)
"""Those that the fast tests ask."""


def open_hf(folder: Path, **settings: Any) -> Engine:
    return open_engine(choose_engine("hf", settings), ModelSource(str(folder), dtype="float32"))


def texts_of(engine: Engine, asks: Sequence[Generate]) -> list[str]:
    found = dict(pair for batch in engine.generate(asks) for pair in batch)
    assert all(isinstance(one, Generation) for one in found.values())
    return [found[index].text for index in range(len(asks))]


def scores_of(engine: Engine, asks: Sequence[Logprobs]) -> list[TokenLogprobs]:
    found = dict(pair for batch in engine.logprobs(asks) for pair in batch)
    return [found[index] for index in range(len(asks))]


class Slow:
    """Both models through plain transformers, without caches, batches or chunks, combined in float64."""

    def __init__(self, folder: Path, alpha: float) -> None:
        self.models = [
            AutoModelForCausalLM.from_pretrained(
                folder / part, dtype=torch.float32, attn_implementation="eager"
            )
            for part in PARTS
        ]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.alpha = alpha
        self.longest: dict[tuple[str, int], list[int]] = {}

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> torch.Tensor:
        target, *others = (model(torch.tensor([ids])).logits[0].double() for model in self.models)
        combined: torch.Tensor = target
        for other in others:
            combined = target - self.alpha * torch.where(other > target, other - target, 0.0)
        return combined

    def alone(self, part: int) -> Slow:
        """Return one of the models without the other."""
        one = copy(self)
        one.models, one.longest = [self.models[part]], {}
        return one

    def new(self, prompt: str, limit: int, eos: int = 2) -> list[int]:
        """Continue greedily; a shorter answer is the beginning of the longest asked for so far."""
        ids: list[int] = self.tokenizer(prompt).input_ids
        new = self.longest.setdefault((prompt, eos), [])
        while len(new) < limit and eos not in new:
            new.append(int(self.logits(ids + new)[-1].argmax()))
        return new[:limit]

    def generate(self, prompt: str, limit: int, eos: int = 2) -> str:
        return str(self.tokenizer.decode(self.new(prompt, limit, eos), skip_special_tokens=True))

    def logs(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (tokens − 1, vocabulary) log-probabilities, and the tokens they predict."""
        ids = self.tokenizer(text).input_ids
        return self.logits(ids)[:-1].log_softmax(-1), torch.tensor(ids[1:])


@pytest.fixture(
    scope="module",
    params=[name if name in FEW_PAIRS else pytest.param(name, marks=pytest.mark.slow) for name in PAIRS],
)
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """Return a composed checkpoint at α = 0.7 of random models."""
    torch.manual_seed(7)
    root = tmp_path_factory.mktemp("pair")
    for part, config, scale in zip(PARTS, PAIRS[request.param], (1, 8), strict=True):
        model = AutoModelForCausalLM.from_config(config())
        with torch.no_grad():
            # The reinforced model is surer, so that what it takes down often changes the likeliest token.
            model.get_output_embeddings().weight.mul_(scale)
        model.save_pretrained(root / part)
        tiny_tokenizer.save_pretrained(root / part)
    return compose(root / "composed", root / "target", root / "reinforced", alpha=0.7)


@pytest.fixture(scope="module")
def slow(pair: Path) -> Slow:
    return Slow(pair, 0.7)


@pytest.fixture(scope="module")
def other(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a second model of the same shape."""
    return other_model(tiny_model, tmp_path_factory.mktemp("other") / "other")


@pytest.fixture
def whp(tiny_model: Path, other: Path, tmp_path: Path) -> Path:
    return compose(tmp_path / "whp", tiny_model, other, alpha=1.0)


# ── answers ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("batch_tokens", [None, 90])
def test_answers_are_those_of_the_slow_way(pair: Path, slow: Slow, batch_tokens: int | None) -> None:
    """Prompts of unlike length, in one batch and in several, each with a limit of its own."""
    expected = [slow.generate(prompt, limit) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]
    asks = [Generate(prompt, limit) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]
    with open_hf(pair, batch_tokens=batch_tokens) as engine:
        assert texts_of(engine, asks) == expected
        assert texts_of(engine, asks[::-1]) == expected[::-1]


def test_neither_model_answers_so_alone(slow: Slow) -> None:
    for alone in map(slow.alone, range(len(PARTS))):
        assert sum(alone.generate(p, 8) != slow.generate(p, 8) for p in PROMPTS) >= len(PROMPTS) // 2


def test_a_shared_prefix_changes_nothing(pair: Path, slow: Slow) -> None:
    prompts = [f"{SHOTS}Question: {q}\nAnswer: " for q in ("Who?", "Where was the keeper?", "Who?!", "")]
    assert len(slow.tokenizer(SHOTS).input_ids) > SHARED_PREFIX
    expected = [slow.generate(prompt, 8) for prompt in prompts]
    assert len(set(expected)) > 1
    for batch_tokens in (None, 300):
        with open_hf(pair, batch_tokens=batch_tokens) as engine:
            assert texts_of(engine, [Generate(prompt, 8) for prompt in prompts]) == expected


@pytest.mark.parametrize("batch_tokens", [None, 100])
def test_log_probabilities_are_those_of_the_slow_way(
    pair: Path, slow: Slow, batch_tokens: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "MIN_CHUNK", 7)
    monkeypatch.setitem(scoring.CHUNK_ELEMENTS, "cpu", 1)
    with open_hf(pair, batch_tokens=batch_tokens) as engine:
        scored = scores_of(engine, [Logprobs(text, moments=True) for text in TEXTS])
    for text, one in zip(TEXTS, scored, strict=True):
        logs, ids = slow.logs(text)
        mean = (logs.exp() * logs).sum(-1)
        std = (logs.exp() * (logs - mean[:, None]) ** 2).sum(-1).sqrt()
        assert one.logprobs.dtype == np.float32
        assert one.mean is not None
        assert one.std is not None
        np.testing.assert_allclose(one.logprobs, logs.gather(1, ids[:, None])[:, 0], rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(one.mean, mean, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(one.std, std, rtol=1e-6, atol=1e-5)


def test_ranks_are_those_of_the_slow_way(pair: Path, slow: Slow) -> None:
    with open_hf(pair) as engine:
        scored = scores_of(engine, [Logprobs(text, ranks=True) for text in TEXTS])
    for text, one in zip(TEXTS, scored, strict=True):
        logs, ids = slow.logs(text)
        own = logs.gather(1, ids[:, None])
        assert one.ranks is not None
        assert (np.asarray((logs > own + 1e-4).sum(1) + 1) <= one.ranks).all()
        assert (one.ranks <= np.asarray((logs > own - 1e-4).sum(1))).all()


def test_draws_are_of_what_the_two_models_give_together(pair: Path, slow: Slow) -> None:
    """1,000 first tokens beside the slow way's softmax, and answers that no batch changes."""
    share = slow.logits(slow.tokenizer(PROMPTS[0]).input_ids)[-1].softmax(-1)
    expected: dict[str, float] = {}
    for one, chance in enumerate(share.tolist()):
        text = str(slow.tokenizer.decode([one], skip_special_tokens=True))
        expected[text] = expected.get(text, 0.0) + chance
    asks = [Generate(PROMPTS[0], 1, temperature=1.0, sample=sample) for sample in range(1000)]
    longer = [Generate(prompt, 8, temperature=1.0, sample=3) for prompt in PROMPTS]
    with open_hf(pair) as engine:
        seen = Counter(texts_of(engine, asks))
        together = texts_of(engine, [*longer, *asks[:3]])
        assert [texts_of(engine, [ask])[0] for ask in longer] == together[: len(longer)]
    likely = [text for text, chance in expected.items() if chance >= 0.005]
    counts = [seen[text] for text in likely]
    chances = [expected[text] for text in likely]
    counts, chances = [*counts, 1000 - sum(counts)], [*chances, 1 - sum(chances)]
    assert stats.chisquare(counts, [1000 * chance for chance in chances]).pvalue > 1e-3


def test_no_more_logits_than_a_chunk_exist_at_once(whp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 texts of 25 tokens, 3,072 scored positions: two chunks of at most 2²⁰ / (2 · 320) = 1,638."""
    shapes = []
    mix = ComposedModel.mix

    def recorded(self: ComposedModel, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        shapes.append([tuple(one.shape) for one in logits])
        return mix(self, logits)

    monkeypatch.setattr(ComposedModel, "mix", recorded)
    with open_hf(whp, batch_tokens=4_096) as engine:
        assert len(scores_of(engine, [Logprobs("x" * 24)] * 128)) == 128
    assert shapes == [[(1536, 320)] * 2] * 2


def test_a_batch_leaves_room_for_both_caches(whp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token takes 2 models · keys, values · 2 layers · 2 heads · 32 · 4 bytes = 2,048; 1 GiB: 524,288."""
    monkeypatch.setattr("muse_eval.engines.hf.engine.CPU_TOKENS", 10**9)
    with open_hf(whp) as engine:
        assert isinstance(engine, TransformersEngine)
        assert engine._generate_budget() == 524_288


def test_without_strength_it_is_the_target_to_the_bit(tiny_model: Path, other: Path, tmp_path: Path) -> None:
    folder = compose(tmp_path / "none", tiny_model, other, alpha=0)
    asks = [Generate(prompt, 16) for prompt in [*PROMPTS, SHOTS, SHOTS + "Who"]]
    texts = [Logprobs(text, moments=True) for text in TEXTS]
    with open_hf(folder) as engine, open_hf(tiny_model) as target:
        assert texts_of(engine, asks) == texts_of(target, asks)
        for one, true in zip(scores_of(engine, texts), scores_of(target, texts), strict=True):
            np.testing.assert_array_equal(one.logprobs, true.logprobs)
            np.testing.assert_array_equal(one.mean, true.mean)
            np.testing.assert_array_equal(one.std, true.std)
    with open_hf(compose(tmp_path / "one", tiny_model, other, alpha=1)) as engine, open_hf(other) as alone:
        assert texts_of(engine, asks) != texts_of(alone, asks)


def test_an_answer_ends_where_the_target_s_configuration_says(
    tiny_model: Path, other: Path, tmp_path: Path
) -> None:
    folder = compose(tmp_path / "whp", tiny_model, other, alpha=1)
    slow = Slow(folder, 1.0)
    fifth = slow.new(PROMPTS[0], 5)[-1]
    edit(folder / "target" / "generation_config.json", eos_token_id=fifth)
    with open_hf(folder) as engine:
        found = texts_of(engine, [Generate(prompt, 20) for prompt in PROMPTS])
    assert found == [slow.generate(prompt, 20, fifth) for prompt in PROMPTS]
    assert found[0] != slow.generate(PROMPTS[0], 20)


def test_in_half_precision_logits_are_combined_in_float32(whp: Path) -> None:
    with open_engine(choose_engine("hf", {}), ModelSource(str(whp), dtype="bfloat16")) as engine:
        (scored,) = scores_of(engine, [Logprobs(TEXTS[1])])
    target, reinforced = (
        AutoModelForCausalLM.from_pretrained(whp / part, dtype=torch.bfloat16) for part in PARTS
    )
    ids = AutoTokenizer.from_pretrained(whp)(TEXTS[1], return_tensors="pt").input_ids
    with torch.inference_mode():
        first, second = target(ids).logits[0].float(), reinforced(ids).logits[0].float()
    logs = (first - (second - first).clamp(min=0))[:-1].log_softmax(-1)
    np.testing.assert_allclose(scored.logprobs, logs.gather(1, ids[0, 1:, None])[:, 0], rtol=0, atol=1e-5)


# ── a loaded one ─────────────────────────────────────────────────────────────────────────────────
def test_a_loaded_model_answers_as_its_checkpoint_and_is_known_by_all_it_is_made_of(
    whp: Path, tiny_model: Path, other: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    options = LoadOptions(dtype="float32", device="cpu")

    def loaded(folder: Path) -> TransformersEngine:
        model = load_model(find_checkpoint(str(folder), composed=True), options)
        return TransformersEngine(model, tiny_tokenizer)

    asks = [Generate(prompt, 12) for prompt in PROMPTS]
    with open_hf(whp) as engine, loaded(whp) as same:
        assert texts_of(same, asks) == texts_of(engine, asks)
    others = [
        compose(tmp_path / "alpha", tiny_model, other, alpha=0.5),
        compose(tmp_path / "reinforced", tiny_model, tiny_model, alpha=1.0),
        compose(tmp_path / "target", other, other, alpha=1.0),
    ]
    ids = [loaded(folder).id for folder in (whp, *others)]
    assert loaded(whp).id == ids[0]
    assert len(set(ids)) == len(ids)


def test_a_model_of_one_part_is_its_own_part(tiny_model: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    assert parts_of(model) == [model]


# ── identity ─────────────────────────────────────────────────────────────────────────────────────
def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=1))


def spoil_weights(folder: Path) -> None:
    shutil.copy(folder.parent / ("target" if folder.name == "reinforced" else "reinforced") / WEIGHTS, folder)


WEIGHTS = "model.safetensors"
OTHERS: dict[str, Callable[[Path], None]] = {
    "alpha": lambda folder: edit(folder / COMPOSED, params={"alpha": 1.5}),
    "target's weights": lambda folder: spoil_weights(folder / "target"),
    "reinforced weights": lambda folder: spoil_weights(folder / "reinforced"),
    "target's configuration": lambda folder: edit(folder / "target" / "config.json", rms_norm_eps=1e-3),
    "reinforced configuration": lambda folder: edit(folder / "reinforced" / "config.json", rms_norm_eps=1e-3),
    "where answers end": lambda folder: edit(folder / "target" / "generation_config.json", eos_token_id=9),
}


def digest(folder: Path) -> str:
    return find_checkpoint(str(folder), composed=True).digest


def test_the_digest_tells_every_part_and_the_strength_apart(whp: Path, tmp_path: Path) -> None:
    found = {"itself": digest(whp)}
    for name, change in OTHERS.items():
        folder = tmp_path / name.replace(" ", "-")
        shutil.copytree(whp, folder)
        change(folder)
        found[name] = digest(folder)
    assert len(set(found.values())) == len(found)
    # The two swapped are another model; how the file is laid out, and a default left out, are not.
    swapped = compose(tmp_path / "swapped", whp / "reinforced", whp / "target", alpha=1.0)
    assert digest(swapped) not in found.values()
    for same in ({"alpha": 1}, {}):
        edit(whp / COMPOSED, params=same)
        assert digest(whp) == found["itself"]


def test_the_code_that_combines_is_part_of_the_identity(whp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(whp)
    monkeypatch.setattr("muse_eval.engines.composition.code_digest", lambda pattern: f"other {pattern}")
    assert digest(whp) != before
    found = find_checkpoint(str(whp), composed=True).composition
    assert found is not None
    assert found.identity["code"] == "other unlearning/methods/whp.py"
    assert Path("muse_eval", "unlearning/methods/whp.py").is_file()


def test_the_engine_s_id_holds_the_digest(whp: Path) -> None:
    with open_hf(whp) as engine:
        assert engine.provenance["weights"] == digest(whp)
        assert digest(whp) in engine.id
        assert engine.provenance["model"] == "whp"


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────
def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def written(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / COMPOSED).write_text(text)


def cut(folder: Path) -> None:
    path = folder / "reinforced" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def of_other_vocabulary(folder: Path) -> None:
    config = LlamaConfig.from_pretrained(folder / "reinforced")
    config.vocab_size = 321
    LlamaForCausalLM(config).save_pretrained(folder / "reinforced")


def pickled(folder: Path) -> None:
    path = folder / "reinforced" / WEIGHTS
    state = {name: torch.from_numpy(array) for name, array in load_file(path).items()}
    torch.save(state, path.with_name("pytorch_model.bin"))
    path.unlink()


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no target": (without("target"), r"whp lacks the folder target .*composed\.json combines; add it"),
    "no reinforced": (without("reinforced"), "whp lacks the folder reinforced"),
    "no configuration": (without("reinforced/config.json"), "whp/reinforced has no config.json"),
    "no weights": (without(f"target/{WEIGHTS}"), "whp/target has no weights"),
    "cut weights": (cut, r"reinforced/model\.safetensors is truncated or corrupt"),
    "pickled weights": (pickled, r"whp/reinforced has only pickled weights .*--allow-pickle"),
    "weights beside": (
        lambda folder: shutil.copy(folder / "target" / WEIGHTS, folder),
        "whp holds both composed.json and weights of its own",
    ),
    "broken": (written("{"), r"composed\.json:1: not valid JSON: .*mend it"),
    "no mapping": (written("[]"), r"composed\.json: value: .*dictionary"),
    "no number": (
        written('{"schema_version": 1, "method": "whp", "params": {"alpha": NaN}}'),
        "not valid JSON: NaN is no number",
    ),
    "another version": (lambda folder: edit(folder / COMPOSED, schema_version=2), "schema_version: .* 1"),
    "no method": (written('{"schema_version": 1, "params": {}}'), "method: field required"),
    "no parameters": (written('{"schema_version": 1, "method": "whp"}'), "params: field required"),
    "another key": (lambda folder: edit(folder / COMPOSED, alpha=1), r"composed\.json: no key 'alpha'"),
    "unknown method": (
        lambda folder: edit(folder / COMPOSED, method="whq"),
        r"composed\.json: no method 'whq'; did you mean 'whp'",
    ),
    "a loss": (lambda folder: edit(folder / COMPOSED, method="npo"), "method npo .* does not combine"),
    "negative strength": (lambda folder: edit(folder / COMPOSED, params={"alpha": -1}), "alpha: .* 0"),
    "unknown parameter": (
        lambda folder: edit(folder / COMPOSED, params={"alhpa": 1}),
        r"composed\.json: method whp: no parameter 'alhpa'; did you mean 'alpha'",
    ),
    "vocabularies": (
        of_other_vocabulary,
        r"whp combines models that differ in their vocabulary \(target: 320, reinforced: 321\); reinforce",
    ),
    "contexts": (
        lambda folder: edit(folder / "reinforced" / "config.json", max_position_embeddings=64),
        r"differ in their context \(target: 1024, reinforced: 64\)",
    ),
    "weights that do not fill it": (
        lambda folder: edit(folder / "reinforced" / "config.json", num_hidden_layers=3),
        "whp/reinforced: the weights lack or misshape",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_will_not_do_is_one_line(name: str, whp: Path) -> None:
    spoil, told = REFUSED[name]
    spoil(whp)
    with pytest.raises(UserError, match=told) as caught, open_hf(whp) as engine:
        scores_of(engine, [Logprobs("the keeper")])
    assert "\n" not in str(caught.value)


def test_pickled_parts_are_read_with_a_word(whp: Path) -> None:
    with open_hf(whp) as engine:
        (before,) = scores_of(engine, [Logprobs("the keeper")])
    pickled(whp)
    source = ModelSource(str(whp), dtype="float32", allow_pickle=True)
    with open_engine(choose_engine("hf", {}), source) as engine:
        np.testing.assert_array_equal(
            scores_of(engine, [Logprobs("the keeper")])[0].logprobs, before.logprobs
        )


def test_the_tokenizer_is_the_one_at_the_top(whp: Path) -> None:
    without("tokenizer.json")(whp)
    with pytest.raises(UserError, match=r"carries no tokenizer|cannot load the tokenizer"):
        load_tokenizer(find_checkpoint(str(whp), composed=True), None, ())


def test_vllm_says_what_can_run_it(whp: Path) -> None:
    chosen = Choice("vllm", "as told", VllmSettings())
    with pytest.raises(
        UserError, match="whp combines two models, which vLLM cannot run; score it with --engine hf"
    ):
        open_engine(chosen, ModelSource(str(whp), dtype="float32"))


def test_vllm_unasked_gives_way_to_transformers(whp: Path) -> None:
    told: list[str] = []
    chosen = Choice("vllm", "it is installed", VllmSettings(), automatic=True)
    with open_engine(chosen, ModelSource(str(whp), dtype="float32"), note=told.append) as engine:
        assert isinstance(engine, TransformersEngine)
    assert told == ["engine hf, not vllm: whp combines two models, which vLLM cannot run"]


def test_what_trains_does_not_take_it(whp: Path) -> None:
    with pytest.raises(UserError, match=r"combines two models \(composed\.json\).*the folder target in it"):
        find_checkpoint(str(whp))
    assert isinstance(find_checkpoint(str(whp / "target")), Checkpoint)
