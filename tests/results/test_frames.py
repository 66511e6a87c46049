"""Stored runs as pandas tables, and a run's own table for a notebook."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

import muse_eval
from muse_eval.errors import UserError
from muse_eval.results.frames import EXAMPLE, KINDS
from muse_eval.types import Result, Score
from tests.results.test_tables import column, stored, with_cell

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


def write(home: Path, name: str, records: list[dict[str, Any]] | None = None, **changes: Any) -> None:
    run = with_cell(
        stored(name, 1 / 3, task="muse_books", **changes), "privleak", column(None, reason="none")
    )
    folder = home / "runs" / run.task / name
    folder.mkdir(parents=True)
    whole = json.loads(run.model_dump_json())
    if records is not None:
        text = "".join(f"{json.dumps(record)}\n" for record in records)
        (folder / "records.jsonl").write_text(text, encoding="utf-8")
        whole["records_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "result.json").write_text(json.dumps(whole), encoding="utf-8")


def test_a_row_is_a_run_and_a_column(tmp_path: Path) -> None:
    write(tmp_path, "npo", config={"limit": 5, "seed": 1, "model": {"engine": "hf", "dtype": "float32"}})
    write(tmp_path, "target")
    frame = muse_eval.results_frame(tmp_path, "muse_books")
    assert dict(frame.dtypes.astype(str)) == KINDS
    assert list(zip(frame["name"], frame["column"], strict=True)) == [
        ("target", "verbmem_f"),
        ("target", "privleak"),
        ("npo", "verbmem_f"),
        ("npo", "privleak"),
    ]
    first, second = (dict(line) for _, line in frame.iloc[2:].iterrows())
    assert (first["value"], first["low"], first["high"], first["n"]) == (1 / 3, 1 / 3 - 1, 1 / 3 + 1, 100)
    assert (first["title"], first["goal"]) == ("VerbMem Df", "lower")
    assert (first["engine"], first["dtype"], first["limit"], first["seed"]) == ("hf", "float32", 5, 1)
    assert (second["value"] != second["value"], second["reason"]) == (True, "none")
    assert frame["limit"].isna().tolist() == [True, True, False, False]
    assert Path(first["folder"]) == tmp_path / "runs" / "muse_books" / "npo"
    with pytest.raises(UserError, match="no run of task 'muse_news'"):
        muse_eval.results_frame(tmp_path, "muse_news")


def test_the_page_names_every_column() -> None:
    (section,) = re.findall(r"^## Tables for pandas\n(.*?)^## ", PAGE, re.S | re.M)
    cells = re.findall(r"^\| (`.*?`) \|", section, re.M)
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(KINDS)
    assert all(f"`{name}`" in section for name in EXAMPLE)


def test_a_row_is_an_example(tmp_path: Path) -> None:
    said = {"column": "verbmem_f", "split": "verbmem/forget", "id": 3, "scores": {"rougeL": 0.5}}
    attack = {"column": "privleak", "split": "privleak/forget", "id": 0, "scores": {"Min-40%": None}}
    write(tmp_path, "npo", [{**said, "response": "a", "name": "Ada"}, {**attack, "text": "b"}])
    write(tmp_path, "bare")
    told: list[str] = []
    frame = muse_eval.records_frame("npo", tmp_path, warn=told.append)
    assert list(frame.columns) == [
        *EXAMPLE,
        "scores.rougeL",
        "scores.Min-40%",
        "response",
        "text.name",
        "text",
    ]
    first, second = (dict(line) for _, line in frame.iterrows())
    assert (first["name"], first["id"], first["scores.rougeL"], first["response"]) == ("npo", 3, 0.5, "a")
    assert first["text.name"] == "Ada"
    assert second["scores.Min-40%"] != second["scores.Min-40%"]
    with pytest.raises(UserError, match=r"records\.jsonl does not exist"):
        muse_eval.records_frame(["npo", "bare"], tmp_path)
    with pytest.raises(UserError, match="no run"):
        muse_eval.records_frame("npo", tmp_path, task="muse_news")


def test_a_result_draws_itself_and_foreign_text_is_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m\u202e"
    config = {"task": {"columns": {"verbmem_f": {"title": hostile}, "privleak": None}}}
    write(tmp_path, "npo", config=config)
    score = Score(value=None, ci=None, n=3, reason=hostile)
    fresh = Result("t", hostile, {}, {"x": score}, {}, {"task": None}, {}, 1.0)
    for run in (muse_eval.load_run("npo", tmp_path), fresh):
        drawn = run._repr_html_()
        assert "<script" not in drawn
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in drawn
        assert drawn.isprintable()
        assert drawn.count("<tr>") == 1 + len(run.columns)
    assert (
        "<td>0.33</td><td>-0.67 to 1.33</td><td>100</td>" in muse_eval.load_run("npo", tmp_path)._repr_html_()
    )
