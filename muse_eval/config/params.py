"""What a metric's parameters are to its numbers: which are told, which decide a value."""

from collections.abc import Mapping
from dataclasses import asdict, field, fields
from typing import Any, TypeVar

T = TypeVar("T")

DEPARTURE, ASIDE, LATER = "departure", "aside", "later"


def departure(default: T) -> T:
    """Declare a parameter whose default is the protocol's letter.

    It is part of a run's settings only where it departs from that: what was stored before there was such a
    parameter keeps its fingerprint. Tables and baselines tell it there too.
    """
    return field(default=default, metadata={DEPARTURE: True})


def aside(default: T, *, later: bool = False) -> T:
    """Declare a parameter that changes no value: it adds extras, or allows what is then flagged.

    One that came ``later`` than the first stored runs is part of a run's settings only where it is not at its
    default: what was stored before keeps its fingerprint.
    """
    return field(default=default, metadata={ASIDE: True, LATER: later})


def stated(params: Any) -> dict[str, Any]:
    """Return a metric's parameters as a run's settings have them: those left out are at their defaults."""
    kind = type(params)
    marked = _marked(kind, DEPARTURE) | _marked(kind, LATER)
    usual = {one.name: one.default for one in fields(kind) if one.name in marked}
    return {name: one for name, one in asdict(params).items() if name not in usual or one != usual[name]}


def departures(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a metric's parameters that depart from the protocol's letter.

    Args:
        kind: the metric's dataclass of parameters.
        values: parameters as stored; what is missing has its default.
    """
    defaults = {one.name: one.default for one in fields(kind)}
    marked = _marked(kind, DEPARTURE)
    return {name: value for name, value in values.items() if name in marked and value != defaults[name]}


def filled(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a metric's parameters as stored, with the defaults that ``stated`` left out."""
    marked = _marked(kind, DEPARTURE)
    return {**{one.name: one.default for one in fields(kind) if one.name in marked}, **values}


def deciding(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return every parameter that can change a value, ``values`` over the metric's defaults."""
    known = {one.name: one.default for one in fields(kind)}
    asides = _marked(kind, ASIDE)
    return {name: value for name, value in {**known, **values}.items() if name not in asides}


def _marked(kind: type, mark: str) -> set[str]:
    return {one.name for one in fields(kind) if one.metadata.get(mark)}
