"""The examples of docs/python.md run, one after the other, as they stand on the page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import muse_eval
from muse_eval.errors import UserError
from tests.e2e import other_model, write_data, write_task

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.mark.slow  # One of them sweeps.
def test_the_examples_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "target")
    other_model(tiny_model, tmp_path / "retrain")
    write_data(tmp_path / "data")
    write_task(tmp_path / "task.yaml")
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(example, names)
    said = capsys.readouterr().out
    assert re.search(r"^Result\(village/target: verbmem_f \d+\.\d\d, .*\)$", said, re.M)
    assert "['retrain', 'target', 'ga']" in said
    assert (tmp_path / "simnpo" / "unlearn.json").is_file()


def test_every_function_is_on_the_page_and_none_that_there_is_not() -> None:
    table = re.findall(r"^\| `(\w+)\(", PAGE, re.M)
    assert sorted(table) == sorted(muse_eval.__all__)
    shown = {name for name in dir(muse_eval) if not name.startswith("__")}
    assert set(muse_eval.__all__) <= shown
    assert not shown & {"Any", "TYPE_CHECKING"}
    for name in table:
        said = getattr(muse_eval, name).__doc__
        assert said
        assert "Args:" in said
        assert "Raises:" in said


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: muse_eval.evaluate("target", "muse_mini", metrics="privlek"), "no column 'privlek'"),
        (lambda: muse_eval.pipeline("muse_mini", "gaa"), "no method 'gaa'"),
        (lambda: muse_eval.tune("ga", "muse_mini", "lr=fast"), "--grid lr=fast"),
        (lambda: muse_eval.sweep("none/*", "muse_mini"), "none/*"),
        (lambda: muse_eval.check("results/project/baseline.json", only="muse_none/*"), "muse_none/*"),
    ],
    ids=["metrics", "methods", "grid", "models", "only"],
)
def test_a_name_that_stands_alone_is_one_name(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        call()
