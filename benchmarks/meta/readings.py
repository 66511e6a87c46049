"""How each score is read: which of its values claim that the forget knowledge is there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from muse_eval.results.composites import COMPOSITES

Kind = Literal["column", "optional column", "attack", "composite"]
AUC = "auc "
"""Before the name of an attack: its AUC of forget against holdout, 0 being fully memorised."""
PRIVLEAK = "privleak"
COLUMNS = ("verbmem_f", "knowmem_f", PRIVLEAK, "knowmem_r")


@dataclass(frozen=True)
class Reading:
    """One way to read one score."""

    name: str
    source: str
    """The score that it is read from."""
    kind: Kind
    says: str
    """The direction: what is taken for knowledge."""
    leak: Callable[[float], float]
    """(value) → the leak, higher being more knowledge; from 0 on where the score has a zero."""


def readings(names: Iterable[str]) -> list[Reading]:
    """Return the ways to read some scores, the task's columns first, then optional ones, attacks, composites.

    PrivLeak is read twice: by its sign (negative: under-unlearned) and, as its goal is, by its distance
    from 0.
    """
    found = []
    for name in names:
        found.append(_reading(name))
        if name == PRIVLEAK:
            found.append(Reading(f"|{PRIVLEAK}|", name, "column", "farther from 0", abs))
    kinds = ("column", "optional column", "attack", "composite")
    return sorted(found, key=lambda one: kinds.index(one.kind))


def _reading(name: str) -> Reading:
    if name == PRIVLEAK:
        return Reading(name, name, "column", "lower", lambda value: -value)
    if name.startswith(AUC):
        return Reading(name, name, "attack", "lower", lambda value: 1 - value)
    if name in COMPOSITES:
        return Reading(name, name, "composite", "lower", lambda value: 100 - value)
    kind: Kind = "column" if name in COLUMNS else "optional column"
    return Reading(name, name, kind, "higher", lambda value: value)
