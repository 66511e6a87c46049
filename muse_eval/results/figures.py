"""Figures of scores: over the epochs of unlearnings, and over several forget sets.

Each panel is a column of the task, with its 95 % band and the retrain model's value as a dashed line. A model
that is flagged as collapsed or degenerate is crossed out: its value near the goal is no success.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from muse_eval.errors import counted
from muse_eval.results.drawing import CROSS, INK, MUTED, chart, colour_scale, shape_scale, tick_labels
from muse_eval.results.forget_sets import ForgetSetRun, ForgetSetRuns
from muse_eval.results.lineage import ForgetSet
from muse_eval.results.rows import ARROWS, Heading, headings, rows
from muse_eval.results.runs import StoredResult
from muse_eval.results.trajectory import Trajectory

if TYPE_CHECKING:
    import altair as alt

PANELS_A_ROW = 2
WIDTH, HEIGHT = 300, 170
RUINED = ("collapsed", "degenerate")
"""Flags under which a value near the goal is no success."""
CROSSED = f"✕: flagged {' or '.join(RUINED)}, so that a value near the goal is no success"
Point = dict[str, Any]


def ruined(result: StoredResult) -> bool:
    """Tell whether a run is flagged so that none of its values is a success."""
    return any(flag in column.flags for column in result.columns.values() for flag in RUINED)


def draw_trajectory(trajectory: Trajectory) -> alt.TopLevelMixin:
    """Draw every column over the epochs, 0 being the start, with the selected epoch marked."""
    return draw_trajectories([trajectory], f"{trajectory.name} on {trajectory.title}")


def draw_trajectories(
    several: Sequence[Trajectory], title: str, among: Sequence[str] = ()
) -> alt.TopLevelMixin:
    """Draw the epochs of several unlearnings of one task over each other, each with its selected epoch.

    Args:
        several: the unlearnings.
        title: what stands above.
        among: all names of a table, whose colours are kept; empty: these alone.
    """
    first = several[0]
    points = [
        point
        for one in several
        for epoch, result in enumerate([one.start, *one.epochs])
        for point in _points(one.name, epoch, result, first.headings, epoch == one.selection.epoch)
    ]
    said = [f"ring: {_selected(first)}"] if len(several) == 1 else ["ring: the selected epoch"]
    longest = max(len(one.epochs) for one in several)
    ticks: dict[int, Sequence[str]] = {
        epoch: [str(epoch)] for epoch in range(0, longest + 1, max(1, longest // 10))
    }
    axis = f"epoch (0: {first.start.name})"
    return _panels(points, first.headings, first.retrain, _Frame(title, said, axis, ticks, among))


def _selected(trajectory: Trajectory) -> str:
    chosen = trajectory.selection
    where = f"epoch {chosen.epoch} of {chosen.of}"
    if not chosen.fired:
        return f"{where}: the rule {chosen.rule!r} selected none"
    ranked = f" ({chosen.composite})" if chosen.composite else ""
    return f"{where}, selected by the rule {chosen.rule!r}{ranked}"


def draw_forget_sets(runs: ForgetSetRuns) -> alt.TopLevelMixin:
    """Draw every column over the forget set's size (nested) or the step (sequential), a line a method.

    The lines start at the target, which has forgotten nothing.
    """
    columns = headings(runs.task.name, rows(runs.references.values()))
    points: list[Point] = []
    for method, found in runs.methods.items():
        results = [runs.references["target"], *(run.result for run in found)]
        for place, result in zip(_places(runs, found), results, strict=True):
            points += _points(method, place, result, columns, False)
    longest = max(runs.methods.values(), key=len)
    amounts: list[Sequence[str]] = [["target"], *(_amount(run.forget_set) for run in longest)]
    ticks = dict(zip(_places(runs, longest), amounts, strict=True))
    nested = runs.forget_sets.mode == "nested"
    axis = "size of the forget set" if nested else "forget sets, one after the other"
    return _panels(points, columns, runs.references["retrain"], _Frame(runs.task.title, [], axis, ticks))


def _places(runs: ForgetSetRuns, forget_sets: Sequence[ForgetSetRun]) -> list[int]:
    nested = runs.forget_sets.mode == "nested"
    return [0, *(run.forget_set.texts if nested else run.forget_set.number for run in forget_sets)]


def _amount(forget_set: ForgetSet) -> list[str]:
    """Return a tick's label: the step where it is one, the set's texts and tokens."""
    tokens = [] if forget_set.tokens is None else [f"{_short(forget_set.tokens)} tokens"]
    step = [] if forget_set.mode == "nested" else [f"step {forget_set.number}"]
    return [*step, counted(forget_set.texts, "text"), *tokens]


def _short(count: int) -> str:
    """Return a count with two or three digits: 812, 9.4k, 42k, 3.3M."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f}{unit}"
    return str(count)


def _points(
    line: str, place: int, result: StoredResult, columns: Mapping[str, Heading], chosen: bool
) -> Iterator[Point]:
    for name in columns:
        cell = result.columns.get(name)
        value = cell.value if cell else None
        low, high = (cell.ci if cell else None) or (value, value)
        yield {
            "line": line, "x": place, "column": name, "value": value, "low": low, "high": high,
            "chosen": chosen, "ruined": ruined(result),
        }  # fmt: skip


# ── panels ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class _Frame:
    """What stands around the panels."""

    title: str
    subtitle: list[str]
    axis: str
    ticks: Mapping[int, Sequence[str]]
    among: Sequence[str] = ()


def _panels(
    points: Sequence[Point], columns: Mapping[str, Heading], retrain: StoredResult, frame: _Frame
) -> alt.TopLevelMixin:
    import altair as alt

    names = list(dict.fromkeys(point["line"] for point in points))
    panels = [
        _panel([one for one in points if one["column"] == name], names, heading, retrain, name, frame)
        for name, heading in columns.items()
    ]
    said = [*frame.subtitle, "dashed: retrain; band: 95 % interval"]
    said += [CROSSED] if any(point["ruined"] for point in points) else []
    title = alt.TitleParams(frame.title, subtitle=said, fontSize=15, offset=16)
    return alt.concat(*panels, columns=PANELS_A_ROW, title=title, spacing=28)


def _panel(
    points: list[Point],
    names: Sequence[str],
    heading: Heading,
    retrain: StoredResult,
    column: str,
    frame: _Frame,
) -> alt.LayerChart | alt.FacetChart:
    import altair as alt

    # Fluency is no share, and goes beyond 100.
    shares = heading.goal != "zero" and all((point["high"] or 0.0) <= 100 for point in points)
    scale = alt.Scale(domain=[0, 100], nice=False) if shares else alt.Scale(nice=True)
    ticks = alt.Axis(
        values=list(frame.ticks), labelExpr=tick_labels(frame.ticks), grid=False, title=frame.axis
    )
    legend = alt.Legend(title=None, orient="bottom", columns=4, symbolOpacity=1) if len(names) > 1 else None
    base = chart(points).encode(
        x=alt.X("x:Q", axis=ticks, scale=alt.Scale(nice=False, padding=12)),
        color=alt.Color("line:N", scale=colour_scale(names, frame.among), legend=legend),
    )
    y = alt.Y("value:Q", title=None, scale=scale)
    shape = alt.Shape("line:N", scale=shape_scale(names), legend=legend)
    break_at_gaps: Literal["break-paths-show-domains"] = "break-paths-show-domains"
    layers = [
        base.mark_area(opacity=0.18, invalid=break_at_gaps).encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
        base.mark_line(strokeWidth=1.8, invalid=break_at_gaps).encode(y=y),
        base.mark_point(size=38, filled=True, opacity=1, invalid="filter").encode(y=y, shape=shape),
        base.mark_point(size=190, filled=False, strokeWidth=1.8, opacity=1, invalid="filter")
        .encode(y=y)
        .transform_filter("datum.chosen"),
        base.mark_point(shape=CROSS, size=110, stroke=INK, strokeWidth=1.6, opacity=1, invalid="filter")
        .encode(y=y, color=alt.value(INK))
        .transform_filter("datum.ruined"),
    ]
    aim = retrain.columns[column].value if column in retrain.columns else None
    if aim is not None:
        layers.append(
            chart([{"aim": aim}])
            .mark_rule(color=MUTED, strokeDash=[5, 3], strokeWidth=1.2)
            .encode(y=alt.Y("aim:Q", title=None))
        )
    title = f"{heading.title}{ARROWS[heading.goal]}"
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)
