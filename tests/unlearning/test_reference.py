"""The reference's log-probabilities: the target's own, taken once, the same numbers after any stop."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from muse_eval.errors import UserError
from muse_eval.types import Progress
from muse_eval.unlearning import rows
from muse_eval.unlearning.training import learner, output
from muse_eval.unlearning.training.train import unlearn
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for, forget_logp, same, weights


def stop_at(step: int) -> Progress:
    def progress(_: str, done: int, __: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("method", ["npo", "simnpo"])
def test_they_are_kept_before_the_first_step_where_the_method_wants_them(
    target: Path, tmp_path: Path, method: str
) -> None:
    """Their mean is what the target gives the texts one at a time."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        unlearn(config_for(target, method), FORGET, [], out, progress=stop_at(1))
    path = output.partial(out) / "reference.json"
    assert path.exists() is (method == "npo")
    if method == "npo":
        logps = json.loads(path.read_text(encoding="utf-8"))["forget"]
        assert len(logps) == len(FORGET)
        assert sum(logps) / len(logps) == pytest.approx(forget_logp(target), rel=1e-5)
    unlearn(config_for(target, method), FORGET, [], out)
    assert not (out / "reference.json").exists()


@pytest.mark.parametrize("step", [1, 3], ids=["before any checkpoint", "after one"])
def test_a_run_that_goes_on_takes_no_second_look_once_it_has_trained(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    looks: list[int] = []
    real = learner.Unlearner.reference

    def counting(self: learner.Unlearner, some: Sequence[rows.Row], prompts: Sequence[int]) -> list[float]:
        looks.append(len(some))
        return real(self, some, prompts)

    monkeypatch.setattr(learner.Unlearner, "reference", counting)
    whole = unlearn(config_for(target, "npo_gdr"), FORGET, RETAIN, tmp_path / "whole")
    assert looks == [6]
    looks.clear()
    with pytest.raises(KeyboardInterrupt):
        unlearn(config_for(target, "npo_gdr"), FORGET, RETAIN, tmp_path / "out", progress=stop_at(step))
    unlearn(config_for(target, "npo_gdr"), FORGET, RETAIN, tmp_path / "out")
    # Before any checkpoint the model is still the target, and what lies there is not trusted.
    assert looks == ([6, 6] if step == 1 else [6])
    assert same(weights(tmp_path / "out"), weights(whole))


def begun(target: Path, out: Path) -> Path:
    """Stop after the first checkpoint, marked as version 0.1 did it; return the reference's file."""
    with pytest.raises(KeyboardInterrupt):
        unlearn(config_for(target, "npo", params={"beta": 0.1}), FORGET, [], out, progress=stop_at(3))
    (output.checkpoint(output.partial(out), 2) / output.COMPLETE).write_text("")
    return output.partial(out) / "reference.json"


def test_what_is_on_disk_is_what_is_used(target: Path, tmp_path: Path) -> None:
    """Under a reference moved up by 1000 nats, NPO's −(2/β) log σ(−β(log π − reference)) is 0."""
    out = tmp_path / "out"
    path = begun(target, out)
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"forget": [logp + 1000 for logp in kept["forget"]]}), encoding="utf-8")
    unlearn(config_for(target, "npo", params={"beta": 0.1}), FORGET, [], out)
    third = output.read_log(out / "log.jsonl")[2]
    assert third["forget_loss"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("content", ["", '{"forget": [1.0]}', '{"forget": [NaN, 1, 1, 1, 1, 1]}', "[]"])
def test_it_is_never_taken_from_a_model_half_unlearned(target: Path, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    begun(target, out).write_text(content)
    with pytest.raises(UserError, match=r"reference\.json no longer holds .* half unlearned; --overwrite"):
        unlearn(config_for(target, "npo", params={"beta": 0.1}), FORGET, [], out)
