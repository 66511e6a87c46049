"""Which epochs a pipeline keeps unasked: how much they take, and what was begun without them."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from muse_eval import plugins
from muse_eval.pipelines import keeping
from muse_eval.pipelines.config import PipelineConfig
from muse_eval.pipelines.keeping import can_keep, forecast, is_cheap, space


def test_space_is_that_of_float32_weights_of_all_epochs(tiny_model: Path) -> None:
    """ga and npo of 3 epochs over 4 folds are 24 models; a method that leaves no epochs takes nothing."""
    task = plugins.task("muse_news_sust")
    config = PipelineConfig(task=task.name, methods=("ga", "npo", "task_vector"), epochs=3)
    with safe_open(tiny_model / "model.safetensors", framework="numpy") as weights:
        count = sum(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118 - a file
    assert space(config, task, str(tiny_model)) == 24 * count * 4
    once = config.model_copy(update={"epochs": 1})
    assert space(once, task, "never looked at") == 0


def test_what_is_cheap_is_bounded_by_size_and_by_the_free_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "not" / "yet"
    monkeypatch.setattr(keeping, "SHARE", 1.0)
    assert is_cheap(1_000_000, folder)
    assert not is_cheap(keeping.MOST + 1, folder)
    monkeypatch.setattr(keeping, "SHARE", 0.0)
    assert not is_cheap(1, folder)
    assert is_cheap(0, folder)


def begun(out: Path, *epochs: int, merged: bool = False) -> Path:
    """Leave checkpoints of some epochs, two steps each, as a run that was stopped does."""
    for epoch in epochs:
        checkpoint = out.with_name(f"{out.name}.partial") / "checkpoints" / f"checkpoint-{2 * epoch}"
        (checkpoint / "merged").mkdir(parents=True) if merged else checkpoint.mkdir(parents=True)
        (checkpoint / "complete").touch()
        (checkpoint / "trainer_state.json").write_text(json.dumps({"epoch": float(epoch)}))
    return out


def test_what_was_begun_without_keeping_its_epochs_goes_on_so(tmp_path: Path) -> None:
    assert can_keep(tmp_path / "new", None)
    assert can_keep(begun(tmp_path / "first", 1), None)
    whole = begun(tmp_path / "whole", 1, 2, 3)
    assert can_keep(whole, None)
    # A kill in the midst of the fourth one's files.
    (tmp_path / "whole.partial" / "checkpoints" / "checkpoint-8").mkdir()
    assert can_keep(whole, None)
    assert not can_keep(begun(tmp_path / "last", 3), None)
    # Adapters alone are no model: keeping them would mean beginning again.
    assert not can_keep(begun(tmp_path / "adapters", 1), "r=4")
    assert can_keep(begun(tmp_path / "both", 1, merged=True), "r=4")


def test_what_is_made_already_is_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "kept" / "checkpoints").mkdir(parents=True)
    assert not can_keep(tmp_path / "plain", None)
    assert can_keep(tmp_path / "kept", None)


def test_the_forecast_names_sizes_and_is_for_what_is_still_to_be_made(tmp_path: Path) -> None:
    task = plugins.task("muse_news")
    config = PipelineConfig(task=task.name, methods=("ga",), results=tmp_path)
    told = forecast(config, task, 270_000_000_000)
    assert "All epochs would take 270 GB: --keep-checkpoints keeps them, --trajectory scores them" in told
    (tmp_path / "models" / "muse_news" / "ga").mkdir(parents=True)
    assert forecast(config, task, 270_000_000_000) == ""
    assert forecast(config.model_copy(update={"overwrite": True}), task, 270_000_000_000) == told
