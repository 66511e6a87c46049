"""What a probing is asked to do is checked before a model is opened, and every probe gets its own part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muse_eval.errors import UserError
from muse_eval.pipelines import references
from muse_eval.probing.config import ProbeConfig, Ready, check
from muse_eval.scoring.plan import plan
from muse_eval.types import ignore
from tests.e2e import write_data, write_task

ASKED = ("relearn", "finetune", "sample", "prefix", "prompt")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_task(tmp_path / "village.yaml")
    write_data(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(**more: Any) -> Ready:
    given = {"model": "m", "task": "village.yaml", "data_dir": Path("data"), "probes": ASKED}
    return check(ProbeConfig(**{**given, **more}))


@pytest.mark.parametrize("setting", ["knowmem.answer_space", "knowmem_f.answer_space"])
@pytest.mark.usefixtures("here")
def test_a_setting_goes_to_the_probes_that_ask_its_columns(setting: str) -> None:
    ready = checked(settings={setting: False})
    for chosen in ready.probes:
        columns = chosen.columns(ready.task, ready.columns)
        wanted = ready.config.scoring(ready.task, columns, "m", "m")
        assert (setting in wanted.settings) == ("knowmem_f" in columns), chosen.name
        plan(wanted)


@pytest.mark.usefixtures("here")
def test_a_setting_of_columns_that_are_not_judged_is_refused() -> None:
    with pytest.raises(UserError, match=r"--set knowmem\.…: .*knowmem_f.* not judged by"):
        checked(settings={"knowmem.answer_space": False}, metrics=("verbmem_f",), probes=("relearn",))


def test_texts_that_a_probe_asks_with_are_missed_before_anything_is_scored(here: Path) -> None:
    task = checked().task
    (here / "data" / f"{task.unlearn.retain}.json").unlink()
    with pytest.raises(UserError, match=task.unlearn.retain):
        checked(probes=("prompt",))


@pytest.mark.usefixtures("here")
def test_optional_columns_are_judged_or_refused() -> None:
    with pytest.raises(UserError, match="fluency is no column that is the better the lower"):
        checked(metrics=("+fluency",))
    ready = checked(metrics=("+extraction",), settings={"extraction.max_tokens": 64})
    assert "extraction_verbmem_f" in ready.columns
    wanted = ready.config.scoring(ready.task, ready.columns, "m", "m")
    assert wanted.settings == {"extraction.max_tokens": 64}


def test_only_the_tasks_own_controls_are_asked_for(here: Path) -> None:
    write_task(here / "village.yaml", models={"retrain": {"repo": "org/retrained"}})
    ready = checked()
    found = references(ready.comparison(["retrain"]), ready.task, ignore, ignore)
    assert found["retrain"].startswith("org/retrained")
