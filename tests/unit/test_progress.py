"""Progress: bars on a terminal, plain lines elsewhere, nothing when quiet."""

import io
import re

import pytest
from rich.console import Console
from rich.progress import Progress, TaskID

from muse_eval import progress
from muse_eval.progress import Bars, Lines, Rate, Silence, display


def test_without_a_terminal_stages_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with display() as shown:
        assert isinstance(shown, Lines)
        shown.stage("make target and retrain")
        # Steps that are over at once are worth no line.
        for done in range(4):
            shown("shared", done, 3)
        shown.stage("score target")
    out, err = capsys.readouterr()
    # A stage without a step had nothing to do, the last one too.
    assert (out, err) == ("", "make target and retrain\nscore target\n  was there already\n")


def test_a_stage_that_fails_was_not_there_already(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> None:
        with display() as shown:
            shown.stage("score retrain")
            shown.stage("score target")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert capsys.readouterr().err == "score retrain\n  was there already\nscore target\n"


def test_a_long_step_says_how_far_how_fast_and_how_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", -1.0)
    monkeypatch.setattr(progress, "WORTH_A_LINE", -1.0)
    with display() as shown:
        # Two answers were stored already: they count as done, and not for the rate.
        shown("VerbMem Df", 2, 10)
        shown("VerbMem Df", 6, 10)
        shown("VerbMem Df", 10, 10)
    first, then, last = map(str.strip, capsys.readouterr().err.splitlines())
    assert first == "VerbMem Df: 2/10 (…, 0 s)"
    assert re.fullmatch(r"VerbMem Df: 6/10 \([\d.]+/s, 0 s, 0 s left\)", then)
    assert re.fullmatch(r"VerbMem Df: 10/10 \([\d.]+/s, 0 s\)", last)


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with display(quiet=True) as shown:
        assert isinstance(shown, Silence)
        shown.stage("score target")
        shown("VerbMem Df", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_a_step_and_a_line_a_stage() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with Bars(console) as bars:
        bars.stage("score target")
        bars("VerbMem Df", 0, 4)
        bars("VerbMem Df", 4, 4)
        bars("KnowMem Df", 1, 3)
        bars.stage("score retrain")
    shown = screen.getvalue()
    assert "VerbMem Df" in shown
    assert "4/4" in shown
    assert re.search(r"✓ score target  \d+ s", shown)
    # A stage without a step had nothing to do.
    assert "✓ score retrain  was there already" in shown


def test_a_stage_that_fails_is_not_ticked_off() -> None:
    screen = io.StringIO()

    def stopped() -> None:
        with Bars(Console(file=screen, force_terminal=True, width=80)) as bars:
            bars.stage("score target")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert "✓" not in screen.getvalue()


def test_the_rate_is_there_once_something_is_done() -> None:
    clock = iter(range(100))
    bars = Progress(console=Console(file=io.StringIO()), get_time=lambda: float(next(clock)))
    step: TaskID = bars.add_task("step", total=10)
    rate = Rate()
    assert str(rate.render(bars.tasks[0])) == ""
    bars.advance(step, 2)
    bars.advance(step, 2)
    assert re.fullmatch(r"\d+\.\d/s", str(rate.render(bars.tasks[0])))
