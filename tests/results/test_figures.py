"""The figures are pictures of the right panels, lines and marks; looks are looked at."""

import math
import struct
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from muse_eval.results import figures
from muse_eval.results.figures import draw_forget_sets, draw_trajectory
from muse_eval.results.forget_sets import collect
from muse_eval.results.selection import Selection
from tests.results.test_forget_sets import REFERENCES, TASK, run
from tests.results.test_trajectory import scored, trajectory


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that was turned into a picture."""
    found: list[Figure] = []
    save = figures._png

    def keep(figure: Figure, panels: Any) -> bytes:
        found.append(figure)
        return save(figure, panels)

    monkeypatch.setattr(figures, "_png", keep)
    return found


def points(line: Line2D) -> tuple[list[float], list[float]]:
    return [float(x) for x in np.asarray(line.get_xdata())], [float(y) for y in np.asarray(line.get_ydata())]


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_a_trajectory_has_a_panel_a_column(drawn: list[Figure]) -> None:
    went = trajectory(
        [scored("a", 10.0, 20.0, None, 60.0), scored("b", 5.0, 20.0, 4.0, 50.0)],
        Selection(2, 2, "paper"),
        scored("target", 100.0, 90.0, -100.0, 100.0),
    )
    png = draw_trajectory(went)
    assert size(png) == (round(8.4 * 150), round(6.7 * 150))
    (figure,) = drawn
    assert [axes.get_title("left") for axes in figure.axes] == [
        "VerbMem Df ↓",
        "KnowMem Df ↓",
        "PrivLeak → 0",
        "KnowMem Dr ↑",
    ]
    retrain, line, _, mark = figure.axes[0].get_lines()
    assert points(retrain)[1] == [1.0, 1.0]
    assert points(line) == ([0, 1, 2], [100.0, 10.0, 5.0])
    assert points(mark) == ([2], [5.0])
    _, (start, gap, end) = points(figure.axes[2].get_lines()[1])
    assert (start, end) == (-100.0, 4.0)
    assert math.isnan(gap)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["npo", "epoch 2 of 2, selected by the rule 'paper'", "retrain"]


def test_a_rule_that_selected_none_is_told_in_the_legend(drawn: list[Figure]) -> None:
    went = trajectory([scored("a", 1.0)], Selection(1, 1, "paper", fired=False), scored("target", 2.0))
    draw_trajectory(went)
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert "epoch 1 of 1: the rule 'paper' selected none" in labels
    assert len(drawn[0].axes) == 1


def test_folds_are_drawn_over_their_size_from_the_target_on(drawn: list[Figure]) -> None:
    """Texts 10 and 20, tokens 100 and 200 (ga counts none); nothing is forgotten at 0."""
    runs = collect(TASK, [*REFERENCES, run("npo", 1, 5.0), run("npo", 2, 4.0), run("ga", 1, 6.0)])
    draw_forget_sets(runs)
    axes = drawn[0].axes[0]
    retrain, npo, ga = axes.get_lines()
    assert points(retrain)[1] == [20.0, 20.0]
    assert points(npo) == ([0, 10, 20], [99.0, 5.0, 4.0])
    assert points(ga) == ([0, 10], [99.0, 6.0])
    assert npo.get_color() != ga.get_color()
    assert npo.get_marker() != ga.get_marker()
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "target",
        "10 texts\n100 tokens",
        "20 texts\n200 tokens",
    ]


def test_the_same_scores_give_the_same_bytes() -> None:
    runs = collect(TASK, [*REFERENCES, run("npo", 1, 5.0)])
    assert draw_forget_sets(runs) == draw_forget_sets(runs)


@pytest.mark.parametrize(
    ("count", "text"), [(812, "812"), (9_444, "9.4k"), (42_100, "42k"), (3_310_000, "3.3M"), (999, "999")]
)
def test_counts_are_short(count: int, text: str) -> None:
    assert figures._short(count) == text
