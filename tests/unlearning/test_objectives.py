"""A step's losses on a padded batch of a small Llama, against each row alone, without padding."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div
from transformers import LlamaConfig, LlamaForCausalLM

from muse_eval import plugins
from muse_eval.unlearning import objectives, rows
from muse_eval.unlearning.methods import npo, rmu
from muse_eval.unlearning.objectives import Step, forget_loss, retain_loss, uses_retain, uses_target

FORGET = [[5, 9, 2, 7, 11], [3, 8, 4]]
RETAIN = [[6, 1, 12], [2, 3, 13, 7]]


def llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model: LlamaForCausalLM = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            initializer_range=0.5,
        )
    )
    model.eval()
    return model


MODEL, TARGET = llama(0), llama(1)


def step(params: Any = None, reference: list[float] | None = None) -> Step:
    @contextmanager
    def lent() -> Iterator[nn.Module]:
        assert torch.is_grad_enabled()
        yield TARGET

    batch: dict[str, Any] = {"forget": rows.pad(FORGET), "retain": rows.pad(RETAIN)}
    batch["reference"] = {"forget": torch.tensor(reference or [0.0, 0.0])}
    return Step(MODEL, lent, batch, params, seed=4)


@torch.no_grad()
def alone(model: LlamaForCausalLM, row: list[int], layer: int | None = None) -> torch.Tensor:
    """Run one row: its logits, or what comes out of a layer, from 0."""
    found = model(torch.tensor([row]), output_hidden_states=True)
    return found.logits[0] if layer is None else found.hidden_states[layer + 1][0]  # type: ignore[no-any-return]


def nll(row: list[int]) -> float:
    return float(cross_entropy(alone(MODEL, row)[:-1], torch.tensor(row[1:])))


def method(name: str) -> tuple[Any, str | None]:
    _, form, term = plugins.method(name)
    return form, term


def test_npo_compares_each_row_with_its_own_reference() -> None:
    reference = [-9.0, -4.0]
    sums = [-nll(row) * (len(row) - 1) for row in FORGET]
    ratios = torch.tensor([ours - theirs for ours, theirs in zip(sums, reference, strict=True)])
    expected = float((-(2 / 0.1) * nn.functional.logsigmoid(-0.1 * ratios)).mean())
    found = forget_loss(npo.METHOD, step(npo.Params(beta=0.1), reference))
    assert float(found.detach()) == pytest.approx(expected, abs=1e-4)


def test_a_teacher_s_logits_are_its_own_and_carry_no_gradient() -> None:
    form, _ = method("undial")
    params = form.params()
    each = []
    for row in FORGET:
        logits, theirs = alone(MODEL, row)[:-1], alone(TARGET, row)[:-1]
        each.append(form.loss(logits, theirs, torch.tensor(row[1:]), params).mean())
    found = forget_loss(form, step(params))
    assert float(found.detach()) == pytest.approx(float(torch.stack(each).mean()), abs=1e-4)
    found.backward()
    assert all(weight.grad is None for weight in TARGET.parameters())
    MODEL.zero_grad()


def test_rmu_steers_the_output_of_its_layer() -> None:
    params = rmu.Params(layer=1, c=2.0, alpha=3.0)
    goal = rmu.goal(8, 4, params)
    forget = [((alone(MODEL, row, 1) - goal) ** 2).mean() for row in FORGET]
    retain = [((alone(MODEL, row, 1) - alone(TARGET, row, 1)) ** 2).mean() for row in RETAIN]
    form, _ = method("rmu")
    found = forget_loss(form, step(params)), retain_loss(form, None, step(params))
    assert float(found[0].detach()) == pytest.approx(float(torch.stack(forget).mean()), abs=1e-5)
    assert float(found[1].detach()) == pytest.approx(3 * float(torch.stack(retain).mean()), abs=1e-5)


def test_a_layer_is_chosen_of_as_many_as_the_model_has() -> None:
    above = replace(rmu.METHOD, layer=lambda layers, _: layers - 2)
    params = rmu.Params(c=2.0)
    goal = rmu.goal(8, 4, params)
    expected = [((alone(MODEL, row, 1) - goal) ** 2).mean() for row in FORGET]
    found = forget_loss(above, step(params))
    assert float(found.detach()) == pytest.approx(float(torch.stack(expected).mean()), abs=1e-5)


@pytest.mark.parametrize("term", ["nll", "kl"])
def test_retain_terms_are_means_over_rows_of_means_over_tokens(term: str) -> None:
    if term == "nll":
        each = [nll(row) for row in RETAIN]
    else:
        each = [
            float(
                kl_div(
                    alone(MODEL, row)[:-1].log_softmax(-1),
                    alone(TARGET, row)[:-1].log_softmax(-1),
                    reduction="batchmean",
                    log_target=True,
                )
            )
            for row in RETAIN
        ]
    form, _ = method("ga")
    found = retain_loss(form, term, step())
    assert float(found.detach()) == pytest.approx(sum(each) / len(each), abs=1e-5)


def test_logps_are_of_the_labels_given() -> None:
    found = objectives.logps(MODEL, rows.pad(FORGET))
    assert (-found.total / found.tokens).tolist() == pytest.approx([nll(row) for row in FORGET], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "retains", "targets"),
    [
        ("ga", False, False),
        ("npo", False, False),
        ("npo_gdr", True, False),
        ("ga_klr", True, True),
        ("undial", False, True),
        ("undial_gdr", True, True),
        ("ceu", False, False),
        ("rmu", True, True),
        ("task_vector", False, False),
    ],
)
def test_what_a_method_looks_at(name: str, retains: bool, targets: bool) -> None:
    assert (uses_retain(*method(name)), uses_target(*method(name))) == (retains, targets)
