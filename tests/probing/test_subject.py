"""Altered models: which weights change, what training leaves at each stop, what is not made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from muse_eval import plugins
from muse_eval.data import open_data
from muse_eval.errors import UserError
from muse_eval.probing.subject import TaskSubject
from muse_eval.types import ignore
from tests.e2e import TEXTS, write_data, write_task

Make = Callable[..., TaskSubject]


@pytest.fixture
def subject(tiny_model: Path, tmp_path: Path) -> Make:
    task = plugins.task(str(write_task(tmp_path / "village.yaml")))
    data = open_data(task, write_data(tmp_path / "data"))

    def make(**changes: Any) -> TaskSubject:
        given: dict[str, Any] = {
            "model": str(tiny_model), "digest": "d", "task": task, "data": data, "given": None,
            "home": tmp_path / "probes", "probe": "relearn", "means": {"dtype": "float32"},
            "progress": ignore, "log": ignore, "note": ignore,
        }  # fmt: skip
        return TaskSubject(**given | changes)

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_linear_layers_change_and_nothing_else(subject: Make, tiny_model: Path) -> None:
    made = weights(subject().reweigh("half", lambda weight: weight / 2))
    before = weights(tiny_model)
    halved = {name for name in before if torch.equal(made[name], before[name] / 2)}
    assert halved == {name for name in before if "_proj" in name}
    assert all(torch.equal(made[name], before[name]) for name in before.keys() - halved)


def test_changed_weights_are_made_once_and_again_after_a_kill(subject: Make) -> None:
    calls: list[int] = []

    def change(weight: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return weight * 3

    with pytest.raises(KeyboardInterrupt):
        subject().reweigh("triple", change)
    whole = subject().reweigh("triple", change)
    asked = len(calls)
    assert subject().reweigh("triple", change) == whole
    assert len(calls) == asked
    assert subject(digest="other").reweigh("triple", change) != whole


@pytest.mark.slow
def test_each_stop_leaves_a_model_of_one_training(subject: Make) -> None:
    given: dict[str, Any] = {"lr": 1e-2, "batch_size": 2}
    several = subject().train(TEXTS[:4], (1, 3), **given)
    alone = subject().train(TEXTS[:4], (3,), **given)
    assert several.keys() == {1, 3}
    assert all((folder / "tokenizer.json").is_file() for folder in several.values())
    last, same = weights(several[3]), weights(alone[3])
    assert all(torch.equal(last[name], same[name]) for name in same)
    assert not all(torch.equal(last[name], one) for name, one in weights(several[1]).items())


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(subject: Make, tmp_path: Path) -> None:
    given: dict[str, Any] = {"lr": 1e-2, "batch_size": 2}
    steps: list[int] = []

    def stop(line: Any) -> None:
        steps.append(line["step"])
        if len(steps) == 3:
            raise KeyboardInterrupt

    whole = weights(subject(home=tmp_path / "whole").train(TEXTS[:4], (2, 4), **given)[4])
    with pytest.raises(KeyboardInterrupt):
        subject(log=stop).train(TEXTS[:4], (2, 4), **given)
    resumed = weights(subject(log=stop).train(TEXTS[:4], (2, 4), **given)[4])
    assert steps == [1, 2, 3, 3, 4]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
def test_the_tasks_rate_where_none_is_given(subject: Make) -> None:
    rates: list[float] = []
    subject(log=lambda line: rates.append(line["lr"])).train(TEXTS[:2], (1,), lr=None, batch_size=2)
    assert rates == [0.001]


def test_texts_of_the_task_or_given(subject: Make, tmp_path: Path) -> None:
    assert subject().texts("forget") == TEXTS[:4]
    assert subject().texts("retain") == subject().texts("given") == TEXTS[2:]
    path = tmp_path / "texts.txt"
    path.write_text("one\ntext\n\n\nanother\n", encoding="utf-8")
    assert [text.strip() for text in subject(given=path).texts("given")] == ["one\ntext", "another"]
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(UserError, match="holds no text"):
        subject(given=path).texts("given")
