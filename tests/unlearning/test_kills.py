"""kill -9 at ten random moments: what comes out in the end is the same, to the bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from muse_eval.unlearning.training import output
from tests.unlearning.test_unlearn import same, weights

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLS = 10
KINDS: dict[str, dict[str, Any]] = {
    "all weights": {"changes": {}, "keep": False, "seed": 3, "window": 45},
    "adapters, each epoch's model kept": {
        "changes": {"lora": "r=2,dropout=0.2"},
        "keep": True,
        "seed": 1,
        "window": 80,
    },
}
"""The seeds are such that kills fall between steps and in the middle of files; nothing else is chosen."""


def kept(out: Path) -> list[Path]:
    """List the models of a run, epoch by epoch, and its result."""
    return [*output.checkpoints(out), out]


@pytest.fixture(scope="module")
def jobs(target: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], Any]]:
    """Each run, and what its attempts found and did; one process that imports torch once forks them all."""
    folder = tmp_path_factory.mktemp("kills")
    jobs = [
        {
            **kind,
            "target": str(target),
            "whole": str(folder / str(number) / "whole"),
            "out": str(folder / str(number) / "out"),
            "method": "npo_klr",
            "changes": {"epochs": 12, **kind["changes"]},
            "kills": KILLS,
        }
        for number, kind in enumerate(KINDS.values())
    ]
    for number in range(len(jobs)):
        (folder / str(number)).mkdir()
    command = [sys.executable, "-m", "tests.support.kills", json.dumps(jobs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(KINDS, zip(jobs, told, strict=True), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_ten_kills_change_no_bit(jobs: dict[str, tuple[dict[str, Any], Any]], kind: str) -> None:
    job, attempts = jobs[kind]
    whole, out, keep = Path(job["whole"]), Path(job["out"]), job["keep"]
    assert [attempt["code"] for attempt in attempts] == [-9] * KILLS + [0]
    killed = [attempt["killed"] for attempt in attempts[:-1]]
    assert any(what.startswith("inside ") for what in killed), killed
    assert any(what.startswith(("step ", "open /log.jsonl")) for what in killed), killed
    begun = [attempt for attempt in attempts if "found" in attempt]
    assert any(False in attempt["found"].values() for attempt in begun), "no kill left a checkpoint unmarked"
    for attempt in begun:
        complete = [name for name, marked in attempt["found"].items() if marked]
        assert attempt["resumed"] == (complete[-1] if complete else None)
    assert len({attempt["resumed"] for attempt in begun}) > 3
    models = kept(out)
    assert [path.name for path in models[:-1]] == [path.name for path in kept(whole)[:-1]]
    assert len(models) == (12 if keep else 0) + 1
    for ours, theirs in zip(models, kept(whole), strict=True):
        assert same(weights(ours), weights(theirs)), ours
        files = ("adapter_config.json", "merged", "optimizer.pt", "trainer_state.json")
        assert not any((ours / name).exists() for name in files)
    assert [line["step"] for line in output.read_log(out / "log.jsonl")] == list(range(1, 25))
    assert not output.partial(out).exists()
