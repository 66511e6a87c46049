"""Figures of scores: over the epochs of an unlearning, and over several forget sets; PNG bytes.

Each panel is a column of the task, with its 95 % band and the retrain model's value as a dashed line.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from muse_eval.results.forget_sets import ForgetSetRun, ForgetSetRuns
from muse_eval.results.lineage import ForgetSet
from muse_eval.results.rows import ARROWS, Heading, headings, rows
from muse_eval.results.runs import StoredResult
from muse_eval.results.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, told apart by colour-blind readers too."""
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, FAINT, REFERENCE = "#222222", "#E4E4E4", "#666666"
DPI = 150
PANELS_A_ROW = 2


def draw_trajectory(trajectory: Trajectory) -> bytes:
    """Draw every column over the epochs, 0 being the start, with the selected epoch marked."""
    from matplotlib.ticker import MaxNLocator

    chosen = trajectory.selection
    colour = COLOURS[0]
    figure, panels = _panels(trajectory.headings, f"{trajectory.name} on {trajectory.title}")
    results = [trajectory.start, *trajectory.epochs]
    for name, axes in panels.items():
        _retrain(axes, trajectory.retrain, name)
        points = list(range(len(results)))
        values = _line(axes, points, results, name, colour, MARKERS[0], trajectory.name)
        axes.axvline(chosen.epoch, color=COLOURS[1], linewidth=1.0, alpha=0.6, zorder=1)
        axes.plot(
            [chosen.epoch],
            [values[chosen.epoch]],
            "o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=COLOURS[1],
            markeredgewidth=1.8,
            label=_selected(trajectory),
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"epoch (0: {trajectory.start.name})")
    return _png(figure, list(panels.values()))


def _selected(trajectory: Trajectory) -> str:
    chosen = trajectory.selection
    where = f"epoch {chosen.epoch} of {chosen.of}"
    if not chosen.fired:
        return f"{where}: the rule {chosen.rule!r} selected none"
    ranked = f" ({chosen.composite})" if chosen.composite else ""
    return f"{where}, selected by the rule {chosen.rule!r}{ranked}"


def draw_forget_sets(runs: ForgetSetRuns) -> bytes:
    """Draw every column over the forget set's size (nested) or the step (sequential), a line a method.

    The lines start at the target, which has forgotten nothing.
    """
    found = rows(runs.references.values())
    figure, panels = _panels(headings(runs.task.name, found), runs.task.title)
    for name, axes in panels.items():
        _retrain(axes, runs.references["retrain"], name)
        for at, (method, forget_sets) in enumerate(runs.methods.items()):
            results = [runs.references["target"], *(run.result for run in forget_sets)]
            look = COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)]
            _line(axes, _places(runs, forget_sets), results, name, *look, method)
        longest = max(runs.methods.values(), key=len)
        axes.set_xticks(_places(runs, longest), ["target", *(_amount(run.forget_set) for run in longest)])
        axes.tick_params(axis="x", labelsize=8)
        axes.set_xlabel(
            "size of the forget set"
            if runs.forget_sets.mode == "nested"
            else "forget sets, one after the other"
        )
    return _png(figure, list(panels.values()))


def _places(runs: ForgetSetRuns, forget_sets: Sequence[ForgetSetRun]) -> list[int]:
    nested = runs.forget_sets.mode == "nested"
    return [0, *(run.forget_set.texts if nested else run.forget_set.number for run in forget_sets)]


def _amount(forget_set: ForgetSet) -> str:
    """Return a tick's label: the step where it is one, the set's texts and tokens."""
    tokens = [] if forget_set.tokens is None else [f"{_short(forget_set.tokens)} tokens"]
    step = [] if forget_set.mode == "nested" else [f"step {forget_set.number}"]
    return "\n".join([*step, f"{forget_set.texts} texts", *tokens])


def _short(count: int) -> str:
    """Return a count with two or three digits: 812, 9.4k, 42k, 3.3M."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f}{unit}"
    return str(count)


# ── panels ───────────────────────────────────────────────────────────────────────────────────────
def _panels(columns: Mapping[str, Heading], title: str) -> tuple["Figure", dict[str, "Axes"]]:
    from matplotlib.figure import Figure

    across = min(PANELS_A_ROW, len(columns))
    down = math.ceil(len(columns) / across)
    figure = Figure(figsize=(4.2 * across, 2.9 * down + 0.9), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold", color=INK)
    panels = {}
    for at, (name, heading) in enumerate(columns.items(), 1):
        axes = figure.add_subplot(down, across, at)
        axes.set_title(f"{heading.title}{ARROWS[heading.goal]}", fontsize=10, loc="left", color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(REFERENCE)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK, labelsize=9, length=3)
        axes.xaxis.label.set(fontsize=9, color=INK)
        if heading.goal != "zero":
            axes.set_ylim(-4, 104)
        panels[name] = axes
    return figure, panels


def _retrain(axes: "Axes", retrain: StoredResult, name: str) -> None:
    value = retrain.columns[name].value
    if value is not None:
        axes.axhline(value, color=REFERENCE, linewidth=1.2, linestyle=(0, (5, 3)), label="retrain")


def _line(
    axes: "Axes",
    places: Sequence[int],
    results: Sequence[StoredResult],
    name: str,
    colour: str,
    marker: str,
    label: str,
) -> list[float]:
    """Draw a column's values with their band, gaps where it is undefined; return the values."""
    columns = [result.columns[name] for result in results]
    values = [math.nan if column.value is None else column.value for column in columns]
    ends = [column.ci or (value, value) for column, value in zip(columns, values, strict=True)]
    low, high = zip(*ends, strict=True)
    axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(places, values, color=colour, marker=marker, markersize=4.5, linewidth=1.8, label=label)
    return values


def _png(figure: "Figure", panels: Sequence["Axes"]) -> bytes:
    """Add one legend below all panels and return the picture; the same input gives the same bytes."""
    known = {
        label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    names = sorted(known, key=lambda label: label == "retrain")
    figure.legend(
        [known[name] for name in names],
        names,
        loc="outside lower center",
        ncols=min(4, len(names)),
        frameon=False,
        fontsize=9,
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", facecolor="white", metadata={"Software": None})
    return picture.getvalue()
