"""What a comparison of runs comes to, column by column and pair by pair."""

from dataclasses import dataclass

from muse_eval.results.rows import Goal
from muse_eval.statistics import Difference


@dataclass(frozen=True)
class Pair:
    """Two runs in one column."""

    one: str
    other: str
    difference: Difference
    """What the second has more than the first, in points."""
    judged: Difference
    """How much farther from ideal the first is than the second; p is that of the verdict."""
    p: float
    """``judged``'s, adjusted by Holm over the column's pairs."""
    better: str | None
    """The better of the two; None where nothing shows one."""
    apart: dict[str, tuple[float, float]]
    """Of a membership attack, split to Kolmogorov–Smirnov distance and p between the two models' scores."""


@dataclass(frozen=True)
class Side:
    """One run in one column."""

    value: float
    interval: tuple[float, float] | None
    from_retrain: Difference | None
    """Value less retrain's, of a forget column whose retrain run is stored."""
    rates: dict[str, float]
    """Of a membership attack, false-positive rate to true-positive rate, both as fractions."""
    flags: tuple[str, ...]


@dataclass(frozen=True)
class ColumnComparison:
    """All runs in one column."""

    name: str
    title: str
    goal: Goal | None
    n: int
    judged_by: str
    """What is better: in words."""
    sides: dict[str, Side]
    pairs: list[Pair]
    notes: list[str]


@dataclass(frozen=True)
class Comparison:
    """Runs compared, column by column."""

    runs: list[str]
    task: str
    columns: list[ColumnComparison]
    notes: list[str]
    ruined: dict[str, list[str]]
    """Run to its flags under which it is never the best."""
