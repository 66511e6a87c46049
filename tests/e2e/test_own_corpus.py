"""The page on corpora of one's own stays true: its task, its layout and its commands, as they are written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from muse_eval import plugins
from muse_eval.cli import app
from muse_eval.config import parse_task
from tests.corpus import corpus
from tests.e2e import muse, other_model, write_data

PAGE = (Path(__file__).parents[2] / "docs" / "own-corpus.md").read_text(encoding="utf-8")
(YAML,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [shlex.split(line) for line in re.findall(r"^muse-eval (.+)$", PAGE, re.MULTILINE)]


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


def commands(verb: str) -> list[list[str]]:
    found = [arguments for arguments in COMMANDS if " ".join(arguments).startswith(verb)]
    assert found
    return found


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
