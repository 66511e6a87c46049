"""What a probe did is known before it is done, and what shapes a model is part of its folder's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muse_eval import plugins
from muse_eval.config import fingerprint
from muse_eval.data import open_data
from muse_eval.probing.subject import Rehearsal, TaskSubject
from muse_eval.types import ModelProbe, ignore
from tests.e2e import write_data, write_task


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_task(tmp_path / "village.yaml")
    write_data(tmp_path / "data")
    (tmp_path / "a.txt").write_text("One text.")
    (tmp_path / "b.txt").write_text("Another text.")
    return tmp_path


def done(here: Path, given: str, rate: float = 1e-3, dtype: str = "float32") -> str:
    task = plugins.task(str(here / "village.yaml"))
    task = task.model_copy(update={"unlearn": task.unlearn.model_copy(update={"lr": rate})})
    means: dict[str, Any] = {"dtype": dtype}
    subject = TaskSubject(
        "m", "d", task, open_data(task, here / "data"), here / given, here, "finetune", means,
        ignore, ignore, ignore,
    )  # fmt: skip
    rehearsal, probe = Rehearsal(subject), plugins.probe("finetune")
    assert isinstance(probe, ModelProbe)
    probe.alter(rehearsal, probe.params(steps=(1, 2), lr=None))
    return fingerprint(rehearsal.asked)


def test_texts_rate_and_precision_are_part_of_what_was_done(here: Path) -> None:
    known = done(here, "a.txt")
    assert done(here, "a.txt") == known
    others = [done(here, "b.txt"), done(here, "a.txt", rate=2e-3), done(here, "a.txt", dtype="bfloat16")]
    assert len({known, *others}) == 4
    assert sorted(path.name for path in here.iterdir()) == ["a.txt", "b.txt", "data", "village.yaml"]
