"""Whether what was read has the shape that its reader needs: which key of which file does not."""

from typing import Any, TypeVar

from muse_eval.reading.files import Unreadable, shown

T = TypeVar("T")
_WORDS = {
    dict: "a mapping of keys to values",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def expect(value: Any, kind: type[T], where: str, *keys: str) -> T:
    """Return what lies below some keys of a value that was read.

    Args:
        value: what was read.
        kind: what it must be there; ``float`` takes whole numbers too, and no number is a bool.
        where: what errors call the value: its file.
        keys: the way there, through mappings; none: the value itself.

    Raises:
        Unreadable: there is no such key, or something of another kind.
    """
    way = ""
    for key in keys:
        if not isinstance(value, dict):
            raise _misshapen(where, way, dict, value)
        way = f"{way}.{key}" if way else key
        if key not in value:
            raise Unreadable(f"{where}: {way} is missing")
        value = value[key]
    if not _is(value, kind):
        raise _misshapen(where, way, kind, value)
    return value  # type: ignore[no-any-return]


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _misshapen(where: str, way: str, kind: type, value: Any) -> Unreadable:
    got = shown(repr(value)) if isinstance(value, (str, int, float)) else type(value).__name__
    return Unreadable(f"{where}{f': {way}' if way else ''} must be {_WORDS[kind]}, got {got}")
