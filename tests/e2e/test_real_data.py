"""MUSE-News' own texts, where they are at hand: fingerprints hold, the hub serves the same as a folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from muse_eval import plugins
from muse_eval.data.splits import open_data, verify
from muse_eval.types import Row
from tests.e2e import SCRIPT, muse
from tests.support.hub import HubServer, write_dataset

NEWS = Path(__file__).parents[3] / "shared" / "muse-data" / "news"
ABSENT = {"raw/holdout", "raw/retain1", "raw/retain2"}
"""Splits that are not there."""
BLANK = "raw/forget: 1 of 889 rows is blank (row 821): nothing to train on"
REPO = "muse-bench/MUSE-News"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not NEWS.is_dir(), reason="the MUSE-News data are not here"),
]


@pytest.mark.parametrize("task", ["muse_news", "muse_news_sust"])
def test_every_fingerprint_is_met_with_the_blank_row_in_it(task: str) -> None:
    verdicts = verify(plugins.task(task), open_data(plugins.task(task), NEWS))
    assert {one.split for one in verdicts if one.status == "missing"} == ABSENT
    assert {one.status for one in verdicts if one.split not in ABSENT} == {"ok"}
    done = muse("data", "verify", "--task", task, "--data-dir", NEWS)
    assert done.exit_code == 0
    assert BLANK in done.stdout.splitlines()


def test_the_hub_serves_what_the_folder_holds(tmp_path: Path) -> None:
    """The real files, as the hub has them: one parquet file a split, at the task's pinned revision."""
    task = plugins.task("muse_news_sust")
    data = open_data(task, NEWS)
    rows: dict[str, list[Row]] = {name: list(data.split(name).rows) for name in data.names()}
    write_dataset(tmp_path / "repo", {name: [dict(row) for row in found] for name, found in rows.items()})
    shown = muse("data", "show", "--task", task.name, "--data-dir", NEWS)
    assert shown.exit_code == 0
    pinned = [task.data.revision] if task.data.revision else []
    with HubServer({}, datasets={REPO: tmp_path / "repo"}, revisions={REPO: pinned}) as hub:
        env = {**os.environ, **hub.env(tmp_path / "hf")}
        for verb in ("show", "verify"):
            command = [str(SCRIPT), "data", verb, "--task", task.name]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, done.stderr
            if verb == "show":
                assert done.stdout == shown.stdout
        assert BLANK in done.stdout.splitlines()
