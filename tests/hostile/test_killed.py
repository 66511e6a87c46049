"""kill -9 at moments spread over a command: the same command goes on, and ends in the same bytes.

``make kill-test`` takes ten moments of each verb (``KILLS=10``).
"""

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import psutil
import pytest

from tests.e2e import SCRIPT, other_model, write_data, write_task

KILLS = int(os.environ.get("KILLS", "0"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not KILLS, reason="make kill-test runs it")]

ROOT = Path(__file__).parents[2]
OWN = ("--task", "village.yaml", "--data-dir", "data", "-q")
PAIR = ("--target", "one", "--retrain", "two")
OUT = "results/made"
VERBS = {
    "run": ("run", "--model", "one", "--retrain", "two", *OWN),
    "unlearn": (
        "unlearn",
        "--target",
        "one",
        "--method",
        "npo_gdr",
        "--epochs",
        "3",
        "--out",
        "results/made",
        *OWN,
    ),
    "pipeline": (
        "pipeline",
        "--methods",
        "simnpo_gdr,ga",
        "--epochs",
        "2",
        "--select",
        "released",
        *PAIR,
        *OWN,
    ),
    "tune": ("tune", "--method", "simnpo", "--grid", "beta=0.1:0.7", *PAIR, *OWN),
}
SWEEP = ("sweep", "one", "two", *OWN)

Command = Callable[..., dict[str, Any]]
TIMES = re.compile(rb'("(seconds|time|tokens_per_second)": )[^,\n}]*')


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    """Yield what runs a command line in a folder, to a moment or to the end, in a fork of one process."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    script = [sys.executable, "-m", "tests.support.dying"]
    with subprocess.Popen(
        script, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        asked, told = parent.stdin, parent.stdout
        assert asked is not None
        assert told is not None

        def run(home: Path, argv: tuple[str, ...], at: int | None = None) -> dict[str, Any]:
            out = home.with_suffix(".printed")
            asked.write(json.dumps({"argv": argv, "home": str(home), "at": at, "out": str(out)}) + "\n")
            asked.flush()
            return {**json.loads(told.readline()), "printed": out.read_text(encoding="utf-8")}

        yield run
        asked.close()


def village(home: Path, model: Path) -> Path:
    """Make a working directory with the small task, its data and two models."""
    home.mkdir()
    write_task(home / "village.yaml")
    write_data(home / "data")
    shutil.copytree(model, home / "one")
    other_model(model, home / "two")
    return home


def left(home: Path) -> dict[str, bytes]:
    """Return all that a command left behind but for answers and Optuna's database, without times.

    Nor with a seal's digests: one of them is of the log, which has times.
    """
    results = home / "results"
    found = {
        str(path.relative_to(results)): TIMES.sub(rb"\1-", path.read_bytes())
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.relative_to(results).parts[0] != "cache" and path.suffix != ".db"
    }
    for name in found:
        if name.endswith("/complete"):
            found[name] = b""
        if name.endswith("trials.csv"):
            table = pandas.read_csv(io.BytesIO(found[name])).drop(columns="seconds")
            found[name] = table.to_csv().encode()
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_command_goes_on_to_the_same_bytes(
    command: Command, verb: str, tiny_model: Path, tmp_path: Path
) -> None:
    whole = village(tmp_path / "whole", tiny_model)
    done = command(whole, VERBS[verb])
    assert done["code"] == 0, done["printed"]
    expected = left(whole)
    draw = random.Random(verb)
    for at in sorted(draw.sample(range(1, done["moments"] + 1), KILLS)):
        home = village(tmp_path / str(at), tiny_model)
        killed = command(home, VERBS[verb], at)
        assert killed["code"] == -signal.SIGKILL, killed["printed"]
        again = command(home, VERBS[verb])
        assert again["code"] == 0, (killed["last"], again["printed"])
        found = left(home)
        assert found.keys() == expected.keys(), killed["last"]
        assert [name for name in found if found[name] != expected[name]] == [], killed["last"]
        shutil.rmtree(home)


def test_a_killed_sweep_goes_on_to_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    """Its models are scored in processes of their own, so its moments are of time, not of files."""
    whole = village(tmp_path / "whole", tiny_model)
    began = time.monotonic()
    subprocess.run([SCRIPT, *SWEEP], cwd=whole, check=True, capture_output=True)
    took = time.monotonic() - began
    expected = left(whole)
    for number in range(1, KILLS + 1):
        home = village(tmp_path / str(number), tiny_model)
        with subprocess.Popen(
            [SCRIPT, *SWEEP], cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as one:
            time.sleep(took * number / (KILLS + 1))
            workers = psutil.Process(one.pid).children(recursive=True)
            one.kill()
        psutil.wait_procs(workers, timeout=60)
        again = subprocess.run([SCRIPT, *SWEEP], cwd=home, check=False, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert left(home) == expected
        shutil.rmtree(home)
