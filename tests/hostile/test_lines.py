"""Command lines over all verbs and options with odd values: each ends in an answer or in one line."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from muse_eval.cli.app import app
from tests.e2e import write_data, write_task
from tests.hostile.terminal import OBEYED, obeyed, typed

VALUES = (
    "",
    "-1",
    "nan",
    "1e400",
    "~nobody-of-that-name/x",
    "9" * 30,
    "x" * 300,
    "ünï-☃/☃",
    "a-file",
    "a-folder",
    "./none/none",
    f"x{OBEYED}",
    "not-utf8\udcff\udc9b",
)
LEAST = 300
"""Command lines that must have been tried."""
VERDICTS = {("check",): {0, 1, 2}, ("data", "verify"): {0, 1, 2}}
"""Where exit 1 is an answer: a regression, data that differ."""

Verb = tuple[str, ...]
MODEL = ["--model", "./no-model"]
TASK = ["--task", "village.yaml", "--data-dir", "data"]
NEEDED: dict[Verb, list[str]] = {
    ("run",): [*MODEL, *TASK, "-q"],
    ("unlearn",): [*MODEL, *TASK, "--method", "ga", "--out", "out", "-q"],
    ("finetune",): [*MODEL, *TASK, "--out", "out", "-q"],
    ("sweep",): ["./no-model", *TASK, "-q"],
    ("tune",): ["--target", "./no-model", *TASK, "--method", "npo", "--grid", "beta=0.1:0.2", "-q"],
    ("pipeline",): ["--target", "./no-model", "--retrain", "./no-model", *TASK, "-q"],
    ("probe",): [*MODEL, *TASK, "--target", "none", "--retrain", "none", "-q"],
    ("show",): ["village/absent"],
    ("report",): ["--task", "village.yaml"],
    ("leaderboard",): [],
    ("check",): [],
    ("compare",): ["village/absent", "village/none"],
    ("list",): ["tasks"],
    ("data", "init"): ["new", "--forget", "a-file", "--retain", "a-file"],
    ("data", "show"): TASK,
    ("data", "verify"): TASK,
    ("data", "export"): [*TASK, "--out", "out"],
    ("cache", "info"): [],
    ("cache", "clear"): [],
}
"""What each verb needs; none of it ever loads or trains a model."""


def _leaves(command: Any, path: Verb = ()) -> Iterator[tuple[Verb, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    for name, below in (inner or {}).items():
        yield from _leaves(below, (*path, name))


def _given(parameter: Any, value: str) -> list[str]:
    """Return a parameter as it is typed: an option of the form ``--name=value``, a flag, an argument."""
    if parameter.param_type_name == "argument":
        return ["--", value]
    name = max(parameter.opts, key=len)
    return [name] if parameter.is_flag else [f"{name}={value}"]


def _lines() -> Iterator[Any]:
    for verb, command in _leaves(get_command(app)):
        for parameter in command.params:
            if parameter.name == "help":
                continue
            values = [""] if getattr(parameter, "is_flag", False) else VALUES
            # An option that is given twice counts as it was given last.
            lines = [[*verb, *NEEDED[verb], *_given(parameter, value)] for value in values]
            yield pytest.param(verb, lines, id=f"{'-'.join(verb)}-{parameter.name}")


LINES = list(_lines())
"""For each parameter of each verb the lines that give it something odd."""


@pytest.fixture(scope="module")
def written() -> Iterator[Callable[[], list[str]]]:
    """Return which files were opened for writing since it was last asked."""
    opened: list[str] = []
    watching = [True]

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if (
            event == "open"
            and watching[0]
            and isinstance(args[0], str)
            and args[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            opened.append(args[0])

    def asked() -> list[str]:
        found = [
            path for path in opened if "__pycache__" not in path and not path.startswith(("/dev/", "/proc/"))
        ]
        opened.clear()
        return found

    sys.addaudithook(watch)
    yield asked
    watching[0] = False


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the small task, its data, and a file and a folder of nothing."""
    here = tmp_path_factory.mktemp("lines")
    write_task(here / "village.yaml")
    write_data(here / "data")
    (here / "a-file").write_text("Ada went to the mill.\n")
    (here / "a-folder").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield here


def test_every_verb_is_tried() -> None:
    assert {verb for verb, _ in _leaves(get_command(app))} == NEEDED.keys()
    assert sum(len(case.values[1]) for case in LINES) >= LEAST


@pytest.mark.campaign
@pytest.mark.parametrize(("verb", "lines"), LINES)
def test_a_line_is_answered(
    world: Path, written: Callable[[], list[str]], verb: Verb, lines: list[list[str]]
) -> None:
    for line in lines:
        written()
        done = typed(*line)

        assert done.code in VERDICTS.get(verb, {0, 2}), (line, done.err)
        told = done.err.splitlines()
        if done.code == 2:
            assert len(told) == 1, (line, told)
            assert told[0].startswith("muse-eval: error: "), line
        assert not obeyed(done.out + done.err), line
        assert "Traceback" not in done.out + done.err, line
        outside = [path for path in written() if not Path(path).resolve().is_relative_to(world)]
        assert not outside, line
