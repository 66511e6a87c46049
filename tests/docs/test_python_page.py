"""The examples of docs/python.md run, one after the other, as they stand on the page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import muse_eval
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
    assert set(muse_eval.__all__) <= set(dir(muse_eval))
    for name in table:
        said = getattr(muse_eval, name).__doc__
        assert said
        assert "Args:" in said
        assert "Raises:" in said
