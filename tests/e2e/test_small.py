"""``make reproduce-small`` from end to end, with a random model and made-up articles."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from benchmarks.small.__main__ import main
from tests.support.small import news

SETTINGS = {
    "subset": {"forget": 4, "retain": 2, "holdout": 4, "words": 24},
    "dtype": "float32",
    "rows": {"max_len": 64},
    "columns": {"verbmem_f": {"max_tokens": 4}}
    | {name: {"shots": 1, "max_tokens": 4, "answer_space": False} for name in ("knowmem_f", "knowmem_r")},
    "finetune": {"lr": 1.0e-3, "epochs": 1, "batch_size": 4},
    "unlearn": {"lr": 1.0e-3, "epochs": 2, "batch_size": 4, "lambda": 1.0},
    "methods": {"ga": {"epochs": 1}, "rmu": {"epochs": 1, "params": {"layer": 0}}},
    "search": {"default": [{"lr": 1.0e-3}], "task_vector": [{"params": {"alpha": 1.0}}]},
}


def test_from_articles_to_a_table(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, settings, home = news(tmp_path / "news", True), tmp_path / "settings.yaml", tmp_path / "home"
    settings.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    options = ["--data-dir", str(data), "--model", str(tiny_model), "--settings", str(settings)]
    options += ["--home", str(home), "--size", "small", "--jobs", "1"]

    assert main([*options, "--methods", "ga,rmu"]) == 0
    table = (home / "table.md").read_text(encoding="utf-8")
    assert [line.split(" ")[1] for line in table.splitlines()[2:6]] == ["target", "retrain", "ga", "rmu"]
    assert "sust/forget_4 and sust/forget_3 in their place" in table
    assert "answer_space=false" in table
    cards = [home / "models" / name / "unlearn.json" for name in ("ga", "rmu")]
    made = [card.stat().st_mtime_ns for card in cards]
    capsys.readouterr()

    # What is there is not done again.
    assert main([*options, "--methods", "ga,rmu"]) == 0
    assert [card.stat().st_mtime_ns for card in cards] == made
    assert (home / "table.md").read_text(encoding="utf-8") == table

    assert main([*options, "--methods", "ga,task_vector", "--search"]) == 0
    lines = list(csv.DictReader((tmp_path / "search.csv").read_text(encoding="utf-8").splitlines()))
    assert {line["method"] for line in lines} == {"ga", "task_vector"}
    assert [line["method"] for line in lines if line["chosen"]] == ["ga", "task_vector"]
    assert "under `methods`" in capsys.readouterr().out


def test_a_wrong_name_ends_in_one_line(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(tiny_model), "--home", str(tmp_path / "home"), "--size", "small"]
    assert main([*options, "--data-dir", str(tmp_path), "--methods", "simpno"]) == 2
    assert main([*options, "--data-dir", str(tmp_path / "nowhere")]) == 2
    assert main([*options, "--data-dir", str(tmp_path)]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "did you mean 'simnpo'" in first
    assert "nowhere is not a folder" in second
    assert "raw/forget.json does not exist" in third
    assert not (tmp_path / "home").exists()
