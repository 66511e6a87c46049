"""Text of a model's, of data or of someone's file, made fit for a terminal."""

import codecs
import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from muse_eval.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

JOINERS = "\u200c\u200d"
"""Print nothing themselves, and shape what stands beside them."""
CLOSED_PIPE = 141
"""The exit code where nobody reads on (``| head``): what a shell says of a command that SIGPIPE ended."""
POOR = "muse-eval-poor"
"""Error handler of encodings that lack a sign: it is spelt out."""
SPELT = {
    "±": "+/-",
    "→": "->",
    "↓": "(lower)",
    "↑": "(higher)",
    "…": "...",
    "λ": "lambda",
    "✓": "ok",
    "–": "-",
    "−": "-",
}


# ── text ───────────────────────────────────────────────────────────────────────────────────────────
def printable(text: str) -> str:
    r"""Return a text with every character that a terminal would obey written out: ESC becomes ``\x1b``.

    Line ends and spaces stay, tabs and rarer spaces become spaces; what turns the direction of writing,
    lone surrogates and unassigned characters are written out as well.
    """
    return "".join(_shown(char) for char in text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Return the same on one line, with single spaces."""
    return " ".join(printable(text).split())


def _shown(char: str) -> str:
    if char.isprintable() or char == "\n" or char in JOINERS:
        return char
    if char == "\t" or unicodedata.category(char) == "Zs":
        return " "
    return char.encode("unicode_escape").decode()


# ── streams ────────────────────────────────────────────────────────────────────────────────────────
class Stream:
    """A text stream that no foreign text commands.

    Rich writes through ``rich_proxied_file``, whose escapes are its own; what it draws is a ``console``'s.
    """

    def __init__(self, raw: TextIO, name: str, show: Callable[[str], str] = printable) -> None:
        self._raw, self._name, self._show = raw, name, show
        if show is printable:
            self.rich_proxied_file = Stream(raw, name, str)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def write(self, text: str) -> int:
        """Write a text with all that a terminal would obey written out.

        Raises:
            UserError: standard output takes no more.
            SystemExit: nobody reads standard output on.
        """
        with self._watched():
            self._raw.write(self._show(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what is written; fails as ``write`` does."""
        with self._watched():
            self._raw.flush()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python tries once more at its end, and would then tell of it in its own words.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._raw.fileno())
            if self._name == "standard error":
                return
            if isinstance(error, BrokenPipeError):
                raise SystemExit(CLOSED_PIPE) from None
            reason = error.strerror or str(error)
            raise UserError(f"cannot write to {self._name}: {reason}; send it where there is room") from None


@contextmanager
def guarded() -> Iterator[None]:
    """Let what is printed pass through a ``Stream`` until the block ends."""
    before = sys.stdout, sys.stderr
    errors = [_spell_out(stream) for stream in before]
    names = ("standard output", "standard error")
    # A stream that was closed at the start is None.
    out, err = (
        cast(TextIO, Stream(stream or io.StringIO(), name))
        for stream, name in zip(before, names, strict=True)
    )
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream, handler in zip(before, errors, strict=True):
            if handler is not None:
                with suppress(OSError, ValueError):
                    cast(Any, stream).reconfigure(errors=handler)


def _spell_out(stream: TextIO | None) -> str | None:
    """Let a stream spell out what its encoding lacks; return how it dealt with that before."""
    if stream is None or not hasattr(stream, "reconfigure"):
        return None
    before = stream.errors
    stream.reconfigure(errors=POOR)
    return before


def _poor(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    told = [SPELT.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in lacking]
    return "".join(told), error.end


codecs.register_error(POOR, _poor)


def console(stderr: bool = False, width: int | None = None) -> "Console":
    """Return what draws tables and bars, foreign text in them written out.

    Args:
        stderr: on standard error, else on standard output.
        width: of a page where there is no terminal; else as wide as Rich thinks.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Shown(Console):
        def render(self, *args: Any, **kwargs: Any) -> Any:
            for segment in super().render(*args, **kwargs):
                text = segment.text
                yield segment if segment.control else Segment(printable(text), segment.style)

    file = sys.stderr if stderr else sys.stdout
    # Where bars are live, Rich takes the streams' place: what draws must not come back to it.
    raw = getattr(file, "rich_proxied_file", file)
    return Shown(file=raw, width=None if file.isatty() else width)


def say(message: str) -> None:
    """Print a line on standard error, as muse-eval's; a message of several lines is joined into one."""
    print(f"muse-eval: {one_line(message)}", file=sys.stderr)


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print a value as JSON on standard output, readable and with nothing in it that a terminal obeys."""
    print(harmless_json(json.dumps(value, indent=indent, ensure_ascii=False)))


def harmless_json(text: str) -> str:
    r"""Return JSON of the same meaning whose strings hold only what can be shown: ``\u009b``, ``\u202e``."""
    return "".join(char if char.isprintable() or char == "\n" else _json_escape(char) for char in text)


def _json_escape(char: str) -> str:
    # Outside of strings JSON has no such characters but these.
    return char if char in "\t\r" else json.dumps(char)[1:-1]
