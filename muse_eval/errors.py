"""The one exception for what a user can mend: a single line that says what to do."""

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 5
"""Items that a line names; the rest are counted."""


class UserError(Exception):
    """A mistake or a circumstance that the user can mend; the command line prints it and exits 2."""


class LocalError(UserError):
    """A ``UserError`` that befell one process of several, which alone can tell of it."""


class DivergedError(UserError):
    """Training came to a number that is not finite: the same recipe would do so again."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


class Terminated(KeyboardInterrupt):
    """SIGTERM: what schedulers and ``kill`` send; whatever tidies up after Ctrl-C does so after it."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that does not exist, with the nearest one and all that do."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    plural = kind if kind.endswith("s") else f"{kind}s"
    return UserError(f"no {kind} {name!r}; {hint}{plural}: {', '.join(names) or 'none'}")


def first_line(error: BaseException) -> str:
    """Return an error's first line, or its kind where it says nothing: another library's words in ours.

    torch's advice of how to load a file that can run code is left out.
    """
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.partition(" This file can still be loaded")[0][:300]


def listed(noun: str, items: Sequence[object]) -> str:
    """Name some of the items and count the rest: ``rows 3, 7 and 9``."""
    shown = [str(item) for item in items[:SHOWN]]
    if len(items) > SHOWN:
        shown.append(f"{len(items) - SHOWN} more")
    head = ", ".join(shown[:-1])
    return f"{noun}{'s' if len(items) > 1 else ''} {f'{head} and ' if head else ''}{shown[-1]}"


def counted(number: int, noun: str) -> str:
    """Count things: ``1 row``, ``2,083 tokens``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
