"""Losses from chunks of logits, against those from whole logits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from muse_eval import plugins
from muse_eval.unlearning import heads, rows
from muse_eval.unlearning.objectives import Step, forget_loss, logps, retain_loss, uses_retain
from muse_eval.unlearning.training import output
from muse_eval.unlearning.training.train import unlearn
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for, make_target, weights

VOCABULARY = 23
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
BATCH: dict[str, Any] = {
    "forget": rows.pad([[5, 9, 2, 7, 11, 4, 20], [3, 8, 4]], [2, 1]),
    "refusal": rows.pad([[5, 9, 17, 18], [3, 22, 21, 1, 6]], [2, 1]),
    "retain": rows.pad([[6, 1, 12], [2, 3, 13, 7, 19, 22, 0, 4]]),
    "reference": {"forget": torch.tensor([-9.0, -4.0]), "refusal": torch.tensor([-8.0, -6.0])},
}
FORMS = ("npo_gdr", "satimp_gdr", "idkdpo_gdr", "simnpo_klr", "undial_klr", "ceu", "npo@released")
"""Reference, each token's own, preference, KL, logits with a teacher and without, all positions."""


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=16, initializer_range=0.5))


def gemma() -> PreTrainedModel:
    """Its logits are capped after the head, which is tied to the embedding."""
    small = {**SMALL, "intermediate_size": 16, "num_key_value_heads": 1, "head_dim": 4}
    return Gemma2ForCausalLM(Gemma2Config(**small, final_logit_softcapping=2.0, initializer_range=0.5))


def gpt2() -> PreTrainedModel:
    none: dict[str, Any] = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**SMALL, **none, initializer_range=0.5))


def made(kind: Callable[[], PreTrainedModel], seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    return kind()


def step(model: nn.Module, target: nn.Module, params: Any) -> Step:
    @contextmanager
    def lent() -> Iterator[nn.Module]:
        yield target

    return Step(model, lent, BATCH, params, seed=0)


def losses_and_slopes(model: nn.Module, target: nn.Module, name: str) -> tuple[Tensor, list[Tensor]]:
    """Return a method's losses and the gradient of all weights."""
    _, form, term = plugins.method(name)
    given = step(model, target, form.params())
    found = [forget_loss(form, given)]
    if uses_retain(form, term):
        found.append(retain_loss(form, term, given))
    slopes = torch.autograd.grad(sum(found, torch.zeros(())), [*model.parameters()])
    return torch.stack(found).detach(), [*slopes]


class Sizes(TorchDispatchMode):
    """Notes the largest float32 tensor over the vocabulary that any operation makes, forward or backward."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.vocabulary, self.largest = vocabulary, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else [found]:
            if (
                isinstance(one, Tensor)
                and one.dtype == torch.float32
                and one.shape[-1:] == (self.vocabulary,)
            ):
                self.largest = max(self.largest, one.numel() // self.vocabulary)
        return found


@pytest.mark.few(5)
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", [llama, gemma, gpt2])
def test_chunks_give_the_losses_and_gradients_of_whole_logits(
    kind: Callable[[], PreTrainedModel], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three positions at a time, of 14 to 16; a last piece is smaller."""
    model, target = made(kind, 0).double(), made(kind, 1).double().requires_grad_(False)
    expected, slopes = losses_and_slopes(model, target, name)
    monkeypatch.setitem(heads.BOUNDS, "cpu", 3 * VOCABULARY)
    with heads.readable(model), heads.readable(target):
        found, ours = losses_and_slopes(model, target, name)
    assert torch.allclose(found, expected, rtol=1e-6)
    for our, their in zip(ours, slopes, strict=True):
        assert torch.allclose(our, their, rtol=1e-4, atol=1e-6 * float(their.abs().max()))


@pytest.mark.parametrize("name", FORMS)
def test_one_chunk_is_bitwise_what_whole_logits_give(name: str) -> None:
    model, target = made(llama, 0), made(llama, 1).requires_grad_(False)
    expected, slopes = losses_and_slopes(model, target, name)
    with heads.readable(model), heads.readable(target):
        found, ours = losses_and_slopes(model, target, name)
    assert torch.equal(found, expected)
    assert all(map(torch.equal, ours, slopes))


def test_chunks_sum_the_head_s_gradient_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summed in bfloat16, it would be twice as far from the exact one as that of whole logits."""
    model = made(llama, 0)
    batch = rows.pad(torch.randint(VOCABULARY, (4, 64)).tolist())

    def head_slope(bound: int, mixed: bool) -> Tensor:
        monkeypatch.setitem(heads.BOUNDS, "cpu", bound)
        with heads.readable(model), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            total = logps(model, batch).total.sum()
        head: Any = model.get_output_embeddings()
        found: Tensor = torch.autograd.grad(total, head.weight)[0]
        return found

    exact = head_slope(2**26, mixed=False)
    whole, chunks = (head_slope(bound, mixed=True) - exact for bound in (2**26, VOCABULARY))
    assert chunks.norm() < 1.1 * whole.norm()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("npo_klr", {"dtype": "mixed", "gradient_checkpointing": True}),
        ("undial_gdr", {"dtype": "bfloat16"}),
        ("idkdpo_klr", {"lora": "r=2", "dtype": "mixed"}),
    ],
)
def test_no_larger_logits_exist_in_a_training(
    method: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bound of 19 positions, more than the hidden size, which the head's transpose has as rows."""
    target = make_target(tmp_path / "target")
    vocabulary = len(weights(target)["lm_head.weight"])
    seen = {}
    for name, room in {"whole": 10_000, "chunks": 19}.items():
        monkeypatch.setitem(heads.BOUNDS, "cpu", room * vocabulary)
        with Sizes(vocabulary) as seen[name]:
            unlearn(config_for(target, method, lr=1e-3, epochs=1, **changes), FORGET, RETAIN, tmp_path / name)
    assert seen["chunks"].largest <= 19 < seen["whole"].largest
    whole, chunks = (weights(tmp_path / name) for name in seen)
    assert whole.keys() == chunks.keys()
    logs = (output.read_log(tmp_path / name / output.LOG) for name in seen)
    for ours, theirs in zip(*logs, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-2)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=5e-2)


def test_whoever_does_more_than_place_by_place_is_run_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the head sees each state beside the one before it, so that chunks would give other logits."""

    class Mixing(LlamaForCausalLM):
        def forward(self, input_ids: Tensor, **given: Any) -> Any:
            output = self.model(input_ids=input_ids, **given)
            states = output.last_hidden_state
            output.logits = self.lm_head(states + states.roll(1, 1))
            return output

    torch.manual_seed(0)
    made: Any = Mixing
    model = made(LlamaConfig(**SMALL, intermediate_size=16, initializer_range=0.5))
    expected = logps(model, BATCH["forget"])
    monkeypatch.setitem(heads.BOUNDS, "cpu", 3 * VOCABULARY)
    with heads.readable(model), Sizes(VOCABULARY) as sizes:
        found = logps(model, BATCH["forget"])
    assert torch.equal(found.total, expected.total)
    assert sizes.largest == BATCH["forget"]["labels"].numel()


def test_reading_leaves_a_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its forward, the names of its weights, and the random states that dropout draws from."""
    dropping = GPT2Config(**SMALL, initializer_range=0.5)
    model, batch = made(lambda: GPT2LMHeadModel(dropping), 0).train(), BATCH["forget"]
    names, had = [*model.state_dict()], set(model.__dict__)
    torch.manual_seed(4)
    expected = logps(model, batch).total
    drawn = torch.rand(3)
    monkeypatch.setitem(heads.BOUNDS, "cpu", 3 * VOCABULARY)
    torch.manual_seed(4)
    with heads.readable(model):
        found = logps(model, batch).total
        assert torch.equal(torch.rand(3), drawn)
        assert [*model.state_dict()] == names
        assert model(batch["input_ids"]).logits.shape == (*batch["labels"].shape, VOCABULARY)
    assert torch.allclose(found, expected, rtol=1e-5)
    assert not torch.allclose(logps(model.eval(), batch).total, expected, rtol=1e-2)
    assert set(model.__dict__) == had
