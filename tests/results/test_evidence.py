"""What of an example is kept, which are the worst, and how they read."""

import json
from pathlib import Path
from typing import Any

import pytest

from muse_eval.errors import UserError
from muse_eval.results.evidence import EDGE, choose, excerpt, find_run, given, lines, to_json
from muse_eval.results.runs import StoredResult, load, load_records, save
from muse_eval.types import Record, Result, Score

SPLITS = {"forget": "privleak/forget", "holdout": "privleak/holdout"}
TASK = {
    "name": "town",
    "title": "Town",
    "columns": {
        "verbmem_f": {"title": "VerbMem Df", "goal": "lower", "splits": {"forget": "verbmem/forget"}},
        "knowmem_r": {"title": "KnowMem Dr", "goal": "higher", "splits": {}},
        "privleak": {"title": "PrivLeak", "goal": "zero", "splits": SPLITS},
        "drift": {"title": "Drift", "goal": "zero", "splits": {}},
    },
}
HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202e"


def rouge(column: str, *values: float, **texts: str) -> tuple[Record, ...]:
    known = {"response": f"said {column}", "truth": "true", **texts}
    return tuple(
        Record(f"{column}/x", index, {"rouge1": 0.5, "rougeL": value}, known, "ab" * 32)
        for index, value in enumerate(values)
    )


def texts(split: str, *values: float | None) -> tuple[Record, ...]:
    return tuple(
        Record(f"privleak/{split}", index, {"Min-40%": value, "PPL": 1.0}, {"text": f"{split} {index}"}, "ab")
        for index, value in enumerate(values)
    )


def stored(folder: Path, name: str = "npo", task: str = "town", **texts_: str) -> Path:
    columns = {
        "verbmem_f": Score(50.0, None, 3, records=rouge("verbmem", 0.2, 0.9, 0.4, prompt="begin", **texts_)),
        "knowmem_r": Score(50.0, None, 3, records=rouge("knowmem", 0.2, 0.9, 0.4, question="Who?")),
        "privleak": Score(
            None, None, 5, records=(*texts("forget", 3.0, 1.0, None), *texts("holdout", 2.0, 0.5, 4.0))
        ),
        "drift": Score(
            1.0, None, 2, records=tuple(Record("s", i, {"d": v}) for i, v in enumerate((-3.0, 2.0)))
        ),
    }
    extras = {"privleak": {"attack": "Min-40%"}}
    config, model = {"task": TASK}, {"id": "a/model"}
    save(Result(task, name, model, columns, extras, config, {}, 1.0), folder / "runs" / task / name)
    return folder / "runs" / task / name


def read(folder: Path) -> StoredResult:
    found = load(folder)
    assert found is not None
    return found


def ids(folder: Path, column: str, worst: int = 10) -> list[int]:
    (chosen,) = choose(read(folder), load_records(folder), [column], worst)
    return [record["id"] for record in chosen.records]


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────
def test_a_long_text_is_cut_to_both_its_ends() -> None:
    whole = "x" * (2 * EDGE)
    assert excerpt(whole) == whole
    long = "a" * EDGE + "b" * 1234 + "c" * EDGE
    assert excerpt(long) == "a" * EDGE + " [… 1,234 characters …] " + "c" * EDGE


def test_a_record_gets_what_the_model_was_given() -> None:
    rows = [{"prompt": "p" * 1000, "gt": "g"}, {"text": "t"}, {"question": "q", "answer": "a"}]
    assert given(rows, Record("s", 0, {})) == {"prompt": excerpt("p" * 1000)}
    assert given(rows, Record("s", 1, {})) == {"text": "t"}
    assert given(rows, Record("s", 2, {})) == {"question": "q"}
    # A metric of one's own may count otherwise.
    assert given(rows, Record("s", 3, {})) == {}


# ── which run ────────────────────────────────────────────────────────────────────────────────────
def test_a_run_is_found_by_name_by_task_and_name_and_by_folder(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    names = ["npo", "town/npo", str(folder), f"{folder}/", f"{folder}/result.json", f"{folder}/records.jsonl"]
    assert {find_run(tmp_path, name) for name in names} == {folder}
    (folder / "epochs").mkdir()
    stored(folder / "epochs", "1")
    assert find_run(tmp_path, "town/npo/epochs/runs/town/1").name == "1"


def test_a_run_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    stored(tmp_path)
    stored(tmp_path, task="city")
    with pytest.raises(UserError, match="'npo' is the name of several runs; give one of city/npo, town/npo"):
        find_run(tmp_path, "npo")
    with pytest.raises(UserError, match="no run 'town/npoo'; did you mean 'town/npo'"):
        find_run(tmp_path, "town/npoo")
    for name in ("", "*", "x" * 5000, "a\0b", "../..", "/"):
        with pytest.raises(UserError, match="no run "):
            find_run(tmp_path, name)


# ── which examples ───────────────────────────────────────────────────────────────────────────────
def test_the_worst_come_first_by_the_columns_goal(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    assert ids(folder, "verbmem_f") == [1, 2, 0]
    assert ids(folder, "verbmem_f", 2) == [1, 2]
    assert ids(folder, "knowmem_r") == [0, 2, 1]
    # Of the forget texts alone, the likeliest first; what is undefined comes last.
    assert ids(folder, "privleak") == [1, 0, 2]
    assert ids(folder, "drift") == [0, 1]


def test_a_forget_text_is_placed_among_the_holdout_texts(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    (chosen,) = choose(read(folder), load_records(folder), ["privleak"], 10)
    assert chosen.remarks[:2] == [
        "1 of 3 texts of privleak/holdout are likelier",
        "2 of 3 texts of privleak/holdout are likelier",
    ]


def test_one_example_is_shown_by_its_number_in_every_split(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    (chosen,) = choose(read(folder), load_records(folder), ["privleak"], 10, example=1)
    assert [record["split"] for record in chosen.records] == ["privleak/forget", "privleak/holdout"]
    with pytest.raises(UserError, match="column privleak of town/npo has no example 3; they are 0 to 2"):
        choose(read(folder), load_records(folder), ["privleak"], 10, example=3)
    with pytest.raises(UserError, match="no column 'privlek'; did you mean 'privleak'"):
        choose(read(folder), [], ["privlek"], 10)


def test_records_that_someone_else_wrote_are_read(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    odd: list[dict[str, Any]] = [
        {},
        {"column": "verbmem_f"},
        {"column": "verbmem_f", "scores": {"rougeL": "x"}},
    ]
    chosen = choose(read(folder), odd, [], 10)
    assert [len(one.records) for one in chosen] == [2, 0, 0, 0]
    assert any("undefined" in line for line in lines(read(folder), chosen))


# ── how they read ────────────────────────────────────────────────────────────────────────────────
def test_an_example_reads_without_a_join(tmp_path: Path) -> None:
    folder = stored(tmp_path, response="one two\nthree")
    told = lines(read(folder), choose(read(folder), load_records(folder), ["verbmem_f"], 1), width=40)
    assert told == [
        "town/npo: a/model",
        "",
        "VerbMem Df ↓ (verbmem_f) 50.00, 1 of its 3 examples, highest rougeL first",
        "",
        "verbmem/x[1]  rougeL 0.9000",
        "  prompt    begin",
        "  response  one two",
        "            three",
        "  truth     true",
    ]


def test_records_from_before_prompts_were_kept_say_so(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    old = [{**record} for record in load_records(folder)]
    for record in old:
        record.pop("prompt", None)
    told = lines(read(folder), choose(read(folder), old, ["verbmem_f"], 1))
    assert told[1].startswith("what the model was given is not in these records")
    assert "  response  said verbmem" in told


def test_no_text_commands_the_terminal(tmp_path: Path) -> None:
    folder = stored(tmp_path, response=HOSTILE)
    chosen = choose(read(folder), load_records(folder), [], 3)
    assert "\\x1b[2J\\x1b]0;owned\\x07" in "\n".join(lines(read(folder), chosen))
    assert not set("\x1b\x07\u202e") & set("".join(lines(read(folder), chosen)))
    text = json.dumps(to_json(read(folder), chosen))
    assert text.isascii()
    assert json.loads(text)["columns"]["verbmem_f"]["examples"][0]["response"] == HOSTILE
