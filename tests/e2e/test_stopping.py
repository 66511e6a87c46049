"""A request to stop is heeded wherever the program is when it comes."""

import signal
import subprocess
import sys

import pytest

CLOSING = """
import os, signal, sys, time
from muse_eval.cli import app as cli

# Started in the background, a process would ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Closing:
    def __del__(self):
        os.kill(os.getpid(), {number})
        for _ in range(1_000):
            pass

@cli.app.command()
def wait():
    Closing()
    time.sleep(60)
    print("went on")

sys.argv = ["muse-eval", "wait"]
cli.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_comes_while_an_object_is_deleted_is_not_lost(number: int, code: int) -> None:
    """Python drops what is raised in ``__del__``, and the command would run on to its end."""
    command = [sys.executable, "-c", CLOSING.format(number=int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "muse-eval: stopped; the same command goes on from here\n"
