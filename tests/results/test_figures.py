"""The figures are pictures of the right panels, lines and marks; looks are looked at."""

import struct
from dataclasses import replace
from typing import Any

import pytest

from muse_eval.results import figures
from muse_eval.results.drawing import colours, converted, draw, dressed, files, inline, tick_labels
from muse_eval.results.figures import draw_forget_sets, draw_trajectories, draw_trajectory
from muse_eval.results.forget_sets import collect
from muse_eval.results.runs import StoredResult
from muse_eval.results.selection import Selection
from tests.results.test_forget_sets import REFERENCES, TASK, run
from tests.results.test_trajectory import scored, trajectory


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def panels(picture: Any) -> list[dict[str, Any]]:
    """Return a figure's panels, each layer with its own points."""
    whole = dressed(picture)
    for panel in whole["concat"]:
        for layer in panel["layer"]:
            name = layer.get("data", panel.get("data", whole.get("data")))["name"]
            layer["points"] = whole["datasets"][name]
    found: list[dict[str, Any]] = whole["concat"]
    return found


def data(panel: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the points that a panel's lines are drawn of."""
    found: list[dict[str, Any]] = panel["layer"][0]["points"]
    return found


def line(panel: dict[str, Any], name: str) -> list[tuple[int, float | None]]:
    return [(one["x"], one["value"]) for one in data(panel) if one["line"] == name]


def retrain(panel: dict[str, Any]) -> list[float]:
    rules = [layer for layer in panel["layer"] if layer["mark"]["type"] == "rule"]
    return [one["aim"] for layer in rules for one in layer["points"]]


def titles(picture: Any) -> list[str]:
    found = dressed(picture)["title"]
    return [found["text"], *found["subtitle"]]


WENT = trajectory(
    [scored("a", 10.0, 20.0, None, 60.0), scored("b", 5.0, 20.0, 4.0, 50.0)],
    Selection(2, 2, "paper"),
    scored("target", 100.0, 90.0, -100.0, 100.0),
)


def flagged(result: StoredResult, flag: str) -> StoredResult:
    columns = {name: one.model_copy(update={"flags": (flag,)}) for name, one in result.columns.items()}
    return result.model_copy(update={"columns": columns})


def test_a_trajectory_has_a_panel_a_column() -> None:
    picture = draw_trajectory(WENT)
    found = panels(picture)
    assert [one["title"] for one in found] == ["VerbMem Df ↓", "KnowMem Df ↓", "PrivLeak → 0", "KnowMem Dr ↑"]
    assert retrain(found[0]) == [1.0]
    assert line(found[0], "npo") == [(0, 100.0), (1, 10.0), (2, 5.0)]
    assert line(found[2], "npo") == [(0, -100.0), (1, None), (2, 4.0)]
    assert [one["x"] for one in data(found[0]) if one["chosen"]] == [2]
    assert titles(picture)[:2] == ["npo on Village", "ring: epoch 2 of 2, selected by the rule 'paper'"]
    width, height = size(converted(draw(picture), "png"))
    assert width > height > 1000


def test_a_rule_that_selected_none_is_told() -> None:
    went = trajectory([scored("a", 1.0)], Selection(1, 1, "paper", fired=False), scored("target", 2.0))
    picture = draw_trajectory(went)
    assert "ring: epoch 1 of 1: the rule 'paper' selected none" in titles(picture)
    assert len(panels(picture)) == 1


@pytest.mark.slow
def test_methods_lie_over_each_other_and_what_is_ruined_is_crossed_out() -> None:
    ruined = replace(WENT, name="ga", epochs=[*WENT.epochs[:1], flagged(WENT.epochs[1], "collapsed")])
    picture = draw_trajectories([WENT, ruined], "Village")
    (first, *_) = panels(picture)
    assert line(first, "npo") == line(first, "ga")
    assert [(one["line"], one["x"]) for one in data(first) if one["ruined"]] == [("ga", 2)]
    assert any("✕: flagged collapsed or degenerate" in said for said in titles(picture))
    assert not any("✕" in said for said in titles(draw_trajectory(WENT)))
    assert draw(picture).count("M-") > draw(draw_trajectory(WENT)).count("M-")


def test_folds_are_drawn_over_their_size_from_the_target_on() -> None:
    """Texts 10 and 20, tokens 100 and 200 (ga counts none); nothing is forgotten at 0."""
    runs = collect(TASK, [*REFERENCES, run("npo", 1, 5.0), run("npo", 2, 4.0), run("ga", 1, 6.0)])
    picture = draw_forget_sets(runs)
    (first, *_) = panels(picture)
    assert retrain(first) == [20.0]
    assert line(first, "npo") == [(0, 99.0), (10, 5.0), (20, 4.0)]
    assert line(first, "ga") == [(0, 99.0), (10, 6.0)]
    svg = draw(picture)
    for text in ("target", "10 texts", "100 tokens", "20 texts", "200 tokens", "size of the forget set"):
        assert f">{text}<" in svg


@pytest.mark.few(2)
@pytest.mark.parametrize("odd", ["\x1b[2J", "\x00", "\x9b", "\u202e", "\ud800", "<script>&", "{{ x }}", "'"])
def test_names_of_others_are_spelled_out_and_end_no_converter(odd: str) -> None:
    picture = draw_trajectories([replace(WENT, name=f"a{odd}"), WENT], f"On {odd}")
    svg = draw(picture)
    assert not set("\x1b\x00\x9b\u202e") & set(svg)
    assert "<script" not in svg
    assert tick_labels({0: f"a{odd}"}).isprintable()


def test_every_name_has_a_colour_of_its_own() -> None:
    found = colours(["target", "retrain", *"abcdefghij"])
    assert len(set(found.values())) == 12
    assert colours(["target", "a"])["a"] == found["a"]


@pytest.mark.slow
def test_the_same_scores_give_the_same_bytes() -> None:
    runs = collect(TASK, [*REFERENCES, run("npo", 1, 5.0)])
    one, other = draw(draw_forget_sets(runs)), draw(draw_forget_sets(runs))
    assert one == other
    assert converted(one, "png") == converted(other, "png")


@pytest.mark.slow
def test_a_figure_is_written_for_page_and_paper() -> None:
    made = files("trajectory", draw(draw_trajectory(WENT)))
    assert {name: content[:4] for name, content in made.items()} == {
        "trajectory.svg": b"<svg",
        "trajectory.png": b"\x89PNG",
        "trajectory.pdf": b"%PDF",
    }
    page = inline(draw(draw_trajectory(WENT)))
    assert "https://" not in page
    assert " style=" not in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("count", "text"), [(812, "812"), (9_444, "9.4k"), (42_100, "42k"), (3_310_000, "3.3M"), (999, "999")]
)
def test_counts_are_short(count: int, text: str) -> None:
    assert figures._short(count) == text
