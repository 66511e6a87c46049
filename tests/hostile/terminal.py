"""A command line typed, and what a terminal would obey of what it says."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

from typer.main import get_command

from muse_eval.cli.app import app

OBEYED = (
    "\x1b[2J\x1b]0;title\x07\x1bP1$r\x1b\\\x9b31m\x9d0;t\x9c\x08\x0b\x0c\x0e\x85\x7f\u202e\u2066\u200f\u061c"
)
"""CSI, OSC and DCS with ESC and as C1, other controls, and what turns the direction of writing."""
_SIGN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def obeyed(text: str) -> list[str]:
    """Return every sign of a text that a terminal would obey, with what stands around it."""
    return [text[max(0, m.start() - 20) : m.end() + 20] for m in _SIGN.finditer(text)]


@dataclass(frozen=True)
class Done:
    """What a command line came to."""

    code: int
    out: str
    err: str


@cache
def _command() -> Any:
    return get_command(app)


def typed(*line: object) -> Done:
    """Do a command line in this process; Typer's own runner builds all verbs anew each time."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = _command().main([str(part) for part in line], prog_name="muse-eval", standalone_mode=False)
    return Done(code, out.getvalue(), err.getvalue())
