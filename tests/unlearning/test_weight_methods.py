"""RMU and the task vector: losses over activations and arithmetic of weights, by hand."""

import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from muse_eval.types import ActivationMethod
from muse_eval.unlearning.methods import rmu, task_vector
from muse_eval.unlearning.training.assemble import assemble


def test_rmu_forget_by_hand() -> None:
    """Tokens (3, 4) and (0, 0), goal (0, 4): (9 + 0)/2 and (0 + 16)/2, mean 6.25; no padding."""
    activations = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [99.0, 99.0]]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0]])
    loss = rmu.forget(activations, mask, torch.tensor([0.0, 4.0]), rmu.Params())
    assert loss.item() == pytest.approx(6.25)
    slope = torch.autograd.grad(loss, activations)[0]
    # d/dh of (h − goal)²/2 dims/2 tokens = (h − goal)/2
    assert slope.tolist() == [[[1.5, 0.0], [0.0, -2.0], [0.0, 0.0]]]


def test_rmu_retain_is_weighed_by_alpha_and_0_at_the_target() -> None:
    """((1 − 0)² + (1 − 3)²)/2 = 2.5 at the one token, times α = 10."""
    ours, theirs, mask = torch.ones(1, 1, 2), torch.tensor([[[0.0, 3.0]]]), torch.ones(1, 1)
    assert rmu.retain(ours, theirs, mask, rmu.Params(alpha=10)).item() == pytest.approx(25)
    assert rmu.retain(theirs, theirs, mask, rmu.Params()).item() == 0


def test_rmu_rows_count_alike_whatever_their_length() -> None:
    """A row of one token at distance 4 and one of three at 0: (4 + 0)/2, where the mean over tokens is 1."""
    activations = torch.zeros(2, 3, 1)
    activations[0, 0, 0] = 2.0
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]])
    assert rmu.distance(activations, torch.zeros_like(activations), mask).item() == pytest.approx(2)


def test_rmu_goal_is_c_long_positive_and_the_seeds_own() -> None:
    goal = rmu.goal(64, 3, rmu.Params(c=20.0))
    assert goal.norm().item() == pytest.approx(20.0, rel=1e-6)
    assert bool((goal >= 0).all())
    assert torch.equal(goal, rmu.goal(64, 3, rmu.Params(c=20.0)))
    assert not torch.equal(goal, rmu.goal(64, 4, rmu.Params(c=20.0)))


@pytest.mark.parametrize(
    ("weight", "trained"),
    [
        ("model.layers.5.mlp.down_proj.weight", True),
        ("model.layers.7.mlp.down_proj.weight", True),
        ("transformer.h.6.mlp.c_proj.weight", True),
        ("model.layers.4.mlp.down_proj.weight", False),
        ("model.layers.8.mlp.down_proj.weight", False),
        ("model.layers.7.mlp.up_proj.weight", False),
        ("transformer.h.7.attn.c_proj.weight", False),
        ("lm_head.weight", False),
    ],
)
def test_rmu_trains_three_output_matrices(weight: str, trained: bool) -> None:
    assert rmu.trains(weight, 7) is trained


def test_rmu_steers_the_authors_layer() -> None:
    assert [rmu.layer(layers, rmu.Params()) for layers in (32, 28, 2)] == [7, 6, 0]
    assert rmu.layer(32, rmu.Params(layer=15)) == 15
    assert isinstance(rmu.METHOD, ActivationMethod)


def test_task_vector_by_hand() -> None:
    """1 − 2·(1.5 − 1) = 0 and −1 − 2·(−2 + 1) = 1."""
    merged = task_vector.merge(
        torch.tensor([1.0, -1.0]), torch.tensor([1.5, -2.0]), task_vector.Params(alpha=2)
    )
    assert merged.tolist() == [0.0, 1.0]


def test_task_vector_is_taken_in_float32() -> None:
    """3·(1.0078125 − 1) is 0.0234375 exactly; 1 − that has a place in bfloat16, 0.9765625."""
    start = torch.ones(1, dtype=torch.bfloat16)
    merged = task_vector.merge(start, torch.tensor([1.0078125]), task_vector.Params(alpha=3))
    assert merged.dtype == torch.bfloat16
    assert merged.item() == 0.9765625


def test_every_weight_is_merged_tied_ones_once(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    target, reinforced = LlamaForCausalLM(config), LlamaForCausalLM(config)
    reinforced.save_pretrained(tmp_path)
    assemble(task_vector.METHOD, "task_vector", task_vector.Params(alpha=0.5), tmp_path, target)
    found = dict(LlamaForCausalLM.from_pretrained(tmp_path).named_parameters())
    theirs = dict(reinforced.named_parameters())
    for name, start in target.named_parameters():
        assert torch.allclose(found[name], 1.5 * start - 0.5 * theirs[name], atol=1e-6), name
    assert math.isfinite(sum(weight.sum().item() for weight in found.values()))
