"""Weights that do not belong to the model, or are no numbers: never a score that looks like forgetting."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from muse_eval import evaluate
from muse_eval.engines import ModelSource, choose_engine, open_engine
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.engines.hf.choosing import UNDEFINED, likeliest
from muse_eval.engines.weights import check_files
from muse_eval.errors import UserError
from muse_eval.results import load_records
from muse_eval.types import Engine, Generate
from tests.e2e import write_data, write_task

Weights = dict[str, Tensor]
DOWN = "model.layers.1.mlp.down_proj.weight"


def changed(model: Path, folder: Path, change: Callable[[Weights], None], **config: object) -> Path:
    """Copy a model with other weights and another configuration."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def put(value: float) -> Callable[[Weights], None]:
    def change(weights: Weights) -> None:
        weights[DOWN][3, 1] = value

    return change


def add(name: str) -> Callable[[Weights], None]:
    return lambda weights: weights.update({name: torch.ones(4)})


def hf(folder: Path) -> Engine:
    return open_engine(choose_engine("hf", {}), ModelSource(str(folder), dtype="float32"))


def refusals(folder: Path) -> list[str]:
    """What the transformers engine says of a folder, and what is said before vLLM starts."""
    told = []
    with pytest.raises(UserError) as caught, hf(folder) as engine:
        list(engine.generate([Generate("the keeper", 4)]))
    told.append(str(caught.value))
    with pytest.raises(UserError) as caught:
        check_files(find_checkpoint(str(folder)), trust_remote_code=False)
    return [*told, str(caught.value)]


def test_weights_of_layers_that_the_configuration_leaves_out_are_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = changed(tiny_model, tmp_path / "short", lambda _: None, num_hidden_layers=1)
    for line in refusals(folder):
        assert "hold 9 parameters that its config.json does not know" in line
        assert "(first: model.layers.1.input_layernorm.weight)" in line


def test_what_the_architecture_ignores_is_no_surplus(tiny_model: Path, tmp_path: Path) -> None:
    """Old Llama checkpoints hold the rotary frequencies of each layer."""
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    folder = changed(tiny_model, tmp_path / "old", add(name))
    with hf(folder) as engine:
        assert len(list(engine.generate([Generate("the keeper", 4)]))) == 1
    check_files(find_checkpoint(str(folder)), trust_remote_code=False)
    assert "(first: spare)" in refusals(changed(tiny_model, tmp_path / "spare", add("spare")))[0]


@pytest.mark.slow  # git is asked for the version
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number_is_refused(tiny_model: Path, tmp_path: Path, value: float) -> None:
    folder = changed(tiny_model, tmp_path / "diverged", put(value))
    for line in refusals(folder):
        assert f"the weight {DOWN} holds NaN or infinity" in line
    model: Any
    tokenizer: Any
    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    write_task(tmp_path / "village.yaml")
    write_data(tmp_path / "data")
    with pytest.raises(UserError, match=f"the loaded model: the weight {DOWN} holds NaN or infinity"):
        evaluate(
            model,
            str(tmp_path / "village.yaml"),
            tokenizer=tokenizer,
            data_dir=tmp_path / "data",
            results=tmp_path / "results",
        )


@pytest.mark.slow
def test_logits_that_are_not_finite_leave_the_cell_undefined(tiny_model: Path, tmp_path: Path) -> None:
    """Weights of 3e38 are finite, and what comes of them is not: VerbMem would be 0, the best of all."""

    def huge(weights: Weights) -> None:
        weights["model.norm.weight"].fill_(3e38)

    folder = changed(tiny_model, tmp_path / "huge", huge)
    write_task(tmp_path / "village.yaml")
    write_data(tmp_path / "data")

    def score() -> dict[str, tuple[float | None, str | None]]:
        found = evaluate(
            folder,
            str(tmp_path / "village.yaml"),
            data_dir=tmp_path / "data",
            results=tmp_path / "results",
            retrain="none",
        )
        return {name: (column.value, column.reason) for name, column in found.columns.items()}

    first = score()
    assert {value for value, _ in first.values()} == {None}
    reason = "the model's logits are not finite in 3 of 3 answers (first: {}[0])"
    assert first["verbmem_f"][1] == reason.format("forget")
    assert first["knowmem_r"][1] == reason.format("qa")
    # From stored answers as from the model.
    assert score() == first
    records = [
        one for one in load_records(tmp_path / "results/runs/village/huge") if one["column"] == "verbmem_f"
    ]
    assert [one["scores"]["rougeL"] for one in records] == [None] * 3


@pytest.mark.parametrize(
    ("row", "chosen"),
    [
        ([0.0, 2.0, 1.0], 1),
        ([0.0, float("-inf"), -1.0], 0),
        ([0.0, float("nan"), 5.0], UNDEFINED),
        ([0.0, float("inf"), 5.0], UNDEFINED),
        ([float("-inf")] * 3, UNDEFINED),
    ],
)
def test_the_likeliest_token_is_one_of_a_finite_logit(row: list[float], chosen: int) -> None:
    assert likeliest(torch.tensor([row, [3.0, 1.0, 2.0]])).tolist() == [chosen, 0]
