"""Progress: bars on a terminal, plain lines elsewhere, nothing when quiet."""

import io
import re
from contextlib import suppress

import pytest
from rich.console import Console
from rich.progress import Progress, TaskID

from muse_eval import progress
from muse_eval.errors import UserError
from muse_eval.progress import Bars, Lines, Rate, Silence, display, rate_text, shown


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


@pytest.mark.parametrize(
    ("rate", "step", "text"),
    [
        (4.23, "finetune", "4.2/s"),
        (0.1, "unlearn", "0.1/s"),
        (1 / 26, "finetune", "26 s a step"),
        (1 / 26, "unlearn", "26 s a step"),
        (1 / 26, "VerbMem Df", "26 s each"),
        (0.0999, "unlearn", "10 s a step"),
        (1e-4, "PrivLeak", "10000 s each"),
    ],
)
def test_a_slow_rate_is_told_in_seconds_a_unit(rate: float, step: str, text: str) -> None:
    assert rate_text(rate, step) == text


def test_lines_tell_of_slow_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 26.0, 52.0, 60.0, 80.0])
    monkeypatch.setattr("muse_eval.progress.time.monotonic", lambda: next(clock))
    shown = Lines()
    # The first step took its time too: it began when the training was told of.
    shown.tell("finetune, target: 4 rows")
    for done in (1, 2):
        shown("finetune", done, 4)
    # Of answers it is told how many were there before any is waited for.
    for done in (3, 5):
        shown("PrivLeak", done, 7)
    assert capsys.readouterr().err.splitlines() == [
        "  finetune, target: 4 rows",
        "  finetune: 1/4 (26 s a step, 26 s, 78 s left)",
        "  finetune: 2/4 (26 s a step, 52 s, 52 s left)",
        "  PrivLeak: 5/7 (0.1/s, 20 s, 20 s left)",
    ]


def test_what_is_about_to_be_done_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with display(quiet) as shown:
            shown.tell("unlearn, ga: 4 rows")
    assert capsys.readouterr() == ("", "  unlearn, ga: 4 rows\n")
    screen = io.StringIO()
    with Bars(Console(file=screen, force_terminal=True, width=100, color_system=None)) as bars:
        bars.tell("unlearn, ga: 4 rows [2]")
    assert "  unlearn, ga: 4 rows [2]\n" in screen.getvalue()


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with display(quiet=True) as shown:
        assert isinstance(shown, Silence)
        shown.stage("score target")
        shown("VerbMem Df", 1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("notebook", "widgets", "kind"), [(False, True, Silence), (True, True, Bars), (True, False, Lines)]
)
def test_python_shows_progress_unasked_in_a_notebook_too(
    notebook: bool, widgets: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook is no terminal; ipywidgets redraw bars there, where they are installed."""
    monkeypatch.setattr(progress, "in_notebook", lambda: notebook)
    monkeypatch.setattr(progress, "has_widgets", lambda: widgets)
    with shown(None) as told:
        assert isinstance(told, kind)


def test_what_a_caller_hands_in_is_told_instead() -> None:
    def tell(step: str, done: int, total: int) -> None:
        pass

    with shown(tell) as told:
        assert told is tell


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


def test_a_bar_tells_a_slow_rate_in_seconds_a_step() -> None:
    clock = iter(range(0, 1000, 26))
    bars = Progress(
        console=Console(file=io.StringIO()), get_time=lambda: float(next(clock)), speed_estimate_period=900
    )
    step = bars.add_task("unlearn with ga: unlearn", total=10)
    for _ in range(3):
        bars.advance(step)
    assert str(Rate().render(bars.tasks[0])) == "26 s a step"


@pytest.mark.parametrize(
    ("error", "said"),
    [(UserError("no"), ""), (KeyboardInterrupt(), "  to answer: 3\n"), (None, "  to answer: 3\n")],
)
def test_an_error_that_comes_at_once_stays_one_line(
    error: BaseException | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was about to be done need not be said where it was not begun; to whom stops it, it is."""
    with suppress(UserError, KeyboardInterrupt), display() as shown:
        shown.tell("to answer: 3")
        if error is not None:
            raise error
    assert capsys.readouterr() == ("", said)


def test_what_is_told_is_said_by_itself_where_nothing_comes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SOON", 0.0)
    with suppress(UserError), display() as shown:
        shown.tell("to answer: 3")
        while not (said := capsys.readouterr().err):
            pass
        raise UserError("late")
    assert said == "  to answer: 3\n"
    assert capsys.readouterr().err == ""
