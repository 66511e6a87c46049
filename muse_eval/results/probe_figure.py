"""A probe's curves: each model's score at every strength, beside target and retrain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from muse_eval.results.drawing import chart, colour_scale, tick_labels
from muse_eval.results.lineage import NOW
from muse_eval.results.probe_verdict import Course

if TYPE_CHECKING:
    import altair as alt

ASIDE = 0.2
"""To both sides of a strength models stand, so that no interval hides another; 1 is to the next strength."""
SHORT = 6
"""Characters of a strength's name that fit under it."""


def draw_probes(courses: Sequence[Course], among: Sequence[str], across: int = 2) -> alt.ConcatChart:
    """Draw courses, a panel for each probe and column; of the names ``among`` each keeps its own colour.

    Strengths that are numbers are degrees, and joined by a line; others are kinds, and stand by themselves.
    """
    import altair as alt

    courses = [one for one in courses if one.steps]
    models = [name for name in among if any(one.model == name for one in courses)]
    keys = list(dict.fromkeys((course.probe, course.column) for course in courses))
    panels = [
        _panel([one for one in courses if (one.probe, one.column) == key], models, among) for key in keys
    ]
    if len({probe for probe, _ in keys}) > 1:
        panels = [panel.properties(title=probe) for panel, (probe, _) in zip(panels, keys, strict=True)]
    return alt.concat(*panels, columns=across, spacing=28)


def _panel(
    courses: Sequence[Course], models: Sequence[str], among: Sequence[str]
) -> alt.LayerChart | alt.FacetChart:
    import altair as alt

    longest = max(courses, key=lambda course: len(course.steps))
    places = [NOW, *(step.strength for step in longest.steps)]
    aside = {name: ASIDE * (2 * at + 1 - len(models)) / len(models) for at, name in enumerate(models)}
    points = [
        {**point, "x": places.index(point["strength"]) + aside[one.model]}
        for one in courses
        for point in _points(one)
        if point["strength"] in places
    ]
    legend = alt.Legend(title=None, orient="bottom", columns=4, symbolOpacity=1)
    colour = alt.Color("model:N", scale=colour_scale(models, among), legend=legend)
    ticks = dict(enumerate(places))
    axis = alt.Axis(
        title=None, values=list(ticks), labelExpr=tick_labels(ticks), grid=False, labelLimit=120,
        labelAngle=-25 if max(map(len, places)) > SHORT else 0, labelOverlap=False,
    )  # fmt: skip
    x = alt.X("x:Q", axis=axis, scale=alt.Scale(domain=[-0.5, len(places) - 0.5], nice=False))
    base = chart(points).encode(x=x, color=colour)
    titled: dict[str, Any] = {
        "title": f"{courses[0].title} ↓",
        "scale": alt.Scale(domain=[0, 100], nice=False),
    }
    y = alt.Y("value:Q", **titled)
    layers = [
        base.mark_rule(strokeWidth=1.4, opacity=0.5).encode(y=alt.Y("low:Q", **titled), y2="high:Q"),
        base.mark_point(filled=True, size=52, opacity=1).encode(y=y),
    ]
    if all(place.isdecimal() for place in places[1:]):
        layers.insert(0, base.mark_line(strokeWidth=1.8).encode(y=y))
    width = max(220, 52 * len(places))
    return alt.layer(*layers).properties(width=width, height=200)


def _points(course: Course) -> Iterator[dict[str, Any]]:
    now = {"strength": NOW, "value": course.now, "low": course.low, "high": course.high}
    yield {"model": course.model, **now}
    for step in course.steps:
        told = {"strength": step.strength, "value": step.value, "low": step.low, "high": step.high}
        yield {"model": course.model, **told}
