"""Rows of dots, one a model: an example a dot, heaped where several have about the same score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from muse_eval.results.drawing import chart, colour_scale, tick_labels

if TYPE_CHECKING:
    import altair as alt

BINS = 60
ROW = 44
"""Height of a model's row of dots."""
WIDTH = 640


def heaped(
    values: Sequence[tuple[float, str]], ends: tuple[float, float], row: int, way: int
) -> Iterator[dict[str, Any]]:
    """Heap dots of about equal value upon each other, above (1) or below (−1) a row's line."""
    low, high = ends
    width = (high - low) / BINS or 1.0
    bins = Counter(min(BINS - 1, int((value - low) / width)) for value, _ in values)
    tallest = max(bins.values(), default=1)
    step = min(0.11, (0.8 if way == 1 else 0.4) / tallest)
    reached: Counter[int] = Counter()
    for value, target in sorted(values):
        # A heap stands in the middle of its bin.
        at = min(BINS - 1, int((value - low) / width))
        height = (reached[at] + 0.5) * step
        reached[at] += 1
        yield {"x": round(low + (at + 0.5) * width, 3), "y": round(-row + way * height, 3), "href": target}


def dots_in_rows(
    dots: Sequence[Mapping[str, Any]], runs: Sequence[str], axis: str, ends: tuple[float, float],
    colour: tuple[str, Sequence[str], Sequence[str]] | None = None,
) -> alt.Chart:  # fmt: skip
    """Draw dots in rows, one a model, coloured by the model or by a field, its names and their colours."""
    import altair as alt

    below = 0.5 if colour else 0.12
    ticks = {-row: run for row, run in enumerate(runs)}
    left = alt.Axis(
        values=list(ticks), labelExpr=tick_labels(ticks), title=None, grid=True, domain=False, ticks=False,
        labelLimit=160, labelPadding=10,
    )  # fmt: skip
    y = alt.Y(
        "y:Q",
        axis=left,
        scale=alt.Scale(domain=[-len(runs) + 1 - below, 0.95 if not colour else 0.5], nice=False),
    )
    if colour:
        field, names, colours = colour
        shade = alt.Color(
            f"{field}:N",
            scale=alt.Scale(domain=list(names), range=list(colours)),
            legend=alt.Legend(title=None, orient="top", symbolOpacity=1),
        )
    else:
        shade = alt.Color("model:N", scale=colour_scale(runs), legend=None)
    x = alt.X(
        "x:Q",
        title=axis,
        scale=alt.Scale(domain=list(ends), nice=False),
        axis=alt.Axis(grid=False, tickCount=10),
    )
    picture: alt.Chart = (
        chart(dots)
        .mark_circle(size=16, opacity=0.75)
        .encode(x=x, y=y, color=shade, href="href:N")
        .properties(width=WIDTH, height=ROW * len(runs) + 24)
    )
    return picture
