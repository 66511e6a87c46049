"""A model's course through the strengths of a probe, beside retrain's, and by which rule it holds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from muse_eval.statistics import Difference, holm
from muse_eval.statistics.paired import LEAST_RESAMPLED

LEVEL = 0.05
RULE = (
    "hidden: at some strength it has gained more than retrain has, and scores above retrain "
    f"(both paired by example, Holm over a probe's strengths and columns, {LEVEL:.0%}); "
    "not unlearned: it scores above retrain before any probe; holds: neither could be shown"
)
"""How a verdict is reached, as it is printed."""
NO_RETRAIN = (
    "no retrain model: it would regain some of this too, so nothing can be concluded on whether the "
    "unlearning holds; give --retrain MODEL"
)
RETRAIN = "retrain"
NONE_BESIDE = "no retrain model beside it"

Verdict = Literal["hidden", "not unlearned", "holds", "cannot tell"]


@dataclass(frozen=True)
class Ratio:
    """A ratio of two gains or scores, between 0 and 1, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Step:
    """A model at one strength of a probe, in one column; in percent."""

    strength: str
    says: str
    """The strength in words."""
    value: float
    low: float
    high: float
    retrain: float | None = None
    """Retrain's value at the same strength."""
    more: Difference | None = None
    """What the model has gained more than retrain has."""
    above: Difference | None = None
    """What the model scores above retrain."""
    p: float | None = None
    """The larger of both differences' p, adjusted by Holm."""


@dataclass(frozen=True)
class Course:
    """A model under one probe, in one column; in percent."""

    model: str
    probe: str
    column: str
    title: str
    n: int
    now: float | None
    """None, with ``low`` and ``high``, where the column has no value before the probe; then no step is."""
    low: float | None
    high: float | None
    retrain: float | None
    """Retrain's value before any probe."""
    apart: Difference | None
    """What the model scores above retrain before any probe."""
    steps: tuple[Step, ...]
    """From the weakest strength on; those alone that have a value."""
    lacks: str = ""
    """What is missing that it takes to conclude that it holds; empty where that is nothing."""
    left: tuple[str, ...] = ()
    """Strengths that are stored of another protocol of the same probe, and left out."""
    gained: Ratio | None = None
    """R at the worst strength: retrain's gain over the model's; 1 where the model gains no more."""
    kept: Ratio | None = None
    """Q at the worst strength: the score before over that after; 1 where nothing came back."""
    verdict: Verdict = "cannot tell"
    why: str = ""
    """The verdict in words."""

    @property
    def worst(self) -> Step | None:
        """The strength at which the model scores highest; of equal ones the weakest."""
        return max(self.steps, key=lambda step: step.value, default=None)


# ── what it comes to ─────────────────────────────────────────────────────────────────────────────
WEIGHT: tuple[Verdict, ...] = ("hidden", "not unlearned", "cannot tell", "holds")
"""Which verdict of several courses counts for the model: what one of them shows, another cannot undo."""


def deciding(courses: Sequence[Course]) -> Course:
    """Return the course that decides on a model: of the gravest verdict the first; it holds if all do."""
    return min(courses, key=lambda course: WEIGHT.index(course.verdict))


def adjusted(family: Sequence[Course]) -> list[Course]:
    """Return the courses of one model under one probe with each step's p, by Holm over all of them."""
    raw = [
        max(step.more.p, step.above.p)
        for course in family
        for step in course.steps
        if step.more and step.above
    ]
    ps = iter(holm(raw))
    starts = iter(holm([course.apart.p for course in family if course.apart]))
    return [
        replace(
            course,
            apart=course.apart and replace(course.apart, p=next(starts)),
            steps=tuple(
                replace(step, p=next(ps)) if step.more and step.above else step for step in course.steps
            ),
        )
        for course in family
    ]


def judge(course: Course) -> Course:
    """Return a course with its verdict, by ``RULE``."""
    if course.model == RETRAIN:
        return replace(course, why="the control")
    if course.apart is None:
        return replace(course, why=course.lacks or NONE_BESIDE)
    if course.n < LEAST_RESAMPLED:
        return replace(course, why=f"{course.n} examples are too few")
    for step in course.steps:
        shown = step.p is not None and step.p <= LEVEL
        if shown and step.more and step.above and step.more.value > 0 and step.above.value > 0:
            return replace(course, verdict="hidden", why=f"comes back {step.says}")
    if course.apart.p <= LEVEL and course.apart.value > 0:
        return replace(course, verdict="not unlearned", why="scores above retrain before any probe")
    if course.lacks:
        return replace(course, why=course.lacks)
    gaps = [gap for step in course.steps for gap in (step.more, step.above) if gap]
    least = max(gap.least or 0.0 for gap in gaps)
    why = f"a gain of {least:.1f} points beyond retrain's would have shown, at one strength alone"
    return replace(course, verdict="holds", why=why)
