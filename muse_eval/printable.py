"""Text of a model's, of data or of someone's file, made fit for a terminal."""

import unicodedata

JOINERS = "\u200c\u200d"
"""Print nothing themselves, and shape what stands beside them."""


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
