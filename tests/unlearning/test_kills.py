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


def kept(out: Path) -> list[Path]:
    """List the models of a run, epoch by epoch, and its result."""
    return [*output.checkpoints(out), out]


@pytest.mark.parametrize(
    ("changes", "keep", "seed"),
    [
        pytest.param({}, False, 3, id="all weights"),
        pytest.param({"lora": "r=2,dropout=0.2"}, True, 1, id="adapters, each epoch's model kept"),
    ],
)
def test_ten_kills_change_no_bit(
    target: Path, tmp_path: Path, changes: dict[str, Any], keep: bool, seed: int
) -> None:
    """The seeds are such that kills fall between steps and in the middle of files; nothing else is chosen."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    job = {
        "target": str(target),
        "whole": str(whole),
        "out": str(out),
        "method": "npo_klr",
        "changes": {"epochs": 12, **changes},
        "keep": keep,
        "seed": seed,
        "window": 80 if keep else 45,
        "kills": KILLS,
    }
    command = [sys.executable, "-m", "tests.support.kills", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    attempts = json.loads(done.stdout)
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
