"""What stays in memory when a training has ended: nothing, though no collection of cycles runs."""

import gc
import weakref
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from benchmarks.gpu.memory import held
from muse_eval.errors import UserError
from muse_eval.pipelines.config import PipelineConfig
from muse_eval.pipelines.stages import pipeline
from muse_eval.unlearning.on_task import finetune
from muse_eval.unlearning.training.train import unlearn
from tests.e2e.test_pipeline import make_world
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for

CPU = torch.device("cpu")
ADAPTERS = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")


@pytest.fixture(autouse=True)
def without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class StoppedError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("simnpo_gdr", {}),
        ("npo_klr", {"dtype": "mixed"}),  # a reference, a frozen copy, a wrapped forward
        ("rmu", {"params": {"layer": 0}, "gradient_checkpointing": True, "dtype": "mixed"}),
        pytest.param("npo_klr", {"lora": "r=2", "gradient_checkpointing": True}, marks=ADAPTERS),
    ],
)
def test_nothing_stays_of_a_training_that_ended_well(
    target: Path, tmp_path: Path, method: str, changes: dict[str, Any]
) -> None:
    before = held(CPU)
    unlearn(config_for(target, method, epochs=1, **changes), FORGET, RETAIN, tmp_path / "out")
    assert held(CPU) == before


@pytest.mark.slow
@pytest.mark.parametrize(("error", "changes"), [(StoppedError, {}), (UserError, {"lr": 1e30, "epochs": 9})])
def test_nothing_stays_of_a_training_that_failed_while_its_error_is_held(
    target: Path, tmp_path: Path, error: type[Exception], changes: dict[str, Any]
) -> None:
    def log(line: Mapping[str, Any]) -> None:
        if error is StoppedError and line["step"] == 2:
            raise StoppedError

    before = held(CPU)
    with pytest.raises(error) as raised:
        unlearn(config_for(target, "npo_klr", **changes), FORGET, RETAIN, tmp_path / "out", log=log)
    assert held(CPU) == before
    assert raised.value.__traceback__ is not None


@pytest.mark.slow
def test_a_mistake_that_is_found_when_the_target_is_loaded_keeps_nothing(
    target: Path, tmp_path: Path
) -> None:
    before = held(CPU)
    with pytest.raises(UserError, match="exceed the model's context") as raised:
        unlearn(config_for(target, max_len=200), [" ".join(FORGET)], [], tmp_path / "out")
    assert held(CPU) == before
    assert raised.value.__traceback__ is not None


@pytest.mark.slow
def test_a_loaded_model_is_left_as_it_came_but_for_its_weights(target: Path, tmp_path: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(target)
    mine = weakref.ref(model)
    config = config_for(target, epochs=1, dtype="mixed")
    unlearn(
        config, FORGET, [], tmp_path / "out", model=model, tokenizer=AutoTokenizer.from_pretrained(target)
    )
    assert "forward" not in vars(model)
    assert all(weight.grad is None for weight in model.parameters())
    assert model(torch.tensor([[0, 3, 4]])).logits.dtype == torch.float32
    del model
    assert mine() is None


@pytest.mark.slow
def test_each_stage_of_a_pipeline_meets_what_the_first_met(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_world(tmp_path, tiny_model)
    monkeypatch.chdir(tmp_path)
    met: list[tuple[str, int]] = []
    before = held(CPU)
    finetune(tiny_model, "village.yaml", "target", "tuned", data_dir="data", epochs=1, lr=0.01)
    met.append(("fine-tuned", held(CPU)))
    config = PipelineConfig(
        task="village.yaml",
        methods=("npo_klr",),
        data_dir=Path("data"),
        target="tuned",
        retrain="other",
        epochs=1,
        lr=0.01,
    )
    pipeline(config, stage=lambda name: met.append((name, held(CPU))))
    assert len(met) == 5
    met.append(("end", held(CPU)))
    assert met == [(name, before) for name, _ in met]
