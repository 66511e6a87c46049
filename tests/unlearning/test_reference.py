"""The reference's log-probabilities: the target's own, taken once, the same numbers after any stop."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

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
def test_a_run_that_goes_on_takes_no_second_look(
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
    assert looks == [6]
    assert same(weights(tmp_path / "out"), weights(whole))


def test_what_is_on_disk_is_what_is_used(target: Path, tmp_path: Path) -> None:
    """All moved by 10 nats: NPO's first loss is −(2/β) log σ(−β(−10)) = 20 · log(1 + e⁻¹) = 6.26523."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        unlearn(config_for(target, "npo", params={"beta": 0.1}), FORGET, [], out, progress=stop_at(1))
    path = output.partial(out) / "reference.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"forget": [logp + 10 for logp in kept["forget"]]}), encoding="utf-8")
    unlearn(config_for(target, "npo", params={"beta": 0.1}), FORGET, [], out)
    first = output.read_log(out / "log.jsonl")[0]
    assert first["forget_loss"] == pytest.approx(6.26523, abs=1e-4)
