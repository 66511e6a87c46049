"""Runs command lines that die by kill -9 at a chosen moment; a script, since only a fresh process may fork.

It imports torch once. Each line of standard input is a JSON object with ``argv``, ``home`` (the working
directory), ``at`` (a moment's number, or null: to the end) and ``out`` (a file for what the command prints).
Each is answered by a line with ``code``, the exit code or minus the signal, ``moments``, how many passed, and
``last``, the one it died at. A moment is each file that is opened for writing, moved or removed below
``results``, and each folder that is made or removed there.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import transformers.models.llama.modeling_llama
import transformers.trainer  # noqa: F401

import muse_eval.engines.hf.engine
import muse_eval.tuning.study
import muse_eval.unlearning.training.train  # noqa: F401
from muse_eval.cli.app import main

TOUCHES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")


class Moments:
    """Counts what touches files below a folder; at the chosen moment it kills the process."""

    def __init__(self, folder: Path, at: int | None, told: Path):
        self.folder, self.at, self.told = str(folder), at, told
        self.count = 0

    def audit(self, event: str, given: tuple[Any, ...]) -> None:
        """Count one, if it is one."""
        if event not in (*TOUCHES, "open") or not given or not isinstance(given[0], str | os.PathLike):
            return
        path = os.path.abspath(os.fspath(given[0]))  # noqa: PTH100  # bytes and odd names pass too
        if not isinstance(path, str) or not path.startswith(self.folder):
            return
        if event == "open" and not (isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        self.count += 1
        if self.count == self.at:
            self.folder = "\0"
            self.told.write_text(json.dumps({"moments": self.count, "last": f"{event} {path}"}))
            os.kill(os.getpid(), signal.SIGKILL)


def attempt(job: dict[str, Any], told: Path) -> int:
    """Run the command in this process, to the end or to the chosen moment; return its exit code."""
    os.chdir(job["home"])
    with Path(job["out"]).open("w") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    moments = Moments(Path.cwd() / "results", job["at"], told)
    sys.addaudithook(moments.audit)
    sys.argv[1:] = job["argv"]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.stdout.flush()
    told.write_text(json.dumps({"moments": moments.count, "last": None}))
    return code


def run() -> None:
    """Answer every line."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        told = Path(f"{job['out']}.told")
        if (child := os.fork()) == 0:
            code = 1
            try:
                code = attempt(job, told)
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, **json.loads(told.read_text())}), flush=True)
        told.unlink()


if __name__ == "__main__":
    run()
