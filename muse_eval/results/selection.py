"""Which epoch's checkpoint of an unlearning counts: the last, or the one that a published rule stops at."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from muse_eval.errors import UserError, unknown_name
from muse_eval.results.composites import COLUMNS, COMPOSITES, composite

Scores = Mapping[str, float | None]
"""Column to value in percent; None where it is undefined."""

RULES = {
    "last": "the last epoch",
    "paper": "the first epoch whose KnowMem Dr is below retrain's (MUSE, section 5.1)",
    "released": "the first epoch whose KnowMem Df is at or below retrain's (MUSE's published code)",
    "best": "the epoch with the highest composite",
}
"""What each rule selects."""
NEVER = {
    "paper": "KnowMem Dr never fell below retrain's",
    "released": "KnowMem Df never came down to retrain's",
    "best": "the composite is defined in no epoch, or in none whose model is not ruined",
}
"""Why a rule selected nothing, so that the last epoch stands in."""
COMPARED = {"paper": "knowmem_r", "released": "knowmem_f"}
"""The column in which a rule compares an epoch with the retrain model."""


@dataclass(frozen=True)
class Selection:
    """The epoch that a rule came to."""

    epoch: int
    """Counted from 1."""
    of: int
    rule: str
    fired: bool = True
    """Whether the rule selected it; else it is the last epoch, in the place of one."""
    composite: str | None = None
    """What the rule ``best`` ranked by."""


def check_rule(rule: str, name: str, columns: Sequence[str]) -> None:
    """Refuse a rule or a composite that does not exist, or that the columns scored are not enough for.

    Raises:
        UserError: so it is.
    """
    if rule not in RULES:
        raise unknown_name("selection rule", rule, RULES)
    composite(name, dict.fromkeys(COLUMNS))
    needed = COLUMNS if rule == "best" else (COMPARED[rule],) if rule in COMPARED else ()
    absent = [column for column in needed if column not in columns]
    if absent:
        raise UserError(f"--select {rule} needs the columns {', '.join(absent)}, which are not scored")


def check_retrain(rule: str, retrain: Scores) -> None:
    """Refuse a rule that compares with a score of the retrain model's that is undefined.

    Raises:
        UserError: so it is.
    """
    column = COMPARED.get(rule)
    if column is not None and retrain[column] is None:
        raise UserError(
            f"--select {rule} compares with retrain's {column}, which is undefined; use another rule"
        )


def select(
    rule: str,
    epochs: Sequence[Scores],
    retrain: Scores,
    name: str = "balance",
    ruined: Collection[int] = (),
) -> Selection:
    """Return the epoch that a rule selects; where it selects none, the last one, saying so.

    Values are compared as they are, unrounded. An epoch whose deciding value is undefined is never selected
    by it. Of equal composites the earliest epoch's counts: it took the least training.

    Args:
        rule: one of ``RULES``.
        epochs: each epoch's scores, from the first on; at least one.
        retrain: the retrain model's scores.
        name: the composite that ``best`` ranks by.
        ruined: the epochs, counted from 1, that ``best`` passes over.

    Raises:
        UserError: the rule or the composite does not exist, or a value that it compares with is undefined.
    """
    check_rule(rule, name, list(epochs[0]))
    check_retrain(rule, retrain)
    found = _SELECTED[rule](epochs, retrain, name, ruined)
    ranked = name if rule == "best" else None
    return Selection(found or len(epochs), len(epochs), rule, found is not None, ranked)


def selectable(epochs: Sequence[Scores], retrain: Scores, ruined: Collection[int] = ()) -> set[int]:
    """Return the epochs that some rule, with whatever composite, selects; the last is always one.

    ``best`` is asked with and without the ``ruined`` ones.
    """
    found = set()
    for rule in RULES:
        for name, passed in product(COMPOSITES if rule == "best" else ("balance",), ((), ruined)):
            try:
                found.add(select(rule, epochs, retrain, name, passed).epoch)
            except UserError:
                # The task, or its retrain model, lacks what the rule compares.
                continue
    return found


def _paper(epochs: Sequence[Scores], retrain: Scores, _name: str, _ruined: Collection[int]) -> int | None:
    return _first(epochs, "knowmem_r", lambda value: value < _known(retrain["knowmem_r"]))


def _released(epochs: Sequence[Scores], retrain: Scores, _name: str, _ruined: Collection[int]) -> int | None:
    return _first(epochs, "knowmem_f", lambda value: value <= _known(retrain["knowmem_f"]))


def _best(epochs: Sequence[Scores], _retrain: Scores, name: str, ruined: Collection[int]) -> int | None:
    ranks = [None if epoch in ruined else composite(name, scores) for epoch, scores in enumerate(epochs, 1)]
    highest = max((rank for rank in ranks if rank is not None), default=None)
    return None if highest is None else ranks.index(highest) + 1


def _first(epochs: Sequence[Scores], column: str, holds: Callable[[float], bool]) -> int | None:
    values = [scores[column] for scores in epochs]
    return next((at for at, value in enumerate(values, 1) if value is not None and holds(value)), None)


def _known(value: float | None) -> float:
    assert value is not None
    return value


_SELECTED: Mapping[str, Callable[[Sequence[Scores], Scores, str, Collection[int]], int | None]] = {
    "last": lambda epochs, _retrain, _name, _ruined: len(epochs),
    "paper": _paper,
    "released": _released,
    "best": _best,
}


def explain(selection: Selection) -> str:
    """Say in one line which epoch was selected and why, or that the rule selected none."""
    where = f"epoch {selection.epoch} of {selection.of}"
    if not selection.fired:
        return f"{where}, the last: the rule {selection.rule!r} selected none, as {NEVER[selection.rule]}"
    ranked = f" {selection.composite!r}" if selection.composite else ""
    return f"{where}, selected by the rule {selection.rule!r}: {RULES[selection.rule]}{ranked}"
