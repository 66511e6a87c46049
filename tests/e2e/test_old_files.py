"""What version 0.1.0 left on disk (``tests/old``): read, resumed and reused, not a byte of it changed."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from muse_eval import own_code, provenance
from muse_eval.results import degenerate
from muse_eval.scoring import model_free
from muse_eval.scoring.kept import MODEL_FREE
from tests.e2e import files, muse
from tests.old.make import BEGUN, COMMANDS, TASK

ARCHIVE = Path(__file__).parents[1] / "old" / "0.1.0.tar.xz"
RUN, FORGET, RUN_FORGOT, PIPELINE, TUNE, TABLE, _ = COMMANDS


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it was then."""
    home = tmp_path_factory.mktemp("then")
    with tarfile.open(ARCHIVE) as packed:
        packed.extractall(home, filter="data")
    return home


@pytest.fixture
def here(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it as the working directory, under the packages and on the kind of machine of then.

    Another torch gives other answers, so what is stored under one is rightly not taken under another.
    """
    import torch
    import transformers

    home = tmp_path / "here"
    shutil.copytree(archive, home)
    then = json.loads((home / "results/runs/village/target/result.json").read_text())["provenance"]
    monkeypatch.setattr(provenance, "versions", lambda *_: then["versions"])
    monkeypatch.setattr(provenance, "git_commit", lambda: then["commit"])
    for package in (torch, transformers):
        if (version := then["versions"][package.__name__]) != str(package.__version__):
            monkeypatch.setattr(package, "__version__", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with chdir(home):
        yield home


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be asked or trained from now on."""
    import transformers

    from muse_eval.engines.hf.engine import TransformersEngine

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked or trained again")

    for name in ("generate", "logprobs", "truncate"):
        monkeypatch.setattr(TransformersEngine, name, refuse)
    monkeypatch.setattr(transformers.Trainer, "train", refuse)


BASELINE = "results/baseline.json"
LEADERBOARD = "results/leaderboard.csv"
TRIALS = "results/tune/village/simnpo_gdr/trials.csv"


def contents(home: Path) -> dict[str, bytes]:
    """Return what is below a folder; a database's bytes tell when it was opened, not what it holds."""
    kept = [name for name in files(home) if f"/cache/{MODEL_FREE}/" not in name and not name.endswith(".db")]
    found = {name: (home / name).read_bytes() for name in kept}
    # What the values are of is noted since version 2 of the baseline; the values stay.
    found[BASELINE] = json.dumps(json.loads(found[BASELINE])["runs"]).encode()
    found |= {name: as_then(text) for name, text in found.items() if name.endswith("/result.json")}
    # The leaderboard has columns more behind those of then, which stay in their places.
    if LEADERBOARD in found:
        lines = list(csv.reader(found[LEADERBOARD].decode().splitlines()))
        width = lines[0].index("source") + 1
        assert lines[0][width:] in ([], ["engine", "dtype", "limit"])
        cells = [[";".join(without(cell.split(";"))) for cell in line[:width]] for line in lines]
        found[LEADERBOARD] = json.dumps(cells).encode()
    # A trial that is found degenerate now keeps its place and loses the number of its rank.
    lines = list(csv.reader(found[TRIALS].decode().splitlines()))
    found[TRIALS] = json.dumps(
        [[";".join(without(cell.split(";"))) for cell in line[1:]] for line in lines]
    ).encode()
    return found


def without(flags: list[str]) -> list[str]:
    return [flag for flag in flags if flag != degenerate.FLAG]


def as_then(text: bytes) -> bytes:
    """Return a result without what is told since: its responses' variety, a flag of it, its texts' AUC."""
    result = json.loads(text)
    for extras in result["extras"].values():
        if isinstance(extras, dict):
            extras.pop(degenerate.KEY, None)
            extras.pop(model_free.KEY, None)
            extras.pop(model_free.KEY, None)
    for column in result["columns"].values():
        column["flags"] = without(column["flags"])
    return json.dumps(result).encode()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:3]))
@pytest.mark.usefixtures("idle")
def test_a_command_of_then_finds_all_that_it_made(
    command: tuple[str, ...], archive: Path, here: Path
) -> None:
    done = muse(*command)
    assert done.exit_code == 0, done.output
    assert "another version" not in done.output
    assert contents(here) == contents(archive)


@pytest.mark.parametrize("command", [RUN, TUNE], ids=lambda command: command[0])
@pytest.mark.usefixtures("here", "idle")
def test_what_other_code_would_compute_is_not_taken(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_code, "same_code", dict)
    own_code.code_digest.cache_clear()
    try:
        done = muse(*command)
    finally:
        own_code.code_digest.cache_clear()
    assert (done.exit_code, "asked or trained again" in done.stderr) == (70, True), done.output


@pytest.mark.usefixtures("here", "idle")
def test_its_runs_are_shown_and_pass_its_gate() -> None:
    shown = muse("show", "npo_gdr", "--worst", 1)
    assert shown.exit_code == 0, shown.output
    assert "Ada" in shown.output or "Bo" in shown.output or "Cy" in shown.output
    gate = muse("check", "--all")
    assert gate.exit_code == 0, gate.output


def test_an_unlearning_that_was_killed_goes_on(here: Path) -> None:
    begun = (here / "begun.partial" / "log.jsonl").read_text().splitlines()
    method, out, epochs = (BEGUN[name] for name in ("method", "out", "epochs"))
    options = ("--method", method, "--out", out, "--epochs", epochs, "--model", "target")
    done = muse("unlearn", *options, *TASK)
    assert done.exit_code == 0, done.output
    log = (here / "begun" / "log.jsonl").read_text().splitlines()
    assert log[:2] == begun[:2]
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3, 4]
    assert json.loads(log[2])["loss"] == pytest.approx(json.loads(begun[2])["loss"], rel=1e-3)
    card = json.loads((here / "begun" / "unlearn.json").read_text())
    assert card["code"] == own_code.code_digest("unlearning")
