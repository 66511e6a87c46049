"""Decoding as rows leave: the same tokens as alone, little copied, and one look at the device a step."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from muse_eval.engines.composed import ComposedModel
from muse_eval.engines.composition import Composition
from muse_eval.engines.hf import caches, decoding
from muse_eval.engines.hf.caches import RoomyLayer, closed_up
from muse_eval.engines.hf.choosing import likeliest
from muse_eval.unlearning.methods import whp

LAYERS, WIDTH, WINDOW = 2, 16, 8
SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "gpt-2": lambda: GPT2Config(vocab_size=97, n_embd=WIDTH, n_layer=LAYERS, n_head=2, initializer_range=0.3),
    "gpt-neox": lambda: GPTNeoXConfig(**SHAPE),
    "mistral, window of 8": lambda: MistralConfig(**SHAPE, num_key_value_heads=1, sliding_window=WINDOW),
    "gemma 2, eager, windows": lambda: Gemma2Config(
        **SHAPE,
        head_dim=8,
        num_key_value_heads=1,
        query_pre_attn_scalar=8,
        sliding_window=WINDOW,
        attn_logit_softcapping=5.0,
    ),
}


def made(name: str) -> PreTrainedModel:
    torch.manual_seed(3)
    if name == "composed":
        parts = [made("llama"), AutoModelForCausalLM.from_config(CONFIGS["llama"]())]
        model: PreTrainedModel = ComposedModel(parts, Composition("whp", whp.Params(), whp.combine))
    else:
        eager = {"attn_implementation": "eager"} if "eager" in name else {}
        model = AutoModelForCausalLM.from_config(CONFIGS[name](), **eager)
    model.eval()
    return model


@pytest.fixture(scope="module", params=[*CONFIGS, "composed"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return made(request.param)


def decoded(
    model: PreTrainedModel, prompts: Sequence[list[int]], limits: Sequence[int], shared: int = 0
) -> list[list[int]]:
    prefix = decoding.compute_prefix(model, prompts[0][:shared]) if shared else decoding.Prefix()
    return decoding.continued(
        model, prompts, limits, lambda logits, _rows, _step: likeliest(logits), lambda *_: False, prefix, 0
    )


def ragged(rows: int, seed: int = 0, longest: int = 14) -> tuple[list[list[int]], list[int]]:
    draw = random.Random(seed)
    prompts = [[draw.randrange(97) for _ in range(draw.randint(1, 12))] for _ in range(rows)]
    return prompts, [draw.randint(1, longest) for _ in range(rows)]


@torch.inference_mode()
def alone(model: PreTrainedModel, prompt: list[int], limit: int) -> list[int]:
    """Continue one prompt with no cache at all."""
    ids = list(prompt)
    for _ in range(limit):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


# ── the same tokens ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.few(7)
@pytest.mark.parametrize("seed", [0, 1])
def test_each_row_is_continued_as_it_would_be_alone(model: PreTrainedModel, seed: int) -> None:
    prompts, limits = ragged(9, seed)
    expected = [alone(model, prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
    assert decoded(model, prompts, limits) == expected
    assert len({tuple(ids) for ids in expected}) > 5


def test_behind_a_shared_prefix_too() -> None:
    model = made("llama")
    tails, limits = ragged(9, 2)
    prompts = [[5, 3, 8, 1, *tail] for tail in tails]
    expected = [alone(model, prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
    assert decoded(model, prompts, limits, shared=4) == expected


def test_where_the_room_is_used_up_while_rows_leave(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, limits = ragged(7, 3, longest=24)
    expected = decoded(model, prompts, limits)
    monkeypatch.setattr(caches, "ROOM", 3)
    assert decoded(model, prompts, limits) == expected


def test_layers_of_another_kind_are_served_as_transformers_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("mistral, window of 8")
    prompts, limits = ragged(7, 4)
    expected = decoded(model, prompts, limits)
    monkeypatch.setattr(decoding, "new_cache", lambda of: DynamicCache(config=of.config))
    assert decoded(model, prompts, limits) == expected


def test_the_last_rows_fill_the_holes() -> None:
    assert closed_up([0, 1, 2]) == [0, 1, 2]
    assert closed_up([1, 3, 5]) == [5, 1, 3]
    assert closed_up([4]) == [4]
    for seed in range(50):
        draw = random.Random(seed)
        going = sorted(draw.sample(range(20), draw.randint(1, 20)))
        places = closed_up(going)
        assert sorted(places) == going
        moved = [(to, place) for to, place in enumerate(places) if to != place]
        assert all(place >= len(going) for _, place in moved)
        assert len(moved) <= 20 - len(going)


# ── what is copied ───────────────────────────────────────────────────────────────────────────────
class Copies(TorchDispatchMode):
    """Counts the elements that are written into a key-value cache's room, and what makes new ones of it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved, self.whole = 0, 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "copy_" and args[0].dim() == 3:
            self.moved += args[0].numel()
        # A step's own states have one position.
        if name in ("index", "index_select", "clone", "cat") and out.dim() == 4 and out.shape[2] > 1:
            self.whole += out.numel()
        return out


def test_no_more_rows_are_copied_than_have_left_and_the_room_stays() -> None:
    layer = RoomyLayer()  # type: ignore[no-untyped-call]
    heads, dim, seen = 2, 4, 10
    keys = torch.arange(6.0)[:, None, None, None].expand(6, heads, seen, dim).clone()
    layer.update(keys, -keys)
    assert layer._room is not None
    room = layer._room[0].data_ptr()
    with Copies() as copies:
        layer.take(closed_up([1, 3, 4, 5]))
        layer.take(closed_up([0, 1, 2]))
        layer.take(closed_up([1]))
    # Two rows, none and one, keys and values.
    assert (copies.moved, copies.whole) == (2 * 3 * heads * seen * dim, 0)
    assert layer.keys is not None
    assert layer.values is not None
    assert layer.keys[:, 0, 0, 0].tolist() == [1]
    assert layer.values[:, 0, 0, 0].tolist() == [-1]
    step, _ = layer.update(torch.full((1, heads, 1, dim), 9.0), torch.full((1, heads, 1, dim), 9.0))
    assert step[0, 0, :, 0].tolist() == [1] * seen + [9]
    assert layer._room[0].data_ptr() == room


@pytest.mark.parametrize("name", ["llama", "mistral, window of 8", "composed"])
def test_over_a_whole_decode_at_most_the_batch_is_copied(name: str) -> None:
    model, rows, longest = made(name), 12, 20
    prompts = [[row + 1] * 12 for row in range(rows)]
    limits = [1 + (7 * row) % longest for row in range(rows)]
    assert len(set(limits)) > rows // 2
    with Copies() as copies:
        decoded(model, prompts, limits)
    with Copies() as first:
        decoded(model, prompts, [1] * rows)
    parts = 2 if name == "composed" else 1
    row = parts * LAYERS * 2 * WIDTH * (12 + longest)
    assert 0 < copies.moved <= rows * row
    assert copies.whole == first.whole


# ── what the host waits for ──────────────────────────────────────────────────────────────────────
class Looks(TorchFunctionMode):
    """Counts what hands a tensor's numbers over to Python."""

    NAMES = ("tolist", "cpu", "numpy", "__array__")

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := getattr(func, "__name__", "")) in self.NAMES:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class Reads(TorchDispatchMode):
    """Counts operations that have to know a number of a tensor, such as whether something holds."""

    NAMES = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2")

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = counts

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in self.NAMES or by_mask:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_waits() -> Iterator[Counter[str]]:
    """Count what makes the host wait for a device, in our code and in the model's."""
    counts: Counter[str] = Counter()
    with Looks(counts), Reads(counts):
        yield counts


def waits(model: PreTrainedModel, prompts: Sequence[list[int]], limits: Sequence[int]) -> Counter[str]:
    with counted_waits() as found:
        decoded(model, prompts, limits)
    return found


@pytest.mark.parametrize("way", [nullcontext, torch.inference_mode])
def test_a_wait_is_seen(way: Callable[[], AbstractContextManager[None]]) -> None:
    with way():
        tensor = torch.tensor([1, 2])
        with counted_waits() as found:
            assert bool((tensor > 0).all())
            assert int(tensor[0]) == 1
            assert tensor.tolist() == [1, 2]
            assert len(tensor[tensor > 1]) == 1
    assert found.total() == 4


@pytest.mark.few(7)
@pytest.mark.parametrize("same_length", [False, True])
def test_a_step_waits_for_its_tokens_alone_also_as_rows_leave(
    model: PreTrainedModel, same_length: bool
) -> None:
    prompts, _ = ragged(8, 5)
    if same_length:
        prompts = [(ids * 12)[:12] for ids in prompts]
    short = waits(model, prompts, [1] * 8)
    # Rows leave at five of the steps; the prompt has been read in both.
    long = waits(model, prompts, [3, 12, 5, 9, 1, 9, 12, 2])
    assert long - short == Counter({"tolist": 11})
