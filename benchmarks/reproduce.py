"""Makes the built-in world's full table from scratch: every method, three seeds, leaderboard, docs.

``make reproduce`` runs it. The seeds run side by side, one process and one thread each.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from muse_eval import plugins
from muse_eval.results import load_all, write_files
from muse_eval.results.rows import rows
from muse_eval.results.tables import to_csv

SEEDS = (0, 1, 2)
KLR = ("ga", "npo", "simnpo")
"""Losses whose KL retain term is in the table: MUSE's and SimNPO; of the others `_gdr` is enough."""


def methods() -> list[str]:
    """Return the methods of the table: every one alone and with ``_gdr``, MUSE's own with ``_klr`` too."""
    return [
        name
        for name in plugins.method_names()
        for stem, term in [plugins.split_method(name)]
        if term != "kl" or stem in KLR
    ]


def run(seed: int, names: list[str], results: Path) -> float:
    """Run one world's pipeline in a process of its own; return its seconds."""
    task = f"muse_mini-seed{seed}" if seed else "muse_mini"
    command = [sys.executable, "-m", "muse_eval", "pipeline", "--task", task, "--methods", ",".join(names)]
    began = time.monotonic()
    subprocess.run([*command, "--results", str(results), "--quiet"], check=True)
    return time.monotonic() - began


def main() -> None:
    """Run everything, then write ``project/leaderboard.csv`` and the measured part of docs/methods.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--jobs", type=int, default=min(len(SEEDS), os.cpu_count() or 1))
    parser.add_argument("--methods", help="comma-separated; else all")
    given = parser.parse_args()
    names = given.methods.split(",") if given.methods else methods()
    with ThreadPoolExecutor(given.jobs) as pool:
        seconds = list(pool.map(lambda seed: run(seed, names, given.results), SEEDS))
    for seed, took in zip(SEEDS, seconds, strict=True):
        print(f"seed {seed}: {took:.0f} s for {len(names)} methods")
    # Beside them may lie runs of whoever calls it, which are no part of the project's table.
    mini = re.compile(r"muse_mini(-seed\d+)?")
    found = [one for one in load_all(given.results, print) if mini.fullmatch(one.task)]
    write_files(given.results / "project", {"leaderboard.csv": to_csv(rows(found))})
    page = [sys.executable, "-m", "benchmarks.methods_page", "--results", str(given.results)]
    subprocess.run(page, check=True)


if __name__ == "__main__":
    main()
