"""How a figure looks and becomes a file: one Vega-Lite description for page and paper; no browser."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from muse_eval.printable import printable

if TYPE_CHECKING:
    import altair as alt

Form = Literal["svg", "png", "pdf"]
FORMS: tuple[Form, ...] = ("svg", "png", "pdf")
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07C00", "#6A51A3", "#1B9AAA", "#8C564B",
    "#5B8C00", "#4A4A4A",
)  # fmt: skip
"""Okabe and Ito's palette first, told apart by colour-blind readers too, its yellow darkened for paper."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
CROSS = "M-1,-1L1,1M1,-1L-1,1"
INK, FAINT, MUTED = "#222222", "#E4E4E4", "#666666"
"""Colours that the page exchanges in the dark."""
GREYS = {"target": "#8A8A8A", "retrain": INK}
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
SCALE = 2.0
"""Pixels of a PNG to a unit of the description."""
BASE = "https://vega.github.io/vega-datasets/"
"""What the converter puts in front of a link within the page."""


def chart(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """Return an empty chart of rows of plain values."""
    import altair as alt

    return alt.Chart(_shared_rows()(values=list(rows)))


@cache
def _shared_rows() -> type[alt.InlineData]:
    import altair as alt

    class Rows(alt.InlineData):
        """Shared by all charts that are made of a chart: copies of thousands of rows take seconds."""

        def __deepcopy__(self, memo: object) -> Rows:
            return self

    return Rows


def dressed(picture: alt.TopLevelMixin) -> dict[str, Any]:
    """Return a chart's Vega-Lite description in the house's look."""
    axis = {
        "labelColor": INK, "titleColor": INK, "gridColor": FAINT, "domainColor": MUTED, "tickColor": MUTED,
        "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 11, "tickSize": 4,
        "labelPadding": 4,
    }  # fmt: skip
    title = {"color": INK, "subtitleColor": MUTED, "anchor": "start", "fontSize": 13, "subtitleFontSize": 11,
             "offset": 10, "fontWeight": 600}  # fmt: skip
    legend = {"labelColor": INK, "titleColor": INK, "labelFontSize": 11, "titleFontWeight": "normal",
              "labelLimit": 400, "symbolSize": 70}  # fmt: skip
    description: dict[str, Any] = _spelled(picture.to_dict())
    description["config"] = {
        "font": FONT, "background": "#FFFFFF", "axis": axis, "title": title, "legend": legend,
        "view": {"stroke": None}, "aria": False,
    }  # fmt: skip
    return description


def _spelled(part: Any) -> Any:
    """Return a description with what cannot be seen spelled out: a control character ends the converter."""
    if isinstance(part, dict):
        return {name: _spelled(one) for name, one in part.items()}
    if isinstance(part, list):
        return [_spelled(one) for one in part]
    return printable(part) if isinstance(part, str) else part


def draw(picture: alt.TopLevelMixin) -> str:
    """Return a chart as SVG; the same chart gives the same text."""
    import vl_convert

    return vl_convert.vegalite_to_svg(dressed(picture))


def converted(svg: str, form: Form) -> bytes:
    """Return a drawn chart as a file's bytes, the same for the same SVG; a PDF's inner order may differ."""
    import vl_convert

    if form == "svg":
        return svg.encode()
    return vl_convert.svg_to_png(svg, scale=SCALE) if form == "png" else vl_convert.svg_to_pdf(svg)


def files(stem: str, svg: str) -> dict[str, bytes]:
    """Return a drawn chart in every form, by the name of its file."""
    return {f"{stem}.{form}": converted(svg, form) for form in FORMS}


def inline(svg: str) -> str:
    """Return a drawn chart for a page: without background, coordinates short, its links within the page.

    Its links take no stop of the Tab key and are silent to a screen reader: there may be thousands, and the
    list of examples leads to the same. What is to be seen has to stand beside it in words.
    """
    svg = re.sub(r'<rect width="[\d.]+" height="[\d.]+" fill="(?i:#FFFFFF)"/>', "", svg, count=1)
    svg = svg.replace(f'xlink:href="{BASE}#', 'tabindex="-1" href="#')
    svg = re.sub(r"<[^>]+>", lambda tag: _shortened(tag[0]), svg)
    svg = re.sub(r' (?:aria-[a-z]+|role|pointer-events)="[^"]*"', "", svg)
    svg = re.sub(r'<path class="(?:background|foreground)" d="[^"]*"(?: display="none")?/>', "", svg)
    svg = svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
    return svg.replace(' opacity="1"', "").replace(' version="1.1"', "")


def _shortened(tag: str) -> str:
    """Return a tag with one decimal in each of its numbers; texts, which stand between tags, keep theirs."""
    return re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), tag)


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return which name has which colour, the same in every picture of a table; references are grey."""
    others = [name for name in names if name not in GREYS]
    return {name: GREYS.get(name) or COLOURS[others.index(name) % len(COLOURS)] for name in names}


def colour_scale(names: Sequence[str], among: Sequence[str] = ()) -> alt.Scale:
    """Return the scale of ``colours``; of a table's names ``among`` which these are, each keeps its own."""
    import altair as alt

    known = colours(among or names)
    return alt.Scale(domain=list(names), range=[known[name] for name in names])


def shape_scale(names: Sequence[str]) -> alt.Scale:
    """Return which name has which shape."""
    import altair as alt

    return alt.Scale(domain=list(names), range=[SHAPES[at % len(SHAPES)] for at in range(len(names))])


def tick_labels(labels: Mapping[int, str] | Mapping[int, Sequence[str]]) -> str:
    """Return the expression that names an axis's ticks, each in a line or several."""
    known = {str(at): _spelled(text) for at, text in labels.items()}
    return f"{json.dumps(known)}[datum.value]"
