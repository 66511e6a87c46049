"""AdamW with its states in 8 bits: the same run, resumed exactly, or one line without bitsandbytes."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from muse_eval.errors import UserError
from muse_eval.unlearning import cards
from muse_eval.unlearning.training import output
from muse_eval.unlearning.training.train import unlearn
from tests.unlearning.test_reference import stop_at
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for, forget_logp, make_target, same, weights

installed = find_spec("bitsandbytes") is not None


def test_without_bitsandbytes_it_is_one_line(target: Path, tmp_path: Path) -> None:
    if installed:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(
        UserError, match="--optim adamw_8bit needs bitsandbytes; in the checkout, pip install"
    ):
        unlearn(config_for(target, optim="adamw_8bit"), FORGET, [], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_was_begun_with_bitsandbytes_needs_it_to_go_on(target: Path, tmp_path: Path) -> None:
    """Left open, the optimiser is what it was when the run began: neither switched nor another recipe."""
    if installed:
        pytest.skip("bitsandbytes is installed")
    begun = output.partial(tmp_path / "out")
    begun.mkdir()
    cards.write_json(begun / cards.RECIPE, {"optimizer": {"name": "AdamW, states in 8 bits (bitsandbytes)"}})
    with pytest.raises(UserError, match="--optim adamw_8bit needs bitsandbytes"):
        unlearn(config_for(target), FORGET, [], tmp_path / "out")
    assert [path.name for path in begun.iterdir()] == [cards.RECIPE]


@pytest.mark.slow
@pytest.mark.bnb
@pytest.mark.skipif(not installed, reason="bitsandbytes is not installed")
def test_states_have_8_bits_and_resume_exactly(tmp_path: Path) -> None:
    """Width 64, since bitsandbytes keeps what has fewer than 4,096 elements in 32 bits."""
    target = make_target(tmp_path / "target", width=64)
    config = config_for(target, "npo_gdr", optim="adamw_8bit")
    whole = unlearn(config, FORGET, RETAIN, tmp_path / "whole")
    assert forget_logp(whole) < forget_logp(target) - 0.5
    card = cards.read_json(whole / "unlearn.json")
    assert card["optimizer"]["name"] == "AdamW, states in 8 bits (bitsandbytes)"
    assert "bitsandbytes" in card["versions"]
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        unlearn(config, FORGET, RETAIN, out, progress=stop_at(3))
    saved = torch.load(output.checkpoint(output.partial(out), 2) / "optimizer.pt", weights_only=True)
    kinds = [
        part.dtype
        for state in saved["state"].values()
        for name, part in state.get("__bnb_optimizer_quant_state__", state).items()
        if name == "state1"
    ]
    assert kinds.count(torch.uint8) == 14  # q, k, v, o, gate, up and down of two layers
    unlearn(config, FORGET, RETAIN, out)
    assert same(weights(out), weights(whole))
    with pytest.raises(UserError, match="another recipe"):
        unlearn(config_for(target, "npo_gdr", optim="adamw"), FORGET, RETAIN, out)
    # Left open it is what the folder has.
    unlearn(config_for(target, "npo_gdr"), FORGET, RETAIN, out)
