"""How long is left: counts times what was measured."""

from __future__ import annotations

import pytest

from muse_eval.probing.forecast import Forecast, span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (720, "12 min"), (5400, "1.5 h"), (36000, "10.0 h")],
)
def test_spans(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_what_was_not_measured_comes_on_top() -> None:
    left = Forecast(scorings=12, steps=150)
    assert left.outset == "12 scorings and 150 training steps"
    left.scored(20)
    assert left.left == "about 4 min to score; the 150 training steps come on top"  # 11 × 20 s
    left.stepped(2)
    left.stepped(1)
    assert left.left == "about 7 min"  # 220 s + 148 × 1.5 s


def test_answers_that_were_there_do_not_make_the_rest_look_quick() -> None:
    left = Forecast(scorings=3, steps=0)
    left.scored(40)
    left.scored(0.1)
    assert left.left == "about 40 s"


def test_a_larger_scoring_counts_by_its_share() -> None:
    left = Forecast(scorings=9, steps=0)
    left.scored(80, share=8)
    assert left.left == "about 10 s"


def test_a_run_that_is_stored_tells_the_time_before_the_start() -> None:
    forecast = Forecast(25, 75)
    assert forecast.expected(None) == "25 scorings and 75 training steps"
    assert forecast.expected(12.0) == (
        "25 scorings and 75 training steps; to score, about 5 min by the run that is stored"
    )
