"""Texts and questions read from files of all kinds, hostile ones too; a corpus written whole or not."""

import json
from pathlib import Path

import pytest

from muse_eval.data.corpus.files import check_free, read_questions, read_texts, write_corpus
from muse_eval.data.corpus.splits import Question, Row
from muse_eval.data.corpus.task import MARK
from muse_eval.errors import UserError
from tests.e2e import files

SPLITS: dict[str, list[Row]] = {"raw/forget": ["a"], "verbmem/forget": [{"prompt": "a", "gt": " b"}]}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ── texts ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("name", "content", "texts", "blank"),
    [
        ("t.txt", "one\n\ntwo\n", ("one\n\ntwo",), 0),
        ("t.TXT", "\ufeffone\r\ntwo", ("one\ntwo",), 0),
        ("t.txt", " \n", (), 1),
        ("t.txt", "", (), 1),
        ("t.json", '["one", {"text": "two", "id": 3}, " "]', ("one", "two"), 1),
        ("t.json", "[]", (), 0),
        ("t.jsonl", '{"text": "one\u2028still"}\n\n"two"\n', ("one\u2028still", "two"), 0),
        ("t.jsonl", "", (), 0),
    ],
)
def test_a_file_is_read(name: str, content: str, texts: tuple[str, ...], blank: int, tmp_path: Path) -> None:
    read = read_texts(write(tmp_path / name, content), "--forget")
    assert (read.texts, read.blank, read.unread) == (texts, blank, 0)


def test_a_folder_is_read_a_text_a_file(tmp_path: Path) -> None:
    for name, content in {
        "b.txt": "two",
        "a.txt": "one",
        "c.txt": "\n",
        "d.pdf": "no",
        ".x.txt": "no",
    }.items():
        write(tmp_path / "texts" / name, content)
    (tmp_path / "texts" / "sub.txt").mkdir()
    read = read_texts(tmp_path / "texts", "--forget")
    assert (read.texts, read.blank, read.unread) == (("one", "two"), 1, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.txt",
            b"caf\xe9",
            "it is not UTF-8 (unexpected end of data at byte 3); convert it",
        ),
        ("t.txt", "one".encode("utf-16"), "is not UTF-8"),
        ("t.md", "one", "give a .txt file, a folder of them, .json or .jsonl"),
        ("t.json", "[1", "t.json:1: not valid JSON"),
        ("t.json", "[" * 100_000, "not valid JSON"),
        ("t.json", f"[{'9' * 5_000}]", "not valid JSON: Exceeds the limit"),
        ("t.json", '{"text": "one"}', "must be a list, got dict"),
        ("t.json", '["one", 2]', 't.json: row 1 is neither a text nor {"text": "…"}'),
        ("t.json", '[{"body": "one"}]', "row 0 is neither a text nor"),
        ("t.json", '["\\ud800"]', "row 0 is not valid Unicode"),
        ("t.jsonl", '"one"\n"two', "t.jsonl:2: not valid JSON"),
        ("empty/x.md", "", "empty holds no .txt file"),
        ("elsewhere", "", "missing.txt does not exist"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, content)
    given = {"elsewhere": tmp_path / "missing.txt", "x.md": path.parent}.get(path.name, path)
    with pytest.raises(UserError) as refused:
        read_texts(given, "--forget")
    assert message in str(refused.value)
    assert str(refused.value).startswith("--forget ")
    assert "\n" not in str(refused.value)


# ── questions ────────────────────────────────────────────────────────────────────────────────────
def test_questions_are_read_whatever_the_order_and_case_of_their_columns(tmp_path: Path) -> None:
    text = '\ufeffSide, Question ,note,answer\r\nforget,"Who, then?",x,"Ada\nand Bo"\nRETAIN,Where?,, Oru \n'
    assert read_questions(write(tmp_path / "q.csv", text)) == [
        Question("forget", "Who, then?", "Ada\nand Bo"),
        Question("retain", "Where?", "Oru"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "q.csv:1: no column question and no column answer and no column side; its columns are none"),
        ("question;answer;side\nWho?;Ada;forget\n", "its columns are question;answer;side"),
        ("question,answer,side\n", "has no question in it"),
        ("question,answer,side\nWho?,,forget\n", "q.csv:2: 'answer' is empty"),
        ("question,answer,side\nWho?,Ada\n", "q.csv:2: 'side' is empty"),
        ("question,answer,side\nWho?,Ada,train\n", "q.csv:2: side must be forget or retain, got 'train'"),
        ("question,answer,side\nWho, then?,Ada,forget\n", "put cells that hold commas in double quotes"),
        ("question,answer,side\nWho?,Ada,forget,so\n", "q.csv:2: more cells than columns"),
        ('question,answer,side\n"Who?,Ada,forget\n', "unexpected end of data"),
        ("question,answer,side,Answer\nWho?,Ada,forget,Bo\n", "q.csv:1: column answer stands there twice"),
        (b"question,answer,side\ncaf\xe9,a,forget\n", "is not UTF-8"),
    ],
)
def test_questions_that_will_not_do_are_one_line(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read_questions(write(tmp_path / "q.csv", text))
    assert message in str(refused.value)
    assert str(refused.value).startswith("--questions ")


# ── writing ──────────────────────────────────────────────────────────────────────────────────────
def test_a_corpus_is_written_and_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "town"
    check_free(out, overwrite=False)
    write_corpus(out, SPLITS, "town.yaml", f"{MARK}\n")
    assert files(tmp_path) == [
        f"new/town/{name}" for name in ("raw/forget.json", "town.yaml", "verbmem/forget.json")
    ]
    assert json.loads((out / "verbmem/forget.json").read_text(encoding="utf-8")) == SPLITS["verbmem/forget"]
    with pytest.raises(UserError, match="is not empty; name another folder, or --overwrite"):
        check_free(out, overwrite=False)
    check_free(out, overwrite=True)
    write_corpus(out, {"raw/forget": ["b"]}, "other.yaml", f"{MARK}\n")
    assert files(tmp_path) == ["new/town/other.yaml", "new/town/raw/forget.json"]


def test_what_is_no_corpus_of_this_kind_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "town"
    write_corpus(out, SPLITS, "town.yaml", "name: mine\n")
    with pytest.raises(UserError, match="was not made by data init"):
        check_free(out, overwrite=True)
    write_corpus(out, SPLITS, "town.yaml", f"{MARK}\n")
    for name in ("raw/diary.txt", "models/target/model.safetensors", "notes.md"):
        write(out / name, "mine")
        with pytest.raises(UserError, match=f"{name} is no part of a corpus"):
            check_free(out, overwrite=True)
        (out / name).unlink()
    check_free(out, overwrite=True)
    for path, message in (
        (tmp_path / "town/town.yaml", "is a file"),
        (Path(), "names no folder"),
        (Path(".."), "no folder"),
        (Path("a\nb"), "no folder"),
    ):
        with pytest.raises(UserError, match=message):
            check_free(path, overwrite=True)


def test_where_it_cannot_be_written_nothing_is_left(tmp_path: Path) -> None:
    out = tmp_path / "town"
    write_corpus(out, SPLITS, "town.yaml", f"{MARK}\n")
    before = files(tmp_path)
    # A name longer than a file system takes fails in the middle of writing.
    with pytest.raises(UserError, match=r"town cannot be written: File name too long"):
        write_corpus(out, {**SPLITS, f"raw/{'x' * 300}": ["c"]}, "town.yaml", f"{MARK}\n")
    assert files(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["town"]
