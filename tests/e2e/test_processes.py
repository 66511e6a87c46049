"""Unlearning under ``accelerate launch``: two CPU processes for real, with the settings that we ship."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from muse_eval.cli import unlearn as cli_unlearn
from muse_eval.unlearning import cards
from muse_eval.unlearning.training import output
from muse_eval.unlearning.training.train import unlearn
from tests.e2e import muse, write_data, write_task
from tests.support.launched import forget_texts
from tests.unlearning.test_unlearn import RETAIN, config_for, make_target, same, weights

pytestmark = pytest.mark.launch
ROOT = Path(__file__).parents[2]
TOLERANCE = 2e-5
"""Between weights made by one and by two processes: 2 % of an AdamW step of 1e-3.

Sums are taken in another order, and AdamW divides a gradient by its own size: where it is nearly 0, a
difference in its last bits is a visible part of a step. The steps' losses and gradients agree to 1e-4.
"""
CHUNK = 200
"""Logits at a time: four positions of the targets' vocabulary. One process makes them whole."""


def launch(kind: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``launched.py`` in two CPU processes, with the settings that ``muse-eval list launch`` names."""
    settings = muse("list", "launch", kind).stdout.strip()
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", settings]
    module = ["-m", "tests.support.begin", "tests.support.launched"]
    command = [*launcher, "--num_processes", "2", *module, *map(str, arguments)]
    given = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, env=os.environ | given, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


def job(target: Path, out: Path, method: str, **more: Any) -> dict[str, Any]:
    changes = {"lr": 1e-3, "epochs": 2, **more.pop("changes", {})}
    return {"target": str(target), "out": str(out), "method": method, "changes": changes, **more}


def alone(job: dict[str, Any], out: Path) -> Path:
    """Carry out a job in this process."""
    config = config_for(Path(job["target"]), job["method"], **job["changes"])
    texts = forget_texts(job)
    return unlearn(config, texts, RETAIN, out, keep_checkpoints=job.get("keep", False))


def apart(left: Path, right: Path) -> float:
    """Return the largest difference between the weights of two models of one shape."""
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_target(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_target(tmp_path_factory.mktemp("tied"), tied=True)


def check(jobs: list[dict[str, Any]], folder: Path, sharded: bool) -> None:
    """Compare what two processes made with what one makes: the result, and each epoch's model if kept."""
    for each in jobs:
        out = Path(each["out"])
        one = alone(each, folder / f"{out.name}-alone")
        card = cards.read_json(out / "unlearn.json")
        assert card["batches"]["devices"] == 2
        assert card["batches"]["sharded"] is sharded
        assert card["fingerprint"] == cards.read_json(one / "unlearn.json")["fingerprint"]
        assert apart(out, one) < TOLERANCE
        assert apart(out, Path(each["target"])) > 100 * TOLERANCE
        logs = (output.read_log(each / "log.jsonl") for each in (out, one))
        for ours, theirs in zip(*logs, strict=True):
            for name in ("step", "loss", "forget_loss", "retain_loss", "grad_norm"):
                assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name
        for two, kept in zip(output.checkpoints(out), output.checkpoints(one), strict=True):
            assert apart(two, kept) < TOLERANCE


ERROR = "muse-eval: error: "


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """List the lines in which any process told of an error."""
    return [line.removeprefix(ERROR) for line in done.stderr.splitlines() if line.startswith(ERROR)]


@pytest.fixture
def command(target: Path, tmp_path: Path) -> list[str]:
    """The command that unlearns a small task; what is made goes to ``out``."""
    task = write_task(tmp_path / "village.yaml")
    data = write_data(tmp_path / "data")
    given = {"model": target, "task": task, "data-dir": data, "out": tmp_path / "out", "method": "npo"}
    return ["unlearn", *(str(part) for name, value in given.items() for part in (f"--{name}", value))]


def test_ddp_makes_what_one_process_makes_and_a_full_disk_ends_both(
    command: list[str], target: Path, tied: Path, tmp_path: Path
) -> None:
    """Reference, KL, adapters; 6 and 7 rows in batches of 4 leave the second process 0 and 1 of the last.

    Before them a folder begun with another recipe, which only the main process looks at: both are refused.
    After them the command line, on a full disk, for which a limit on file sizes stands in: the process that
    writes tells of it, none waits on.
    """
    taken = tmp_path / "taken.partial"
    taken.mkdir()
    (taken / "recipe.json").write_text('{"another": "recipe"}', encoding="utf-8")
    jobs = [
        job(target, tmp_path / "npo", "npo_gdr"),
        job(tied, tmp_path / "kl", "npo_klr", rows=7, changes={"micro_batch_size": 1}, bound=CHUNK),
        job(tied, tmp_path / "lora", "npo_klr", keep=True, changes={"lora": "r=2"}, bound=CHUNK),
    ]
    first = job(target, tmp_path / "taken", "ga")
    full = launch("ddp", "--jobs", json.dumps([first, *jobs]), *command, FILE_LIMIT="20000")
    assert all(Path(each["out"]).exists() for each in jobs), full.stderr
    assert full.returncode != 0
    (error,) = errors(full)
    assert error.startswith(f"cannot write to {tmp_path / 'out.partial'}")
    assert not (tmp_path / "out").exists()
    for process in (0, 1):
        refused = (tmp_path / f"taken.refused.{process}").read_text(encoding="utf-8")
        assert refused == f"{taken} was begun with another recipe; choose another --out or --overwrite"
    check(jobs, tmp_path, sharded=False)


@pytest.fixture(scope="module")
def sharded(target: Path, tied: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Jobs that two processes, each with a shard, have done; the last they began again, and were killed.

    The main process is killed (-9) in that job's third step; the other ends too.
    """
    folder = tmp_path_factory.mktemp("sharded")
    jobs = [
        job(target, folder / "npo", "npo_gdr", rows=7, changes={"gradient_checkpointing": True}, bound=CHUNK),
        job(tied, folder / "chunks", "npo_klr", changes={"epochs": 1}, bound=CHUNK),
        # One process's row is too long to be read whole where the other's is not.
        job(
            target,
            folder / "uneven",
            "npo_klr",
            changes={"micro_batch_size": 1},
            bound=2 * CHUNK,
            uneven=True,
        ),
        job(tied, folder / "kl", "npo_klr", keep=True, changes={"micro_batch_size": 1, "epochs": 3}),
    ]
    killed = {**jobs[-1], "out": str(folder / "killed"), "kill": 3}
    done = launch("fsdp", "--jobs", json.dumps([*jobs, killed]))
    assert done.returncode != 0
    assert all(Path(each["out"]).exists() for each in jobs), done.stderr
    return jobs


def test_fsdp_makes_what_one_process_makes(sharded: list[dict[str, Any]], tmp_path: Path) -> None:
    """Each process holds half of the weights, of the frozen target too; tied weights are saved once."""
    check(sharded, tmp_path, sharded=True)
    for each in sharded:
        for process in (0, 1):
            shards = json.loads(Path(f"{each['out']}.shards.{process}").read_text(encoding="utf-8"))
            assert shards["all"]
            assert shards["frozen"]
            assert shards["own"] == pytest.approx(0.5, abs=0.05)


def test_what_does_not_go_together_is_refused_in_one_line(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the environment that ``accelerate launch`` makes; the second process waits before it speaks."""
    monkeypatch.setattr(cli_unlearn, "GRACE", 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for asked, more, message in (
        ({}, [], "WORLD_SIZE is 2, but nothing says where the other processes are"),
        (
            {"LOCAL_RANK": "0", "MASTER_ADDR": "here", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"},
            [],
            "FSDP 1 is not supported",
        ),
        ({"FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, [], "FULL_STATE_DICT"),
        (
            {"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"},
            ["--lora", "r=2"],
            "--lora and FSDP do not go together",
        ),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, [], "DeepSpeed is not supported"),
    ):
        for name, value in asked.items():
            monkeypatch.setenv(name, value)
        for rank in (0, 1):
            monkeypatch.setenv("RANK", str(rank))
            done = muse(*command, *more)
            assert done.exit_code == 2
            assert message in done.stderr
            assert done.stderr.startswith(f"{ERROR}process 1: " if rank else ERROR)
            assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out.partial").exists()


def test_a_kill_ends_both_and_both_go_on(
    command: list[str], sharded: list[dict[str, Any]], tmp_path: Path
) -> None:
    """What was killed goes on from step 2 and comes to the same weights; a command line follows."""
    whole = Path(sharded[-1]["out"])
    out = whole.with_name("killed")
    partial = output.partial(out)
    assert [path.name for path in output.checkpoints(partial)] == ["checkpoint-2"]
    assert len(json.loads((partial / "reference.json").read_bytes())["forget"]) == 6

    done = launch("fsdp", "--jobs", json.dumps([{**sharded[-1], "out": str(out)}]), *command)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout == f"unlearned model: {tmp_path / 'out'} (its recipe: {tmp_path / 'out'}/unlearn.json)\n"
    )
    assert not errors(done)
    assert same(weights(whole), weights(out))
    for ours, theirs in zip(output.checkpoints(out), output.checkpoints(whole), strict=True):
        assert same(weights(ours), weights(theirs))
    assert [line["step"] for line in output.read_log(out / "log.jsonl")] == [1, 2, 3, 4, 5, 6]
