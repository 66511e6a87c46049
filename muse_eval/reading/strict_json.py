"""Reads JSON that others wrote: a key given twice, an endless number or a tower of brackets is refused."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from muse_eval.errors import first_line
from muse_eval.reading.files import CORPUS_BYTES, MOST_BYTES, Unreadable, decoded, read_bytes, shown

MOST_DEPTH = 100
"""Brackets within one another."""
MOST_DIGITS = 100
"""Of a whole number."""
_TOKEN = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[][{}]', re.DOTALL)
"""A text, which is a key where a colon follows, or a bracket."""
_INFINITE = (float("inf"), float("-inf"))


class MalformedJson(Unreadable):
    """The text is no JSON at all, as one that was cut off, where other errors are of JSON that is refused."""


class RepeatedKey(Unreadable):
    """An object gives a key twice; the message shows it."""


def parse_json(text: str | bytes, where: str, line: int = 0, *, finite: bool = True) -> Any:
    """Parse JSON.

    Args:
        text: the JSON, as text or in UTF-8.
        where: what errors call it.
        line: the line that it is in its file, where it is one line of many.
        finite: whether NaN, Infinity and numbers that no float holds are refused; no JSON has them, but
            Python writes them, and so do some of transformers' configurations.

    Raises:
        MalformedJson: it is not JSON (with the line).
        RepeatedKey: an object gives a key twice (with key and line).
        Unreadable: it holds a whole number of more than 100 digits, or more than 100 brackets within one
            another.
    """
    if isinstance(text, bytes):
        text = decoded(text, where)
    if text.startswith("\ufeff"):
        place = f"{where}:{line}" if line else where
        raise Unreadable(f"{place}: not valid JSON: it begins with a byte-order mark; save it without")
    try:
        value = (_FINITE if finite else _ANY).decode(text)
        if text.count("[") + text.count("{") > MOST_DEPTH:
            _require_shallow(value)
    except _Twice:
        key, found = _repeated(text)
        raise RepeatedKey(f"{where}:{line or found}: not valid JSON: the key {key} is given twice") from None
    except json.JSONDecodeError as error:
        raise MalformedJson(f"{where}:{line or error.lineno}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        is_deep = isinstance(error, RecursionError)
        why = f"nested more than {MOST_DEPTH} deep" if is_deep else first_line(error)
        raise Unreadable(f"{where}{f':{line}' if line else ''}: not valid JSON: {why}") from None
    return value


def read_json(path: Path, what: str = "", most: int = MOST_BYTES, *, finite: bool = True) -> Any:
    """Read a file of JSON; see ``parse_json`` for what is refused.

    Raises:
        MissingFile: there is none.
        Unreadable: it cannot be read, or not as JSON.
    """
    return parse_json(read_bytes(path, what, most), f"{what} {path}".strip(), finite=finite)


def parse_jsonl(text: str | bytes, where: str, *, finite: bool = True) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line that is not blank.

    Raises:
        Unreadable: a line (named) is not JSON; see ``parse_json``.
    """
    # Not splitlines(): a text may hold U+2028 and the like, which JSON leaves as they are.
    lines: Iterable[str | bytes] = text.split(b"\n") if isinstance(text, bytes) else text.split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, parse_json(line, where, number, finite=finite)


def read_jsonl(path: Path, what: str = "", *, finite: bool = True) -> list[Any]:
    """Read a file of JSON lines, blank ones left out.

    Raises:
        MissingFile: there is none.
        Unreadable: it cannot be read, or a line (named) not as JSON.
    """
    content = read_bytes(path, what, CORPUS_BYTES)
    return [value for _, value in parse_jsonl(content, f"{what} {path}".strip(), finite=finite)]


class _Twice(Exception):  # noqa: N818 - it never leaves this module
    """An object has a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"Exceeds the limit of {MOST_DIGITS} digits for a whole number")
    return int(digits)


def _number(digits: str) -> float:
    if (found := float(digits)) in _INFINITE:
        raise ValueError(f"{digits:.40} is no number that can be held")
    return found


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


_ANY = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole)
_FINITE = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_number, parse_constant=_constant
)


def _require_shallow(value: Any) -> None:
    level: list[Any] = [[value]]
    for _ in range(MOST_DEPTH + 1):
        level = [
            child
            for one in level
            for child in (one.values() if isinstance(one, dict) else one)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise RecursionError


def _repeated(text: str) -> tuple[str, int]:
    """Return the first key that an object has twice, as errors show it, and the line of its second place."""
    keys: list[set[str]] = []
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            keys.append(set())
        elif token[0] in "}]":
            keys.pop()
        elif token[2]:
            key = json.loads(token[1])
            if key in keys[-1]:
                return shown(repr(key)), text.count("\n", 0, token.start()) + 1
            keys[-1].add(key)
    raise AssertionError("no key is given twice")
