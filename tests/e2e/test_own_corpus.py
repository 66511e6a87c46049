"""The page on corpora of one's own stays true: its task, its layout and its commands, as they are written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from muse_eval import plugins
from muse_eval.cli.app import app
from muse_eval.config.task import parse_task
from tests.e2e import files, muse, other_model, write_data
from tests.support.corpus import corpus, prose

PAGE = (Path(__file__).parents[2] / "docs" / "own-corpus.md").read_text(encoding="utf-8")
(YAML,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [shlex.split(line) for line in re.findall(r"^muse-eval (.+)$", PAGE, re.MULTILINE)]
(PRINTED,) = re.findall(r"what comes next:\n\n```\n(.*?)```", PAGE, re.DOTALL)
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model that the page's walk starts from."""
SIDES = ("forget", "retain")


@pytest.fixture
def here(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's folder: ``my-town.yaml``, ``data`` and two models under ``models``."""
    monkeypatch.chdir(tmp_path)
    Path("my-town.yaml").write_text(YAML, encoding="utf-8")
    splits = corpus()
    splits["raw/holdout"] = splits["privleak/holdout"]
    write_data(
        Path("data"), {name: rows for name, rows in splits.items() if not name.startswith("privleak/")}
    )
    other_model(tiny_model, tmp_path / "models" / "target")
    other_model(tiny_model, tmp_path / "models" / "retrain")
    return tmp_path


def commands(verb: str, about: str = "my-town.yaml") -> list[list[str]]:
    """Return the page's commands of a verb: those about the task written by hand, or about another."""
    found = [
        arguments for arguments in COMMANDS if " ".join(arguments).startswith(verb) and about in arguments
    ]
    assert found
    return found


# ── the walk: from files to a table ──────────────────────────────────────────────────────────────
def test_the_walk_goes_from_text_files_to_a_table(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, count in (("articles", 40), ("others", 20)):
        Path(folder).mkdir()
        for number in range(count):
            text = prose(f"{folder} {number}", 40)
            Path(folder, f"{number:02}.txt").write_text(text, encoding="utf-8")
    walk = [*commands("data init", "news"), *commands("", "news/news.yaml")]
    assert [arguments[0] for arguments in walk] == ["data", "data", "finetune", "finetune", "pipeline", "run"]
    told = ""
    for arguments in walk:
        here = [str(tiny_model) if part == BASE else part for part in arguments]
        done = muse(*here)
        assert done.exit_code == 0, done.stderr
        if here[:2] == ["data", "init"]:
            assert done.stdout == PRINTED
        if here[:2] == ["data", "verify"]:
            # The tiny tokenizer knows none of these words, and is told what a row cannot hold of its pieces.
            warned = done.stderr.splitlines()
            assert [line.split(": ")[2] for line in warned] == ["raw/forget", "raw/retain1"]
            assert all("more than unlearn.max_len (128) tokens" in line for line in warned)
        told += done.stdout
        if here[0] == "pipeline":
            # Every model says before the first answer what it is asked, and the one that is made how.
            assert done.stderr.count("  to answer: VerbMem Df 40, PrivLeak 40, VerbMem Dr 40; on cpu\n") == 3
            assert "\n  unlearn, simnpo_gdr: 20 rows, " in done.stderr
        if here[0] == "run":
            # The pipeline has asked all of it.
            assert "to answer" not in done.stderr
        if here[0] == "data":
            assert files(tmp_path / "news")[0] == "news.yaml"
    # What is printed next is what the page goes on with.
    for arguments in commands("data verify", "news/news.yaml"):
        assert f"  muse-eval {shlex.join(arguments)}\n".replace(BASE, "BASE") in told
    assert re.search(r"simnpo_gdr\W+[\d.]+ ± [\d.]+", told)
    stored = json.loads(Path("results/runs/news/simnpo_gdr/result.json").read_text(encoding="utf-8"))
    assert list(stored["columns"]) == ["verbmem_f", "privleak", "verbmem_r"]
    assert all(column["n"] in (20, 40) for column in stored["columns"].values())
    card = json.loads(Path("models/news/target/finetune.json").read_text(encoding="utf-8"))
    assert (card["rows"]["forget"], card["training"]["batch_size"]) == (40, 2)


def test_with_questions_every_column_is_there_and_nothing_is_suspicious(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for side, count in (("forget", 40), ("retain", 20)):
        texts = [prose(f"{side} {row}", 90) for row in range(count)]
        Path(f"{side}.json").write_text(json.dumps(texts), encoding="utf-8")
    asked = [
        f"What of {side} {row}?,{prose(f'{side} answer {row}', 4)},{side}"
        for side in SIDES
        for row in range(30)
    ]
    Path("questions.csv").write_text("\n".join(["question,answer,side", *asked]), encoding="utf-8")
    given = ("--forget", "forget.json", "--retain", "retain.json", "--questions", "questions.csv")
    done = muse("data", "init", "sub/my town", *given)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "left out" not in done.stdout
    assert "muse-eval data verify --task 'sub/my town/my town.yaml'" in done.stdout
    done = muse("data", "verify", "--task", "sub/my town/my town.yaml", "--strict")
    assert (done.exit_code, done.stderr) == (0, "")
    assert list(plugins.task("sub/my town/my town.yaml").columns) == [
        "verbmem_f", "knowmem_f", "privleak", "knowmem_r",
    ]  # fmt: skip
    # The same again gives the same bytes; what it holds is not replaced unasked.
    before = {name: Path("sub", name).read_bytes() for name in files(tmp_path / "sub")}
    assert (
        "is not empty; name another folder, or --overwrite"
        in muse("data", "init", "sub/my town", *given).stderr
    )
    assert muse("data", "init", "sub/my town", *given, "--overwrite").exit_code == 0
    assert {name: Path("sub", name).read_bytes() for name in files(tmp_path / "sub")} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--retain": "forget.json"}, "--retain forget.json has no text; left out: 40 in --forget too"),
        ({"--retain": "nowhere"}, "--retain nowhere does not exist"),
        ({"--name": "muse_news"}, "muse_news is a built-in task; give yours another --name"),
        ({"--name": "a/b"}, "cannot name a folder"),
        ({"--holdout-share": "1"}, "give a share between 0 and 1"),
        ({"--forget": "out/forget.json"}, "--forget out/forget.json lies in out, which is to be made"),
        ({"--retain": "caf\udce9.txt"}, "its name is no valid Unicode; rename it"),
        ({"--piece-length": "999", "--truth-length": "999"}, "nothing can be scored on these texts"),
        ({"--tokenizer": "nowhere/at/all"}, "nowhere/at/all"),
    ],
)
def test_what_init_refuses_is_one_line_and_leaves_nothing(
    changes: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for side in SIDES:
        texts = [prose(f"{side} {row}", 40) for row in range(40)]
        Path(f"{side}.json").write_text(json.dumps(texts), encoding="utf-8")
    before = files(tmp_path)
    options = {"--forget": "forget.json", "--retain": "retain.json"} | changes
    done = muse("data", "init", "out", *(part for pair in options.items() for part in pair))
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert files(tmp_path) == before
    assert not Path("out").exists()


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────
def test_the_task_names_the_files_of_the_layout() -> None:
    task = parse_task(YAML, "the page")
    named = {split for column in task.columns.values() for split in column.splits.values()}
    laid_out = re.findall(r"^  (\S+)\.json ", PAGE, re.MULTILINE)
    assert sorted(named | {task.unlearn.forget, task.unlearn.retain}) == sorted(laid_out)
    assert task.name not in plugins.task_names()


@pytest.mark.usefixtures("here")
def test_the_data_commands_do_as_the_page_says() -> None:
    for arguments in commands("data verify"):
        done = muse(*arguments)
        assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["suspicions"] == []
    assert {one["status"] for one in told["splits"]} == {"not pinned"}
    for arguments in commands("data show"):
        done = muse(*arguments)
        assert [line.split()[0] for line in done.stdout.splitlines()] == [
            one["split"] for one in told["splits"]
        ]


def test_the_run_does_as_the_page_says(here: Path) -> None:
    (arguments,) = commands("run")
    done = muse(*arguments, "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    stored = json.loads(Path("results/runs/my_town/target/result.json").read_text(encoding="utf-8"))
    assert list(stored["columns"]) == list(plugins.task("my-town.yaml").columns)
    assert all(column["value"] is not None for column in stored["columns"].values())
    # Target and retrain are one model here, so there is no leak to measure.
    assert stored["columns"]["privleak"]["value"] == 0
    # Wherever the data lie, they are the same: the result is taken as it is.
    Path("data").rename("elsewhere")
    assert muse(*arguments, "-q").exit_code == 2
    Path("my-town.yaml").write_text(
        YAML.replace("folder: data}", f"folder: {here}/elsewhere}}"), encoding="utf-8"
    )
    assert muse(*arguments, "-q").exit_code == 0


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_option_on_the_page_exists(arguments: list[str]) -> None:
    command = get_command(app)
    if arguments[0] not in command.commands:  # type: ignore[attr-defined]
        pytest.skip(f"{arguments[0]} is not there yet")
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command, arguments = command.commands[arguments[0]], arguments[1:]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known
