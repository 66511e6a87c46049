"""How a command ends: one line and one exit code, whatever happens in it."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from muse_eval.cli.ending import TRACEBACK, exit_code
from muse_eval.errors import Terminated, UserError, first_line
from muse_eval.results import run_folder
from tests.e2e import write_data, write_task
from tests.hostile.terminal import Done, typed

PYTHON = [sys.executable, "-m", "muse_eval"]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/x")


def _ended(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Done:
    """End ``check`` by an error from deep within."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("muse_eval.results.load_all", fails)
    return typed("check")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("a\nb\x1b"), 2, r"a b\x1b"),
        (KeyError("x"), 70, "unforeseen, a fault of muse-eval: KeyError: 'x' in cli/check.py, check; "),
        (AssertionError(), 70, "AssertionError"),
        (EOFError("cut"), 70, "EOFError: cut"),
        (RecursionError("deep"), 70, "RecursionError"),
        (MemoryError(), 70, "MemoryError"),
        (ConnectionResetError(errno.EPIPE, "a pipe to a child"), 70, "a pipe to a child"),
        (FULL, 2, "the disk is full (results/x)"),
        (
            PermissionError(errno.EACCES, "Permission denied", "results/x"),
            2,
            "results/x: Permission denied; ",
        ),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on from here"),
        (Terminated(), 143, "stopped; the same command goes on from here"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_end_has_its_line_and_code(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = _ended(error, monkeypatch)
    assert done.code == code
    assert len(done.err.splitlines()) == 1
    assert told in done.err
    assert done.out == ""


def test_what_was_not_foreseen_shows_its_traceback_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACEBACK, "1")
    done = _ended(KeyError("x\x1b"), monkeypatch)
    assert done.code == 70
    assert "Traceback (most recent call last)" in done.err
    assert "in fails" in done.err
    assert "\x1b" not in done.err


def test_a_command_that_exits_by_itself_keeps_its_code() -> None:
    def leaves() -> None:
        raise SystemExit(5)

    assert exit_code(leaves) == 5
    assert exit_code(lambda: None) == 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["run"], "missing option '--model'; see muse-eval run --help"),
        (["run", "--modle", "x"], "no such option: --modle (Possible options: --model"),
        (["data", "show"], "missing option '--task'; see muse-eval data show --help"),
        (["nosuch"], "no such command 'nosuch'; see muse-eval --help"),
        (["show", "x", "--worst", "0"], "invalid value for '--worst': "),
    ],
)
def test_a_mistyped_line_is_one_line(line: list[str], told: str) -> None:
    done = typed(*line)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.err.startswith(f"muse-eval: error: {told}")


def test_torchs_advice_to_run_code_is_not_passed_on() -> None:
    error = RuntimeError(
        "Weights only load failed. This file can still be loaded, to do so you have two options, …\n"
        "(1) re-running with weights_only=False will likely succeed"
    )
    assert first_line(error) == "Weights only load failed."


@pytest.mark.parametrize("name", ["x" * 300, "ü" * 150, "a/b", "..", "a\x1b", "a\udcff", " "])
def test_an_odd_name_is_told_before_the_work(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name"):
        run_folder(tmp_path, "village", name)


@pytest.mark.parametrize("where", ["runs", "runs/village", "runs/village/x"])
def test_a_file_in_a_folders_place_is_told_before_the_work(where: str, tmp_path: Path) -> None:
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / where).touch()
    with pytest.raises(UserError, match="is a file where the run's folder belongs"):
        run_folder(tmp_path, "village", "x")


@pytest.mark.parametrize("device", ["meta", "xpu", "vulkan", "cuda:99", "nonsense", "\x1b[2J", "-1", ""])
def test_a_device_that_does_not_compute_is_one_line(
    device: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_task(Path("village.yaml"))
    write_data(Path("data"))
    model = ["--model", tiny_model, "--task", "village.yaml", "--data-dir", "data", "-q"]
    done = typed("run", *model, "--set", f"engine.device={device}")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert not Path("results/runs").exists()


# ── in a process of its own ──────────────────────────────────────────────────────────────────────
def _started(*line: str, **how: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*PYTHON, *line], stderr=subprocess.PIPE, text=True, timeout=120, errors="backslashreplace", **how
    )


@pytest.mark.slow
def test_standard_output_may_be_full_or_closed() -> None:
    with Path("/dev/full").open("w") as full:
        done = _started("list", "methods", stdout=full)
    assert done.returncode == 2
    assert done.stderr == (
        "muse-eval: error: cannot write to standard output: No space left on device; "
        "send it where there is room\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = _started("list", "methods", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "name", "code"), [("1", "methods", 0), ("2", "methods", 0), ("2", "none", 2)]
)
def test_a_stream_may_be_closed_from_the_beginning(closed: str, name: str, code: int) -> None:
    shell = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *PYTHON, "list", name]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (code, "")
    assert bool(done.stdout) == (closed == "2" and code == 0)


@pytest.mark.slow
def test_a_name_that_is_not_utf8_on_an_ascii_terminal() -> None:
    done = _started(
        "list",
        os.fsdecode(b"\xff\x9b"),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        stdout=subprocess.PIPE,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(r"muse-eval: error: no list '\udcff\udc9b'; lists: ")


WAITS = """
import sys, time
import muse_eval.results
from muse_eval.cli import main

def wait(*_):
    print("waiting", flush=True)
    time.sleep(60)

muse_eval.results.load_all = wait
sys.argv = ["muse-eval", "check"]
main()
"""


@pytest.mark.slow
def test_sigterm_has_a_word() -> None:
    command = [sys.executable, "-c", WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        waiting.terminate()
        _, told = waiting.communicate(timeout=60)
    assert (waiting.returncode, told) == (143, "muse-eval: stopped; the same command goes on from here\n")


CHATTY = """
import atexit, os, sys
from muse_eval.cli import app as cli

def app():
    atexit.register(os.write, 2, b"a package says good-bye\\n\\n")
    command_line()

command_line, cli.app = cli.app, app
sys.argv = ["muse-eval", "list", "nothing"]
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("traced", [False, True])
def test_nothing_follows_the_last_line(traced: bool) -> None:
    env = {**os.environ, TRACEBACK: "1"} if traced else {**os.environ}
    command = [sys.executable, "-c", CHATTY]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    lines = done.stderr.splitlines()
    assert (done.returncode, lines[0][:18]) == (2, "muse-eval: error: ")
    assert len(lines) == (3 if traced else 1)
