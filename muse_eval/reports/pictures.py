"""The pictures of a page: forget against utility, every example's score, the attack, and how runs went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from muse_eval.reports.chosen import Chosen
from muse_eval.reports.distances import Distances
from muse_eval.reports.dots import dots_in_rows, heaped
from muse_eval.reports.examples import Column, link
from muse_eval.results.drawing import COLOURS, CROSS, INK, MUTED, chart, colour_scale, draw
from muse_eval.results.figures import CROSSED, ruined
from muse_eval.results.rows import ARROWS

if TYPE_CHECKING:
    import altair as alt

FORGET, HOLDOUT = COLOURS[1], COLOURS[0]
RATES_SAID = (
    "Forget texts that the attack takes for known (TPR), over texts never seen that it takes so (FPR). "
    "On the dotted diagonal it guesses; in the upper left corner it knows. KS is the Kolmogorov–Smirnov "
    "distance of a model's scores from retrain's: 0 is alike, 1 apart altogether."
)


@dataclass(frozen=True)
class Picture:
    """One picture of the page, and of a paper."""

    name: str
    """The stem of its files."""
    title: str
    caption: str
    """What is to be seen, for those too who cannot see it."""
    chart: alt.TopLevelMixin
    facts: list[list[str]] = field(default_factory=list)
    """A table to be read with it, its header first; empty where there is none."""

    @cached_property
    def svg(self) -> str:
        """The chart as drawn, once for the page and for every file."""
        return draw(self.chart)


def pictures(chosen: Chosen, columns: Sequence[Column], distances: Distances) -> list[Picture]:
    """Return the pictures that the runs allow."""
    found: list[Picture] = list(_trade_offs(chosen))
    titles = {name: heading.title for name, heading in chosen.headings.items()}
    found += [_scores(one, titles[one.name]) for one in columns if one.kind == "rouge"]
    for column in columns:
        found += _attack(column, titles[column.name], distances) if column.kind == "tokens" else []
    return found


# ── forget against utility ───────────────────────────────────────────────────────────────────────
def _trade_offs(chosen: Chosen) -> Iterator[Picture]:
    """Draw every forget column against the first column whose goal is to stay high."""
    utility = next((name for name, head in chosen.headings.items() if head.goal == "higher"), None)
    forget = [name for name, head in chosen.headings.items() if head.goal in ("lower", "zero")]
    points = (
        []
        if utility is None
        else [_point(chosen, run, name, utility) for name in forget for run in chosen.runs]
    )
    known = [point for point in points if point]
    if utility is None or not known:
        return
    for name in forget:
        _mark_front([point for point in known if point["column"] == name])
    said = f"A forget column's value against {chosen.headings[utility].title}, with 95 % intervals."
    if any(point["aim"] is not None for point in known):
        said += (
            " The dashed line is retrain's value, the place to be: beyond it more is gone than a model lacks "
            "that never saw the text. Filled: no other model is both nearer to the line and higher up."
        )
    if any(point["ruined"] for point in known):
        said += f" {CROSSED}."
    panels = [
        _trade_off([one for one in known if one["column"] == name], chosen, name, utility) for name in forget
    ]
    import altair as alt

    yield Picture("trade-off", "Forgetting against utility", said, alt.concat(*panels, columns=3, spacing=24))


def _point(chosen: Chosen, run: str, column: str, utility: str) -> dict[str, Any] | None:
    cells = chosen.runs[run].columns
    x, y = cells.get(column), cells.get(utility)
    if x is None or y is None or x.value is None or y.value is None:
        return None
    return {
        "model": run, "column": column, "x": x.value, "y": y.value,
        "x0": (x.ci or (x.value,) * 2)[0], "x1": (x.ci or (x.value,) * 2)[1],
        "y0": (y.ci or (y.value,) * 2)[0], "y1": (y.ci or (y.value,) * 2)[1],
        "ruined": ruined(chosen.runs[run]), "aim": _aim(chosen, column), "front": False,
        "rival": run in chosen.unlearned,
    }  # fmt: skip


def _aim(chosen: Chosen, column: str) -> float | None:
    retrain = next((row for row in chosen.known if row["name"] == "retrain"), None)
    cell = retrain["columns"].get(column) if retrain else None
    return 0.0 if chosen.headings[column].goal == "zero" else cell.value if cell else None


def _mark_front(points: Sequence[dict[str, Any]]) -> None:
    """Mark the points that no other beats in nearness to retrain and in utility; ruined ones never."""
    rivals = [one for one in points if one["rival"] and not one["ruined"] and one["aim"] is not None]
    for one in rivals:
        mine = (abs(one["x"] - one["aim"]), -one["y"])
        others = [(abs(two["x"] - two["aim"]), -two["y"]) for two in rivals]
        one["front"] = not any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in others)


def _trade_off(
    points: Sequence[dict[str, Any]], chosen: Chosen, column: str, utility: str
) -> alt.LayerChart | alt.FacetChart:
    import altair as alt

    heading = chosen.headings[column]
    names = list(chosen.runs)
    whole = alt.Scale(domain=[0, 100], nice=False, padding=8)
    scale = alt.Scale(nice=False, zero=False, padding=12) if heading.goal == "zero" else whole
    title = f"{heading.title}{ARROWS[heading.goal]}"
    y_title = f"{chosen.headings[utility].title} ↑"
    legend = alt.Legend(title=None, orient="bottom", columns=4, symbolOpacity=1, symbolType="circle")
    base = chart(points).encode(color=alt.Color("model:N", scale=colour_scale(names), legend=legend))
    x = alt.X("x:Q", title=title, scale=scale)
    y = alt.Y("y:Q", title=y_title, scale=whole)
    layers = [
        base.mark_rule(opacity=0.5, strokeWidth=1.4).encode(x=alt.X("x0:Q", title=title), x2="x1:Q", y=y),
        base.mark_rule(opacity=0.5, strokeWidth=1.4).encode(x=x, y=alt.Y("y0:Q", title=y_title), y2="y1:Q"),
        base.mark_point(filled=True, size=90, opacity=1)
        .encode(x=x, y=y)
        .transform_filter("datum.front || !datum.rival"),
        base.mark_point(filled=False, size=80, opacity=1, strokeWidth=2)
        .encode(x=x, y=y)
        .transform_filter("datum.rival && !datum.front"),
        base.mark_point(shape=CROSS, size=170, opacity=1, strokeWidth=1.8)
        .encode(x=x, y=y, color=alt.value(INK))
        .transform_filter("datum.ruined"),
    ]  # fmt: skip
    aim = _aim(chosen, column)
    if aim is not None:
        line = chart([{"aim": aim}]).mark_rule(color=MUTED, strokeDash=[5, 3], strokeWidth=1.2)
        layers.insert(0, line.encode(x=alt.X("aim:Q", title=title)))
    return alt.layer(*layers).properties(width=300, height=230)


# ── every example ────────────────────────────────────────────────────────────────────────────────
def _scores(column: Column, title: str) -> Picture:
    """Draw every example's ROUGE-L, a row of dots a model."""
    runs = column.block["runs"]
    dots: list[dict[str, Any]] = []
    for row, run in enumerate(runs):
        values = [
            (100 * example["runs"][run]["score"], link(column, example, run))
            for example in column.block["examples"]
            if example["runs"].get(run, {}).get("score") is not None
        ]
        dots += [{**dot, "model": run} for dot in heaped(values, (0, 100), row, 1)]
    said = f"{title}: ROUGE-L of every example, a dot each, heaped upwards. A dot leads to its example."
    return Picture(
        f"scores-{column.name}",
        f"Every example: {title}",
        said,
        dots_in_rows(dots, runs, "ROUGE-L, %", (0, 100)),
    )


# ── the attack ───────────────────────────────────────────────────────────────────────────────────
def _attack(column: Column, title: str, distances: Distances) -> Iterator[Picture]:
    """Draw the attack's scores of forget texts and of texts never seen, and its ROC."""
    block = column.block
    splits = list(dict.fromkeys(example["split"] for example in block["examples"]))[:2]
    if len(splits) < 2:
        return
    names = [split.rsplit("/", 1)[-1] for split in splits]
    values = {
        (run, split): [
            (example["runs"][run]["score"], link(column, example, run))
            for example in block["examples"]
            if example["split"] == split and example["runs"].get(run, {}).get("score") is not None
        ]
        for run in block["runs"]
        for split in splits
    }
    every = [value for found in values.values() for value, _ in found]
    if not every:
        return
    ends = (min(0.0, min(every)), max(every) * 1.02)
    dots = [
        {**dot, "of": names[way < 0]}
        for row, run in enumerate(block["runs"])
        for split, way in zip(splits, (1, -1), strict=True)
        for dot in heaped(values[run, split], ends, row, way)
    ]
    said = (
        f"{block['score']} of every text in nats, lower being likelier to the model: {names[0]} above each "
        f"line, {names[1]}, which no model has seen, below. Where both lie alike, membership does not show."
    )
    picture = dots_in_rows(
        dots, block["runs"], f"{block['score']}, nats", ends, ("of", names, (FORGET, HOLDOUT))
    )
    yield Picture(f"attack-{column.name}", f"{title}: is a text known?", said, picture)
    curve = _roc(values, block["runs"], splits)
    facts = distances.attack_facts(column.name)
    yield Picture(f"roc-{column.name}", f"{title}: how well the attack tells", RATES_SAID, curve, facts)


def _roc(
    values: Mapping[tuple[str, str], Sequence[tuple[float, str]]], runs: Sequence[str], splits: Sequence[str]
) -> alt.TopLevelMixin:
    import altair as alt

    points = [
        {"model": run, "order": at, "fpr": fpr, "tpr": tpr}
        for run in runs
        for at, (fpr, tpr) in enumerate(
            roc([v for v, _ in values[run, splits[0]]], [v for v, _ in values[run, splits[1]]])
        )
    ]
    percent, whole = alt.Axis(format="%", tickCount=5), alt.Scale(domain=[0, 1])
    legend = alt.Legend(title=None, orient="right", symbolOpacity=1)
    line = chart(points).mark_line(strokeWidth=1.8, interpolate="linear").encode(
        x=alt.X("fpr:Q", title="texts never seen, taken for known", axis=percent, scale=whole),
        y=alt.Y("tpr:Q", title="forget texts, taken for known", axis=percent, scale=whole),
        color=alt.Color("model:N", scale=colour_scale(runs), legend=legend),
        order="order:Q",
    )  # fmt: skip
    guess = (
        chart([{"at": 0}, {"at": 1}])
        .mark_line(color=MUTED, strokeDash=[2, 3], strokeWidth=1)
        .encode(x="at:Q", y="at:Q")
    )
    return alt.layer(line, guess).properties(width=300, height=300)


def roc(members: Sequence[float], others: Sequence[float]) -> list[tuple[float, float]]:
    """Return the ROC of taking texts of a low score for members: (false, true) positive rates from 0 to 1.

    One point a threshold, those on a straight line left out; ties are taken together.
    """
    if not members or not others:
        return []
    inside, outside = Counter(members), Counter(others)
    points, true, false = [(0.0, 0.0)], 0, 0
    for value in sorted({*inside, *outside}):
        true, false = true + inside[value], false + outside[value]
        points.append((false / len(others), true / len(members)))
    return [
        point
        for at, point in enumerate(points)
        if at in (0, len(points) - 1) or not _straight(points[at - 1], point, points[at + 1])
    ]


def _straight(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (a[0] == b[0] == c[0]) or (a[1] == b[1] == c[1])
