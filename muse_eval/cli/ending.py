"""How a command ends: its exit code, and the one line on standard error where it did not go well."""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from muse_eval.errors import Terminated, UserError, first_line
from muse_eval.folders import FULL
from muse_eval.printable import guarded, say

CANNOT, UNFORESEEN, INTERRUPTED, TERMINATED = 2, 70, 130, 143
"""Exit codes: what the user can mend, a fault of muse-eval's own (``EX_SOFTWARE``), Ctrl-C, SIGTERM."""
TRACEBACK = "MUSE_EVAL_TRACEBACK"
"""Environment variable that asks for the traceback of what was not foreseen."""


class Ended(Exception):  # noqa: N818 - it carries an error past Typer, which has its own idea of some
    """What ended a command."""


def exit_code(command: Callable[[], Any]) -> int:
    """Do a command and return its exit code; a line on standard error says why it is not 0."""
    with guarded():
        code = _code_of(command)
        # What waits to be written counts as well; where that was refused before, nothing waits.
        return _code_of(sys.stdout.flush) or code


def _code_of(command: Callable[[], Any]) -> int:
    try:
        code = command()
    except Ended as ended:
        return _told(ended.__cause__ or ended)
    except SystemExit as left:
        return _refused(left.code) if isinstance(left.code, str) else left.code or 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told, with a code of its own
        return _told(error)
    return code if isinstance(code, int) else 0


def _told(error: BaseException) -> int:
    """Say in a line what ended a command, and return the exit code that stands for it."""
    if isinstance(error, KeyboardInterrupt):
        say("stopped; the same command goes on from here")
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    if isinstance(error, UserError):
        return _refused(str(error))
    if hasattr(error, "format_message"):
        return _misused(error)
    if isinstance(error, OSError) and error.errno in FULL:
        place = f" ({error.filename})" if error.filename else ""
        return _refused(f"the disk is full{place}: {error.strerror}; free some space, then go on from here")
    if isinstance(error, OSError) and error.filename is not None:
        return _refused(f"{os.fsdecode(error.filename)}: {error.strerror}; give a place that can be used")
    return _unforeseen(error)


def _refused(message: str) -> int:
    say(f"error: {message}")
    return CANNOT


def _misused(error: Any) -> int:
    """Say what is wrong with a command line, as Typer found it."""
    # Where no command is given, Typer has printed the help, and says nothing.
    if message := error.format_message().rstrip("."):
        verb, at = "", getattr(error, "ctx", None)
        while at is not None and at.parent is not None:
            verb, at = f" {at.info_name}{verb}", at.parent
        _refused(f"{message[0].lower()}{message[1:]}; see muse-eval{verb} --help")
    return CANNOT


def _unforeseen(error: BaseException) -> int:
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = Path(__file__).parents[1]
    at = next((f for f in reversed(frames) if Path(f.f_code.co_filename).is_relative_to(own)), None)
    place = f" in {Path(at.f_code.co_filename).relative_to(own)}, {at.f_code.co_name}" if at else ""
    say(
        f"error: unforeseen, a fault of muse-eval: {type(error).__name__}: {first_line(error)}{place}; "
        f"{TRACEBACK}=1 shows the traceback for a report"
    )
    return UNFORESEEN


def say_no_more() -> None:
    """Let nothing follow the last line: what packages write while the process ends is told to nobody.

    Where the traceback is asked for, that is let through as well.
    """
    if os.environ.get(TRACEBACK):
        return
    with suppress(AttributeError, OSError, ValueError):  # It is None where there is none (2>&-).
        sys.stderr.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


class Verbs(TyperGroup):
    """The verbs, whatever ends them told in one line and one exit code."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Do a command line."""
        run: Any = super().main
        alone = options.pop("standalone_mode", True)
        code = exit_code(lambda: run(*args, **options, standalone_mode=False))
        if alone:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except (EOFError, KeyboardInterrupt, OSError) as error:
            # Of these Typer would make exit codes of its own, 1 among them.
            raise Ended from error
