"""The page on MUSE's data says what their data say, where they are at hand."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from muse_eval.cli.app import app
from tests.e2e import muse

NEWS = Path(__file__).parents[3] / "shared" / "muse-data" / "news"
PAGE = (Path(__file__).parents[2] / "docs" / "muse-data.md").read_text(encoding="utf-8")
((SCRIPT, OUTPUT),) = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [shlex.split(line) for line in re.findall(r"^muse-eval (.+)$", PAGE, re.MULTILINE)]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_option_on_the_page_exists(arguments: list[str]) -> None:
    command: Any = get_command(app)
    for word in arguments[:2]:
        command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page's commands are given in: the data lie in ``data/news``."""
    if not NEWS.is_dir():
        pytest.skip("the MUSE data are not here")
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/news").symlink_to(NEWS, target_is_directory=True)
    return tmp_path


@pytest.mark.shared
@pytest.mark.usefixtures("here")
def test_the_script_prints_what_stands_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(SCRIPT, "docs/muse-data.md", "exec"), {})
    assert capsys.readouterr().out == OUTPUT


@pytest.mark.shared
@pytest.mark.usefixtures("here")
def test_verify_finds_what_the_table_says() -> None:
    (command,) = [arguments for arguments in COMMANDS if "muse_news_sust" in arguments]
    done = muse(*command)
    told = json.loads(done.stdout)
    named = {one["split"]: one["status"] for one in told["splits"]}
    assert {name for name, status in named.items() if status != "ok"} == {
        *("raw/holdout", "raw/retain1", "raw/retain2"),
    }
    assert done.exit_code == 0
    (model_free,) = told["shifts"]
    assert [
        f"{one['auc']:.2f} ({one['ci'][0]:.2f}–{one['ci'][1]:.2f})"
        for one in (model_free["words"], model_free["length"])
    ] == re.findall(r"(0\.\d\d \(\S+?\))", PAGE)[:2]
    found: dict[tuple[str, str], list[int]] = {
        (one["kind"], one["split"]): one["rows"] for one in told["suspicions"]
    }
    assert {key: len(rows) for key, rows in found.items() if key[0] != "missing"} == {
        ("repeated", "raw/forget"): 31,
        ("repeated", "sust/forget_1"): 31,
        ("repeated", "sust/forget_2"): 32,
        ("repeated", "sust/forget_3"): 34,
        ("repeated", "sust/forget_4"): 36,
        ("forgotten-before", "sust/forget_2"): 65,
        ("forgotten-before", "sust/forget_3"): 103,
        ("forgotten-before", "sust/forget_4"): 142,
        ("shared-passage", "privleak/holdout"): 2,
        ("shared-passage", "privleak/retain"): 9,
        ("told-by-words", "privleak/holdout"): 0,
    }
    assert found["shared-passage", "privleak/retain"] == [0, 4, 20, 23, 36, 39, 51, 65, 88]
    assert found["shared-passage", "privleak/holdout"] == [1, 6]


@pytest.mark.shared
@pytest.mark.usefixtures("here")
def test_one_retain_text_holds_a_passage_of_the_forget_set() -> None:
    """Against ``raw/forget`` alone, as in the task that is not a sequence; and which row is blank."""
    done = muse(*COMMANDS[0])
    assert "raw/forget: 1 of 889 rows is blank (row 821)" in done.stdout
    assert "a passage of the forget side in row 88 (raw/forget[223], 70 words)" in done.stderr
    assert "a passage of the forget side in row 6 (raw/forget[342], 14 words)" in done.stderr
