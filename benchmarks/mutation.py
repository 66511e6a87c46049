"""Changes metrics, losses, statistics, gate, selection and tables, one place at a time: tests must notice.

    python -m benchmarks.mutation [PATTERN …]

mutmut makes the changes in a copy of the checkout and runs the tests that reach each (``[tool.mutmut]`` in
``pyproject.toml``). A change that no test notices must be explained in ``benchmarks/survivors.yaml``: why it
changes nothing that counts. Exit code 1 where one is not, or where fewer than 95 % of all are noticed.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
EXPLAINED = Path(__file__).with_name("survivors.yaml")
BAR = 0.95
MUTMUT = str(Path(sys.executable).with_name("mutmut"))
LINKED = ("metrics", "tasks")
"""Folders that the package has a link to; mutmut wants folders."""


@dataclass(frozen=True)
class Reason:
    """Why changes of a kind are no faults."""

    was: re.Pattern[str]
    """Found in a line that was taken away …"""
    now: re.Pattern[str]
    """… and this in one that came."""
    where: re.Pattern[str]
    why: str

    def explains(self, name: str, change: str) -> bool:
        """Tell whether it speaks of a change."""
        lines = change.splitlines()
        old = "\n".join(line[1:] for line in lines if line.startswith("-") and not line.startswith("---"))
        new = "\n".join(line[1:] for line in lines if line.startswith("+") and not line.startswith("+++"))
        return bool(self.where.search(name) and self.was.search(old) and self.now.search(new))


def reasons(path: Path = EXPLAINED) -> list[Reason]:
    """Read the explanations: ``why``, and the patterns ``was``, ``now`` and ``where``, any of them absent."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    patterns = [{kind: re.compile(one.get(kind, "")) for kind in ("was", "now", "where")} for one in found]
    return [Reason(**kinds, why=one["why"]) for kinds, one in zip(patterns, found, strict=True)]


def copy(folder: Path) -> None:
    """Copy the checkout, with folders where the package has links."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if name in [f"muse_eval/{link}" for link in LINKED] or not (ROOT / name).is_file():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for link in LINKED:
        shutil.copytree(folder / link, folder / "muse_eval" / link)


def mutmut(folder: Path, *arguments: str) -> str:
    """Run mutmut in a folder; return what it prints."""
    done = subprocess.run([MUTMUT, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout


def outcomes(folder: Path) -> dict[str, str]:
    """Return each change's name and what became of it (killed, survived, no tests …)."""
    lines = mutmut(folder, "results", "--all", "true").splitlines()
    return dict(line.strip().split(": ") for line in lines if ": " in line)


def main(patterns: Sequence[str]) -> int:
    """Make the changes, print those that are not explained and the share that was noticed."""
    known = reasons()
    with tempfile.TemporaryDirectory(prefix="mutation-") as home:
        folder = Path(home)
        copy(folder)
        subprocess.run([MUTMUT, "run", *patterns], cwd=folder, check=False)
        found = {name: end for name, end in outcomes(folder).items() if end not in ("not checked", "skipped")}
        lived = [name for name, end in found.items() if end in ("survived", "no tests", "suspicious")]
        changes = {name: mutmut(folder, "show", name) for name in lived}
    counted = dict.fromkeys((one.why for one in known), 0)
    faults = []
    for name, change in changes.items():
        why = next((one.why for one in known if one.explains(name, change)), None)
        if why is None:
            faults.append(name)
            print(f"{name}\n{change}")
        else:
            counted[why] += 1
    for why, count in counted.items():
        print(f"{count:4d} explained: {why}")
    noticed = len(found) - len(lived)
    share = noticed / max(len(found), 1)
    print(f"{noticed} of {len(found)} changes noticed ({share:.1%}); {len(faults)} of the rest not explained")
    return int(bool(faults) or share < BAR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
