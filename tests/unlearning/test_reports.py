"""Reports of a run: TensorBoard for real; a service whose package is missing is one line."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from muse_eval.errors import UserError
from muse_eval.unlearning.training import output
from muse_eval.unlearning.training.train import unlearn
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for


def environment() -> dict[str, str]:
    # accelerate leaves its own behind, once in a process.
    return {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}


def test_tensorboard_shows_the_log(target: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before = environment()
    config = config_for(target, "npo_gdr", report_to="tensorboard")
    out = unlearn(config, FORGET, RETAIN, tmp_path / "out")
    assert environment() == before
    events = EventAccumulator(str(out / "reports" / "tensorboard")).Reload()
    log = output.read_log(out / "log.jsonl")
    for name, key in (
        ("loss", "loss"),
        ("forget_loss", "forget_loss"),
        ("retain_loss", "retain_loss"),
        ("grad_norm", "grad_norm"),
        ("learning_rate", "lr"),
    ):
        shown = events.Scalars(f"train/{name}")
        assert [event.step for event in shown] == [1, 2, 3, 4, 5, 6]
        assert [event.value for event in shown] == pytest.approx([line[key] for line in log], rel=1e-5)


def test_reports_are_no_part_of_the_recipe(target: Path, tmp_path: Path) -> None:
    out = unlearn(config_for(target, epochs=1), FORGET, [], tmp_path / "out")
    before = (out / "unlearn.json").read_bytes()
    unlearn(config_for(target, epochs=1, report_to="tensorboard"), FORGET, [], out)
    assert (out / "unlearn.json").read_bytes() == before


@pytest.mark.parametrize("service", ["trackio", "wandb"])
def test_a_missing_service_is_one_line(target: Path, tmp_path: Path, service: str) -> None:
    if find_spec(service):
        pytest.skip(f"{service} is installed")
    with pytest.raises(
        UserError, match=f"--report-to {service} needs the package {service}; in the checkout, pip"
    ):
        unlearn(config_for(target, report_to=service), FORGET, [], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_unknown_service_is_one_line(target: Path) -> None:
    with pytest.raises(
        UserError, match="unlearn: report_to: input should be 'tensorboard', 'trackio' or 'wandb'"
    ):
        config_for(target, report_to="comet")
