"""The table of probes: now and at the worst strength, the same for retrain, the ratios, and what holds."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from muse_eval.results.grid import Cell, Grid
from muse_eval.results.probe_verdict import NO_RETRAIN, NONE_BESIDE, RETRAIN, RULE, Course, Ratio

HEADER = [
    "model",
    "probe",
    "column",
    "now → worst",
    "retrain",
    "R",
    "Q",
    "gains more than retrain",
    "verdict",
]
MEANING = (
    "worst: the strength at which the model scores highest; retrain's at the same; R: retrain's gain over "
    "the model's; Q: the score before over that after; both at most 1, the higher the better"
)


def probe_grid(courses: Sequence[Course]) -> Grid:
    """Lay out courses: a line for each probe, column and model; retrain's numbers stand in each."""
    told = [one for one in courses if one.model != RETRAIN]
    alone = bool(told) and all(one.lacks == NONE_BESIDE for one in told)
    left = dict.fromkeys(
        f"{one.model} under {one.probe}: {', '.join(one.left)} is stored of another protocol, and left out"
        for one in courses
        if one.left
    )
    return Grid(HEADER, [_line(one) for one in told], [MEANING, NO_RETRAIN if alone else RULE, *left])


def _line(course: Course) -> list[Cell]:
    worst = course.worst
    beside = f"{course.retrain:.1f} → {worst.retrain:.1f}" if worst and worst.retrain is not None else ""
    more = worst.more if worst else None
    explained = course.verdict in ("hidden", "cannot tell")
    told = f"{course.verdict}: {course.why}" if explained else course.verdict
    values = Cell(f"{course.now:.1f} → {worst.value:.1f}", f" {worst.says}") if worst else Cell("n/a")
    return [
        Cell(course.model),
        Cell(course.probe),
        Cell(course.title),
        values,
        Cell(beside),
        Cell(_ratio(course.gained)),
        Cell(_ratio(course.kept)),
        Cell("" if more is None else f"{more.value:+.1f} [{more.low:+.1f}, {more.high:+.1f}]"),
        Cell(told),
    ]


def _ratio(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def probe_json(courses: Sequence[Course]) -> list[dict[str, Any]]:
    """Return courses as plain mappings: every strength with its numbers, the worst one named."""
    return [{**asdict(one), "worst": one.worst and one.worst.strength} for one in courses]
