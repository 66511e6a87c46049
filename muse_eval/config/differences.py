"""What differs between two descriptions: each key, then and now, short enough for one line."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from muse_eval.printable import one_line

WIDTH = 60
"""Characters of a value at the most."""
MOST = 4
"""Differences that are listed; the others are counted."""
DIGEST_DIGITS = 8


class _Absent:
    """Stands for what a description does not have."""


_ABSENT = _Absent()


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return ``PATH THEN, now NOW`` for each value that differs, in the order of ``now``.

    Both are plain values as JSON has them; a list and a tuple are the same. Mappings are compared key by
    key, and ``PATH`` joins their keys by dots.
    """
    return [
        f"{one_line(path)} {_short(old)}, now {_short(new)}" for path, old, new in _differing("", then, now)
    ]


def joined(found: list[str]) -> str:
    """Return differences on one line: the first ones, and how many more there are."""
    more = len(found) - MOST
    return "; ".join([*found[:MOST], *([f"and {more} more"] if more > 0 else [])])


def _differing(path: str, then: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if not (isinstance(then, Mapping) and isinstance(now, Mapping)):
        if _plain(then) != _plain(now):
            yield path, then, now
        return
    for key in (*now, *(key for key in then if key not in now)):
        inner = f"{path}.{key}" if path else str(key)
        yield from _differing(inner, then.get(key, _ABSENT), now.get(key, _ABSENT))


def _plain(value: Any) -> Any:
    return value if isinstance(value, _Absent) else json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = _said(value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def _said(value: Any) -> str:
    if isinstance(value, _Absent):
        return "absent"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{one_line(str(key))} {_said(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_said(inner) for inner in value) + "]"
    if isinstance(value, str) and re.fullmatch(r"(sha256:)?[0-9a-f]{40,}", value):
        return value.removeprefix("sha256:")[:DIGEST_DIGITS]
    if isinstance(value, str):
        return one_line(value) or "''"
    if isinstance(value, float):
        # As it is typed: 1e-5, not 1e-05.
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", repr(value))
    return "none" if value is None else str(value).lower()
