import csv
import io
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from muse_eval import plugins
from muse_eval.errors import UserError
from muse_eval.results.comparable import departed
from muse_eval.results.grid import grid
from muse_eval.results.published import load_published
from muse_eval.results.rows import FLAGS, PlainHeading, _short, headings, rows
from muse_eval.results.runs import StoredResult, load_all
from muse_eval.results.tables import draw, to_csv, to_markdown

PUBLISHED = Path(__file__).parents[2] / "results" / "project" / "published.csv"


def column(value: float | None, *flags: str, half: float = 1.0, reason: str | None = None) -> dict[str, Any]:
    ci = None if value is None else [value - half, value + half]
    cell: dict[str, Any] = {"value": value, "ci": ci, "n": 100, "flags": list(flags)}
    return cell if reason is None else {**cell, "reason": reason}


def stored(name: str, *values: float | None, task: str = "muse_books", **changes: Any) -> StoredResult:
    names = ("verbmem_f", "knowmem_f", "privleak", "knowmem_r")
    whole: dict[str, Any] = {
        "schema_version": 1,
        "task": task,
        "name": name,
        "model": {"id": f"org/{name}", "revision": "c0ffee", "digest": "sha256:" + "0123456789abcdef" * 4},
        "columns": {n: column(v) for n, v in zip(names, values, strict=False)},
        "extras": {"auc": {"forget_holdout_Min-40%": 0.53934}},
        "config": {"seed": 0},
        "provenance": {},
        "seconds": 1.0,
    }
    return StoredResult.model_validate_json(json.dumps({**whole, **changes}))


def with_cell(result: StoredResult, name: str, cell: dict[str, Any]) -> StoredResult:
    raw = json.loads(result.model_dump_json())
    raw["columns"][name] = cell
    return StoredResult.model_validate_json(json.dumps(raw))


def parse(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


CARD = [
    stored("target", 99.56, 58.32, -56.32, 67.01),
    stored("retrain", 14.30, 28.90, 0.00, 74.50),
    stored("npo", 0.00, 0.00, -31.17, 23.71),
    stored("simnpo", 0.00, 0.00, -19.82, 48.27),
]


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────
def test_rows_are_ordered_target_retrain_then_methods() -> None:
    mixed = [*reversed(CARD), stored("a", 1.0, task="muse_news"), stored("ga", 1.0)]
    assert [(row["task"], row["name"]) for row in rows(mixed)] == [
        ("muse_books", "target"),
        ("muse_books", "retrain"),
        ("muse_books", "ga"),
        ("muse_books", "npo"),
        ("muse_books", "simnpo"),
        ("muse_news", "a"),
    ]


@pytest.mark.parametrize(
    ("extras", "flag", "expected"),
    [
        ({"reference": {"source": "measured", "model": "m"}}, (), "measured"),
        ({"reference": {"source": "published"}}, ("reference-published",), "published"),
        ({}, ("reference-published",), "published"),
        ({}, ("no-reference",), "none"),
        ({}, (), ""),
        ({"reference": None}, (), ""),
    ],
)
def test_reference_source(extras: dict[str, Any], flag: tuple[str, ...], expected: str) -> None:
    result = with_cell(stored("npo", extras=extras), "privleak", column(1.0, *flag))
    assert rows([result])[0]["reference"] == expected


def test_auc_is_the_headline_attacks() -> None:
    auc = {"forget_holdout_Min-40%": 0.5, "forget_holdout_Min-20%": 0.25}
    default = stored("a", 1.0, extras={"auc": auc})
    other = stored("b", 1.0, extras={"auc": auc, "reference": {"attack": "Min-20%"}})
    assert [row["auc"] for row in rows([default, other, stored("c", 1.0, extras={})])] == [0.5, 0.25, None]
    # Without a reference, or with one of another attack, the attack stored for the run itself counts.
    for reference in ({}, {"reference": {"attack": "Min-40%"}}):
        own = stored("d", 1.0, extras={"auc": auc, "attack": "Min-20%", **reference})
        assert rows([own])[0]["auc"] == 0.25


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────
def test_csv_to_the_letter() -> None:
    result = with_cell(
        stored("npo", 12.345, extras={"auc": {"forget_holdout_Min-40%": 1 / 3}}),
        "privleak",
        column(None, "no-reference", reason="give --retrain"),
    )
    assert to_csv(rows([result])) == (
        "task,name,model,revision,digest,"
        "verbmem_f,verbmem_f_low,verbmem_f_high,verbmem_f_n,verbmem_f_flags,"
        "knowmem_f,knowmem_f_low,knowmem_f_high,knowmem_f_n,knowmem_f_flags,"
        "privleak,privleak_low,privleak_high,privleak_n,privleak_flags,"
        "knowmem_r,knowmem_r_low,knowmem_r_high,knowmem_r_n,knowmem_r_flags,auc,reference,seed,notes,source,"
        "engine,dtype,limit\n"
        "muse_books,npo,org/npo,c0ffee,0123456789ab,"
        "12.35,11.35,13.35,100,,,,,,,,,,100,no-reference,,,,,,0.3333,none,0,,,,,\n"
    )


def test_csv_missing_is_empty_and_small_negatives_are_zero() -> None:
    bare = stored("npo", -0.001, model={"id": None, "revision": None, "digest": None}, extras={}, config={})
    (line,) = parse(to_csv(rows([bare])))
    assert line["verbmem_f"] == "0.00"
    empty = ("model", "revision", "digest", "knowmem_f", "knowmem_r_n", "auc", "reference", "seed")
    assert [line[name] for name in empty] == [""] * len(empty)


def test_csv_joins_flags() -> None:
    result = with_cell(stored("ga"), "privleak", column(-100.0, "saturated", "collapsed"))
    assert parse(to_csv(rows([result])))[0]["privleak_flags"] == "saturated;collapsed"


def test_csv_of_no_runs_is_its_header() -> None:
    assert (
        to_csv([]) == "task,name,model,revision,digest,auc,reference,seed,notes,source,engine,dtype,limit\n"
    )


def test_csv_quotes_what_needs_it() -> None:
    odd = stored('a,"b"', 1.0, model={"id": "x\ny", "revision": None, "digest": None})
    (line,) = parse(to_csv(rows([odd])))
    assert (line["name"], line["model"]) == ('a,"b"', "x\ny")


percent = st.none() | st.floats(-110, 110)
runs = st.lists(
    st.tuples(
        st.sampled_from(["muse_books", "muse_news", "elsewhere"]),
        st.sampled_from(["target", "retrain", "npo", "simnpo", "ga"]),
        st.lists(percent, max_size=4),
    ),
    unique_by=lambda run: run[:2],
)


@pytest.mark.slow
@settings(deadline=None)
@given(runs=runs, seed=st.integers())
def test_the_order_of_files_does_not_matter(runs: list[Any], seed: int) -> None:
    results = [stored(name, *values, task=task) for task, name, values in runs]
    shuffled = random.Random(seed).sample(results, len(results))
    assert to_csv(rows(shuffled)) == to_csv(rows(results))
    assert to_csv(random.Random(seed).sample(rows(results), len(results))) == to_csv(rows(results))
    assert to_markdown(rows(shuffled)) == to_markdown(rows(results))


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_environment(tmp_path: Path) -> None:
    for result in CARD:
        folder = tmp_path / "runs" / result.task / result.name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(result.model_dump_json(), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from muse_eval.results import rows, tables as l, runs;"
        f"rows = rows.rows(runs.load_all(Path({str(tmp_path)!r}), print));"
        "sys.stdout.buffer.write((l.to_csv(rows) + l.to_markdown(rows)).encode())"
    )
    outputs = set()
    for changes in ({"PYTHONHASHSEED": "1", "LC_ALL": "C"}, {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo"}):
        environment = {**os.environ, **changes}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
        outputs.add(done.stdout)
    loaded = rows(load_all(tmp_path, pytest.fail))
    assert outputs == {(to_csv(loaded) + to_markdown(loaded)).encode()}


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────
def test_markdown_has_the_shape_of_the_published_card() -> None:
    assert to_markdown(rows(CARD)) == (
        f"## {plugins.task('muse_books').title}\n"
        "\n"
        "| model | VerbMem Df ↓ | KnowMem Df ↓ | PrivLeak → 0 | KnowMem Dr ↑ |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| target | 99.56 ± 1.00 | 58.32 ± 1.00 | -56.32 ± 1.00 | 67.01 ± 1.00 |\n"
        "| retrain | 14.30 ± 1.00 | 28.90 ± 1.00 | 0.00 ± 1.00 | 74.50 ± 1.00 |\n"
        "| npo | **0.00** ± 1.00 | **0.00** ± 1.00 | -31.17 ± 1.00 | 23.71 ± 1.00 |\n"
        "| simnpo | **0.00** ± 1.00 | **0.00** ± 1.00 | **-19.82** ± 1.00 | **48.27** ± 1.00 |\n"
    )


def test_flags_and_gaps_are_numbered_notes() -> None:
    flagged = with_cell(stored("npo", 1.0), "privleak", column(-100.0, "saturated", "reference-published"))
    gap = with_cell(stored("ga", 2.0), "privleak", column(None, "no-reference", reason="give --retrain"))
    text = to_markdown(rows([gap, flagged]))
    assert "| ga | 2.00 ± 1.00 |  | n/a [1] |  |\n" in text
    assert "| -100.00 ± 1.00 [2, 3] |" in text
    assert "\n- [1] give --retrain\n" in text
    assert f"- [2] saturated: {FLAGS['saturated']}\n- [3] reference-published: " in text


def test_an_unknown_flag_is_shown_as_it_is() -> None:
    text = to_markdown(rows([with_cell(stored("npo"), "privleak", column(1.0, "odd"))]))
    assert text.endswith("\n- [1] odd\n")


def test_the_target_and_the_retrain_model_are_never_best() -> None:
    text = to_markdown(rows([stored("target", 0.0), stored("retrain", 0.0), stored("ga", 9.0)]))
    assert re.findall(r"\*\*.*?\*\*", text) == ["**9.00**"]


def test_ties_as_printed_are_all_best() -> None:
    tied = rows([stored("a", 1.001, 5.0, -3.0), stored("b", 1.004, 6.0, 3.0)])
    text = to_markdown(tied)
    assert re.findall(r"\*\*.*?\*\*", text) == ["**1.00**", "**5.00**", "**-3.00**", "**1.00**", "**3.00**"]


@pytest.mark.parametrize("flag", ["collapsed", "degenerate", "limited"])
def test_a_ruined_or_limited_model_is_best_in_nothing(flag: str) -> None:
    ruined = with_cell(stored("ga", 0.0, 0.0, 0.1, 0.0), "verbmem_f", column(0.0, flag))
    text = to_markdown(rows([ruined, stored("npo", 5.0, 5.0, -40.0, 30.0)]))
    assert re.findall(r"\*\*.*?\*\*", text) == ["**5.00**", "**5.00**", "**-40.00**", "**30.00**"]
    assert "**" not in to_markdown(rows([ruined]))


def asking(result: StoredResult, metric: str = "knowmem", **params: Any) -> StoredResult:
    """Return the result as one whose KnowMem Df was asked with these parameters."""
    spec = {"title": "KnowMem Df", "metric": metric, "goal": "lower"}
    config = {**result.config, "task": {"columns": {"knowmem_f": spec}}, "columns": {"knowmem_f": params}}
    return result.model_copy(update={"config": config})


def test_only_runs_that_were_asked_alike_compete() -> None:
    # 0.1.0 stored no answer_space, and some results no parameters at all: both mean the default.
    alike = [asking(stored("a", 9.0, 2.0), shots=10), asking(stored("b", 9.0, 3.0), answer_space=True)]
    other = asking(stored("c", 9.0, 1.0), answer_space=False)
    text = to_markdown(rows([*alike, other]))
    assert "| a | **9.00** ± 1.00 | **2.00** ± 1.00 |" in text
    assert "| b | **9.00** ± 1.00 | 3.00 ± 1.00 |" in text
    assert "| c | **9.00** ± 1.00 | **1.00** ± 1.00 |" in text


def test_what_a_task_departs_in_and_a_run_set_back_was_asked_by_the_letter() -> None:
    """A default is not stored, so what is stored of a column stands for itself."""
    spec = {"metric": "knowmem", "params": {"answer_space": False}}
    runs = [asking(stored("a", 9.0, 2.0), shots=10), asking(stored("b", 9.0, 1.0), answer_space=False)]
    for result in runs:
        result.config["task"]["columns"]["knowmem_f"] = spec
    assert [departed(result, "knowmem_f") for result in runs] == [{}, {"answer_space": False}]
    # Settings that tell no parameters at all have the task's.
    runs[0].config["columns"].clear()
    assert departed(runs[0], "knowmem_f") == {"answer_space": False}


def test_what_changes_no_value_keeps_no_run_from_competing() -> None:
    found = rows([asking(stored("a", 9.0, 2.0), truncate=True), asking(stored("b", 9.0, 3.0))])
    assert re.findall(r"\*\*(.*?)\*\*", to_markdown(found)) == ["9.00", "2.00", "9.00"]


def test_parameters_of_a_metric_that_is_not_installed_count_as_they_are() -> None:
    found = rows([asking(stored(name, 9.0, 2.0 + k), "gone", k=k) for k, name in enumerate("ab")])
    assert re.findall(r"\*\*(.*?)\*\*", to_markdown(found)) == ["9.00", "2.00", "9.00", "3.00"]


@pytest.mark.parametrize("flag", ["unanswered", "answer-space", "no-answer-space"])
@pytest.mark.parametrize("reference", ["target", "retrain"])
def test_a_column_whose_reference_answers_nothing_has_no_best(flag: str, reference: str) -> None:
    silent = with_cell(stored(reference, 50.0, 0.0), "knowmem_f", column(0.0, flag))
    text = to_markdown(rows([silent, stored("npo", 9.0, 0.0)]))
    assert "| npo | **9.00** ± 1.00 | 0.00 ± 1.00 [2] |" in text
    assert f"\n- [1] {flag}: {FLAGS[flag]}\n" in text
    assert f"\n- [2] {reference} is flagged {flag}: this column shows no forgetting\n" in text
    otherwise = asking(stored("ga", 9.0, 1.0), answer_space=False)
    assert "| ga | **9.00** ± 1.00 | **1.00** ± 1.00 |" in to_markdown(rows([silent, otherwise]))


def test_an_unlearned_model_s_own_flag_is_its_own() -> None:
    ruined = with_cell(stored("ga", 9.0, 0.0), "knowmem_f", column(0.0, "answer-space"))
    text = to_markdown(rows([stored("target", 50.0, 60.0), ruined, stored("npo", 9.0, 4.0)]))
    assert "| npo | **9.00** ± 1.00 | 4.00 ± 1.00 |" in text
    assert "| ga | **9.00** ± 1.00 | **0.00** ± 1.00 [1] |" in text


def test_a_departure_stands_in_the_notes_of_table_and_csv() -> None:
    noted = stored("npo", 1.0, extras={"notes": {"asked": "KnowMem Df asked with answer_space=false"}})
    assert "- [1] KnowMem Df asked with answer_space=false\n" in to_markdown(rows([noted]))
    assert parse(to_csv(rows([noted])))[0]["notes"] == "KnowMem Df asked with answer_space=false"


def test_a_task_that_is_not_installed_is_titled_as_it_was_scored() -> None:
    result = with_cell(stored("npo", 1.0, task="elsewhere"), "fluency", column(3.0))
    assert "| model | fluency | verbmem_f |\n" in to_markdown(rows([result]))
    columns = {"verbmem_f": {"title": "VerbMem Df", "goal": "lower"}}
    own = result.model_copy(update={"config": {"task": {"columns": columns}}})
    assert "| model | VerbMem Df ↓ | fluency |\n" in to_markdown(rows([own]))


def test_a_column_that_the_task_does_not_have_stands_last() -> None:
    found = headings("muse_books", rows([with_cell(stored("npo"), "fluency", column(3.0))]))
    assert list(found) == ["verbmem_f", "knowmem_f", "privleak", "knowmem_r", "fluency"]
    assert found["fluency"] == PlainHeading("fluency")


def test_a_name_cannot_break_the_table() -> None:
    text = to_markdown(rows([stored("a|b*c\n<i>", 1.0)]))
    assert "| a\\|b\\*c \\<i> |" in text


def test_no_runs_is_no_text() -> None:
    assert to_markdown([]) == ""


# ── the terminal ─────────────────────────────────────────────────────────────────────────────────
def test_the_terminal_shows_the_same_cells() -> None:
    flagged = with_cell(CARD[3], "privleak", column(-19.82, "reference-published"))
    found = rows([*CARD[:3], flagged])
    columns = headings("muse_books", found)
    console = Console(width=200, file=io.StringIO(), force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(draw(grid(columns, found)))
    text = capture.get()
    assert "-19.82 ± 1.00 [1]" in text
    assert "\x1b[1m-31.17\x1b[0m ± 1.00" in text
    assert f"[1] reference-published: {FLAGS['reference-published']}" in " ".join(text.split())
    laid = grid(columns, found)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert all(title in plain for title in laid.header)
    assert all(cell.value + cell.spread in plain for line in laid.lines for cell in line)


def test_the_tasks_own_columns_are_headings() -> None:
    found = rows(CARD)
    assert grid(plugins.task("muse_books").columns, found) == grid(headings("muse_books", found), found)


# ── published numbers ────────────────────────────────────────────────────────────────────────────
def test_the_published_file_is_whole_and_plain() -> None:
    lines = load_published(PUBLISHED)
    assert {line["task"] for line in lines} == {"muse_books", "muse_news"}
    assert sum(line["locator"] == "Table 3" for line in lines) == 20
    assert all(line["source"] and line["locator"] for line in lines)
    assert all(-100 <= float(line["privleak"]) <= 110 for line in lines)
    assert all(0 <= float(line[name]) <= 100 for line in lines for name in ("verbmem_f", "knowmem_r"))
    text = PUBLISHED.read_text(encoding="utf-8").lower()
    assert not re.search(r"ocr|transcription|offset|suspect|third-party|issue", text)
    muse = [line for line in lines if line["source"].startswith("MUSE paper")]
    target = next(line for line in muse if (line["task"], line["method"]) == ("muse_news", "Target"))
    assert [target[n] for n in ("verbmem_f", "knowmem_f", "privleak", "knowmem_r")] == [
        "58.4",
        "63.9",
        "-99.8",
        "55.2",
    ]


def test_published_numbers_stand_below_their_task_as_printed() -> None:
    text = to_markdown(rows(CARD), load_published(PUBLISHED))
    below = text.split("Published elsewhere, not measured here:\n\n")[1]
    assert below.startswith(
        "| model | VerbMem Df ↓ | KnowMem Df ↓ | PrivLeak → 0 | KnowMem Dr ↑ | source |\n"
    )
    assert "| Target | 99.8 | 59.4 | -57.5 | 66.9 | MUSE paper arXiv:2407.06460, Table 3 |\n" in below
    assert "muse_news" not in text
    assert "**" not in below


HEADER = "task,method,base_model,verbmem_f,knowmem_f,privleak,knowmem_r,source,locator,note\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: the columns must be task,method"),
        ("a,b\n", ":1: the columns must be task,method"),
        (HEADER + "t,m,b,1,2,3,4,s,l\n", ":2: a line must have 10 cells"),
        (HEADER + "t,m,b,1,2,3,4,s,l,n,o\n", ":2: a line must have 10 cells"),
        (HEADER + "t,m,b,1,2,x,4,s,l,n\n", ":2: could not convert"),
        (HEADER + 't,m,b,1,2,3,4,s,l,"n\n', ": unexpected end of data"),
    ],
)
def test_a_wrong_published_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "published.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_published(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_published_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"published numbers .*nowhere\.csv does not exist"):
        load_published(tmp_path / "nowhere.csv")


def test_published_lines_follow_the_runs_of_their_task() -> None:
    text = to_csv(rows([stored("npo", 1.0)]), load_published(PUBLISHED))
    measured, *published = text.splitlines()[1:]
    assert measured.endswith(",")
    assert published
    assert all(
        line.startswith("muse_books,") and line.endswith(",,,") and not line.endswith(",,,,")
        for line in published
    )
    simnpo = next(line for line in published if line.startswith("muse_books,SimNPO,"))
    assert "-19.82" in simnpo
    assert "model card OPTML-Group/SimNPO-MUSE-Books-iclm-7b" in simnpo


def test_a_served_model_is_told_by_its_pin_as_it_is() -> None:
    assert _short("0123456789abcdef") == "0123456789ab"
    assert _short("pinned mine@2026-11-24") == "pinned mine@2026-11-24"
