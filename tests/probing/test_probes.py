"""Every probe keeps its form, and rounding gives the numbers that its scheme prescribes."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from muse_eval import plugins
from muse_eval.config import parse_params
from muse_eval.errors import UserError
from muse_eval.probes import quantize
from muse_eval.types import ModelProbe

torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.mark.parametrize("name", plugins.probe_names())
def test_a_probe_names_its_strengths_under_both_budgets(name: str) -> None:
    probe = plugins.probe(name)
    for values in ({}, probe.quick):
        strengths = probe.strengths(parse_params(probe.params, values, name))
        assert len(set(strengths)) == len(strengths) > 0
        assert all(strength.isprintable() and "/" not in strength for strength in strengths)
    assert probe.says.format("x") != probe.says
    assert plugins.summary(plugins.PROBES, name).endswith(".")


def test_an_unknown_probe_is_told() -> None:
    with pytest.raises(UserError, match=r"no probe 'relern'.*relearn"):
        plugins.probe("relern")


def test_trainings_count_their_steps() -> None:
    probe = plugins.probe("relearn")
    assert isinstance(probe, ModelProbe)
    assert probe.steps(probe.params()) == 150


@torchao
def test_int8_has_a_scale_for_each_output() -> None:
    torch.manual_seed(0)
    weight = torch.randn(2, 64) * torch.tensor([[1.0], [1000.0]])
    rounded = quantize.by_torchao(weight, "int8")
    # 256 levels span twice the row's largest weight, and rounding is off by half a level, at the end by one.
    off = (rounded - weight).abs().amax(1) / weight.abs().amax(1)
    assert float(off.max()) <= 2 / 255 + 1e-6
    assert float(off.min()) > 0


@torchao
def test_int4_has_a_scale_for_each_32_weights() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 64)
    weight[:, 32:] *= 100
    rounded = quantize.by_torchao(weight, "int4")
    for part in (slice(0, 32), slice(32, 64)):
        assert len(rounded[0, part].unique()) <= 16
        # 16 levels span twice the largest of 32, and rounding is off by half a level, at the end by one.
        off = (rounded[:, part] - weight[:, part]).abs().amax(1) / weight[:, part].abs().amax(1)
        assert float(off.max()) <= 2 / 15 + 1e-6
    with pytest.raises(UserError, match="int4 rounds groups of 32 weights, and a layer has 40 inputs"):
        quantize.by_torchao(torch.randn(3, 40), "int4")


@bitsandbytes
@pytest.mark.parametrize("shape", [(4, 64), (64, 96), (5, 7)])
def test_nf4_takes_the_nearest_of_sixteen_levels_in_blocks_of_64(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    rounded = quantize.by_bitsandbytes(weight, "nf4").flatten()
    # The levels as published (arXiv 2305.14314, appendix E).
    below = [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.09105, 0.0]
    above = [0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.562617, 0.7229568, 1.0]
    levels = torch.tensor([*below, *above])
    for start in range(0, weight.numel(), 64):
        block = weight.flatten()[start : start + 64]
        scale = block.abs().max()
        nearest = levels[((block / scale)[:, None] - levels).abs().argmin(1)] * scale
        assert torch.allclose(rounded[start : start + 64], nearest, atol=1e-5)


def test_another_version_of_a_package_makes_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "version", {"torchao": "0.1", "bitsandbytes": "0.2"}.__getitem__)
    assert quantize.label("int4") == "int4-torchao-0.1"
    assert quantize.label("nf4") == "nf4-bitsandbytes-0.2"


def test_what_is_missing_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "find_spec", lambda name: None if name == "bitsandbytes" else name)
    assert quantize.lacks(quantize.Params()) == (
        "nf4 needs bitsandbytes: in the checkout, pip install '.[quantize]', "
        "or --set quantize.schemes=[int8,int4]"
    )
    assert quantize.lacks(quantize.Params(("int8",))) == ""
