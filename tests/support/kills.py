"""Unlearns again and again, killed (-9) at chosen moments; a script, since only a fresh process may fork.

It imports torch once and forks a child for each attempt. Prints, for each job of the JSON list it is given, a
line: a JSON list of what each attempt found and did. Moments are the steps and whatever touches a file: each
file opened for writing, moved or removed, each folder made or removed, and the inside of each file that torch
or safetensors writes (half of it is left).
"""

import gc
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft.peft_model
import torch
import transformers.modeling_utils

from muse_eval.unlearning.training import output, resuming
from muse_eval.unlearning.training.train import unlearn
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for

TOUCHES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")


class Moments:
    """Counts moments; at the chosen one it notes which it was and kills the process."""

    def __init__(self, chosen: int | None, folder: Path, note: Callable[..., None]):
        self.chosen, self.folder, self.note = chosen, str(folder), note
        self.count = 0
        self.busy = False

    def pass_by(self, what: str, before: Callable[[], None] | None = None) -> None:
        """Count one."""
        if self.busy:
            return
        self.count += 1
        if self.count == self.chosen:
            self.busy = True
            if before:
                before()
            self.note(killed=what)
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, given: tuple[Any, ...]) -> None:
        """Count what Python does to files below the folder."""
        if event not in (*TOUCHES, "open") or not given or not isinstance(given[0], str | os.PathLike):
            return
        path = os.fspath(given[0])
        if not isinstance(path, str) or not path.startswith(self.folder):
            return
        if event != "open" or (isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)):
            self.pass_by(f"{event} {path.removeprefix(self.folder)}")

    def tear(self, module: Any, name: str) -> None:
        """Count each file that a function (contents, path, …) writes, as a moment in its middle."""
        real = getattr(module, name)

        def write(contents: Any, path: Any, *rest: Any, **named: Any) -> Any:
            def half() -> None:
                real(contents, path, *rest, **named)
                os.truncate(path, Path(path).stat().st_size // 2)

            self.pass_by(f"inside {Path(path).relative_to(self.folder)}", half)
            return real(contents, path, *rest, **named)

        setattr(module, name, write)


def attempt(job: Mapping[str, Any], chosen: int | None, note: Callable[..., None]) -> None:
    """Unlearn in this process, to the end or to the chosen moment."""
    out = Path(job["out"])
    moments = Moments(chosen, output.partial(out), note)
    begin = resuming.begin

    def watched(folder: Path, *rest: Any, **named: Any) -> Path | None:
        found = {path.name: (path / output.COMPLETE).exists() for path in output.checkpoints(folder)}
        newest = begin(folder, *rest, **named)
        note(found=found, resumed=newest and newest.name)
        return newest

    resuming.begin = watched
    for module, name in (
        (torch, "save"),
        (transformers.modeling_utils, "safe_save_file"),
        (peft.peft_model, "safe_save_file"),
    ):
        moments.tear(module, name)
    sys.addaudithook(moments.audit)
    config = config_for(Path(job["target"]), job["method"], **job["changes"])
    unlearn(
        config,
        FORGET,
        RETAIN,
        out,
        keep_checkpoints=job["keep"],
        progress=lambda _, done, __: moments.pass_by(f"step {done}"),
    )
    note(moments=moments.count)


def fork(job: Mapping[str, Any], chosen: int | None) -> dict[str, Any]:
    """Make an attempt in a child; return what it noted, and ``code``, its exit code or minus its signal."""
    notes = Path(f"{job['out']}.notes")
    notes.write_text("")
    if (child := os.fork()) == 0:

        def note(**what: Any) -> None:
            with notes.open("a") as file:
                file.write(json.dumps(what) + "\n")

        code = 1
        try:
            attempt(job, chosen, note)
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told: dict[str, Any] = {}
    for line in notes.read_text().splitlines():
        told |= json.loads(line)
    return told | {"code": code}


def main() -> None:
    """Unlearn to ``whole`` in one go; then to ``out``, killed as often as asked before it may end."""
    torch.set_num_threads(1)
    # Else each child goes through all that was imported when the trainer collects garbage.
    gc.freeze()
    for job in json.loads(sys.argv[1]):
        whole = fork({**job, "out": job["whole"]}, None)
        assert whole["code"] == 0
        draw = random.Random(job["seed"])
        chosen = [draw.randint(1, job["window"]) for _ in range(job["kills"])]
        print(json.dumps([fork(job, moment) for moment in [*chosen, None]]))


if __name__ == "__main__":
    main()
