"""Courses through the strengths of probes, ratios and verdicts: every value derived by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muse_eval.config import fingerprint
from muse_eval.results import frames, load, load_all
from muse_eval.results.lineage import Lineage, Probing, start_of
from muse_eval.results.probe_table import probe_grid, probe_json
from muse_eval.results.probe_verdict import NO_RETRAIN, RULE, Course, Step, adjusted, judge
from muse_eval.results.probed import courses
from muse_eval.results.rows import all_rows
from muse_eval.results.runs import StoredResult, save
from muse_eval.statistics import Difference
from muse_eval.types import Record, Result, Score, ignore

N = 40
COLUMNS = {
    "verbmem_f": {"title": "VerbMem Df", "metric": "verbmem", "goal": "lower", "splits": {"forget": "v/f"}}
}


def stored(home: Path, of: str, probe: str, strength: str, place: int, values: Any, **more: Any) -> None:
    """Write a probed run whose examples score as told, as fractions."""
    records = tuple(
        Record("v/f", i, {"rougeL": float(v)}, {"truth": f"t{i}"}, "ab") for i, v in enumerate(values)
    )
    value = 100 * float(np.mean(values))
    said = f"at {strength}" if probe else "before"
    own = {"weights": more.get("weights", "w"), "tokenizer": "t"}
    strengths = more.get("strengths", ("weak", "strong")) if probe else ()
    start = start_of({"model": own}) if probe else ""
    done = more.get("done", "d") if probe else ""
    probing = Probing(probe, strength, place, said, of, more.get("params", {}), done, start, strengths)
    lineage = Lineage("r", probing=probing)
    config = {
        "task": {"name": "town", "title": "Town", "columns": COLUMNS},
        "data": {"sha256": {"v/f": "d"}},
        "model": own,
        "limit": None,
        "seed": 0,
        "made": lineage.settings(),
    }
    name = f"{of}+{probe}:{strength}" if probe else f"{of}+{strength}"
    score = Score(value, (value - 1, value + 1), len(records), records=records)
    if more.get("undefined"):
        score = Score(None, None, len(records), reason=more["undefined"], records=records)
    result = Result(
        "town",
        name,
        {"id": of},
        {"verbmem_f": score},
        {},
        {**config, "fingerprint": fingerprint(config)},
        {},
        0,
    )
    save(result, home / "runs" / "town" / name)


def flat(value: float) -> list[float]:
    """Return scores around a mean: half of them 0.05 below, half above."""
    return [value + (0.05 if i % 2 else -0.05) for i in range(N)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Retrain gains 2 and 10 points; one model 2 and 60, one as retrain, one starts above it."""
    paths: dict[str, tuple[float, float, float]] = {
        "retrain": (0.2, 0.22, 0.3),
        "hider": (0.2, 0.22, 0.8),
        "gone": (0.2, 0.22, 0.3),
        "half": (0.6, 0.62, 0.7),
        "ruined": (0.05, 0.1, 0.25),
    }
    for of, (now, weak, strong) in paths.items():
        stored(tmp_path, of, "", "now", 0, flat(now))
        stored(tmp_path, of, "shake", "weak", 1, flat(weak))
        stored(tmp_path, of, "shake", "strong", 2, flat(strong))
    return tmp_path


def runs(home: Path, *names: str) -> list[StoredResult]:
    return [one for one in load_all(home, ignore, probed=True) if one.name.partition("+")[0] in names]


def course(home: Path, name: str) -> Course:
    (found,) = [one for one in courses(runs(home, name, "retrain")) if one.model == name]
    return found


def test_what_comes_back_where_retrain_does_not_learn_it_was_hidden(home: Path) -> None:
    found = course(home, "hider")
    assert (found.verdict, found.why) == ("hidden", "comes back at strong")
    assert [step.strength for step in found.steps] == ["weak", "strong"]
    assert found.worst
    assert found.worst.more
    assert found.worst.more.value == pytest.approx(50)  # (80 − 20) − (30 − 20)
    assert found.worst.above
    assert found.worst.above.value == pytest.approx(50)  # 80 − 30
    assert found.gained
    assert found.gained.value == pytest.approx(10 / 60)  # R
    assert found.kept
    assert found.kept.value == pytest.approx(20 / 80)  # Q


def test_what_gains_as_retrain_does_holds(home: Path) -> None:
    found = course(home, "gone")
    assert found.verdict == "holds"
    assert found.gained
    assert found.gained.value == 1


def test_what_starts_above_retrain_was_not_unlearned(home: Path) -> None:
    assert course(home, "half").verdict == "not unlearned"


def test_a_ruined_model_that_only_reaches_retrain_has_nothing_to_hide(home: Path) -> None:
    found = course(home, "ruined")
    assert found.worst
    assert found.worst.more
    assert found.worst.more.value == pytest.approx(10)  # (25 − 5) − (30 − 20)
    assert found.verdict == "holds"


def test_retrain_is_the_control(home: Path) -> None:
    (found,) = [one for one in courses(runs(home, "retrain")) if one.model == "retrain"]
    assert (found.verdict, found.why) == ("cannot tell", "the control")


def test_without_retrain_nothing_is_concluded(home: Path) -> None:
    (found,) = courses(runs(home, "hider"))
    assert found.verdict == "cannot tell"
    assert found.worst
    assert found.worst.more is None
    assert found.kept
    assert found.kept.value == pytest.approx(0.25)
    assert NO_RETRAIN in probe_grid([found]).notes


def test_retrain_under_another_protocol_is_no_control(home: Path) -> None:
    stored(home, "retrain", "shake", "strong", 2, flat(0.3), params={"lr": 1.0})
    assert course(home, "hider").verdict == "cannot tell"


def test_retrain_that_was_done_something_else_to_is_no_control(home: Path) -> None:
    for place, (strength, value) in enumerate({"weak": 0.22, "strong": 0.3}.items(), 1):
        stored(home, "retrain", "shake", strength, place, flat(value), done="other texts")
    found = course(home, "hider")
    assert (found.verdict, found.worst and found.worst.more) == ("cannot tell", None)
    assert found.why == "retrain was not put to the same probe in the same way"


def test_columns_asked_otherwise_are_not_compared(home: Path) -> None:
    for path in (home / "runs" / "town").glob("retrain*/result.json"):
        told = path.read_text().replace(
            '"metric": "verbmem"', '"metric": "verbmem", "params": {"max_new_tokens": 7}'
        )
        path.write_text(told)
    assert course(home, "hider").verdict == "cannot tell"


@pytest.mark.parametrize("of", ["retrain", "hider"])
def test_strengths_of_weights_that_were_replaced_do_not_count(home: Path, of: str) -> None:
    stored(home, of, "", "now", 0, flat(0.2), weights="made again")
    found = [one for one in courses(runs(home, "hider", "retrain")) if one.model == "hider"]
    assert [one.verdict for one in found] == ([] if of == "hider" else ["cannot tell"])


def test_two_protocols_are_no_one_course(home: Path) -> None:
    for of, value in (("retrain", 0.3), ("gone", 0.3), ("hider", 0.9)):
        for place, strength in enumerate(("strong", "stronger"), 1):
            stored(
                home,
                of,
                "shake",
                strength,
                place,
                flat(value),
                done="paper",
                strengths=("strong", "stronger"),
            )
    found = course(home, "hider")
    assert [step.strength for step in found.steps] == ["strong", "stronger"]
    assert found.left == ("weak",)
    assert "hider under shake: weak is stored of another protocol, and left out" in probe_grid([found]).notes
    # Where retrain was not put to the newer one, the one that it was put to counts.
    stored(home, "half", "shake", "stronger", 1, flat(0.9), done="new", strengths=("stronger",))
    for place, (strength, value) in enumerate({"weak": 0.22, "strong": 0.3}.items(), 1):
        stored(home, "retrain", "shake", strength, place, flat(value))
    assert [step.strength for step in course(home, "half").steps] == ["weak", "strong"]


NAN = "the model's logits are not finite"


def test_a_strength_without_a_value_is_told_and_nothing_is_said_to_hold(home: Path) -> None:
    stored(home, "gone", "shake", "strong", 2, flat(0.3), undefined=NAN)
    found = course(home, "gone")
    assert (found.verdict, found.why) == ("cannot tell", f"no value at strong: {NAN}")
    # What another strength shows stands.
    stored(home, "hider", "shake", "weak", 1, flat(0.3), undefined=NAN)
    assert course(home, "hider").verdict == "hidden"


def test_a_strength_that_was_not_scored_yet_is_told(home: Path) -> None:
    shutil.rmtree(home / "runs" / "town" / "gone+shake:strong")
    assert course(home, "gone").why == "no value at strength strong: it was not scored"


def test_a_start_without_a_value_is_a_course_that_tells_so(home: Path) -> None:
    stored(home, "gone", "", "now", 0, flat(0.2), undefined=NAN)
    found = course(home, "gone")
    assert (found.verdict, found.why) == ("cannot tell", f"no value before the probe: {NAN}")
    (line,) = probe_grid([found]).lines
    assert (line[3].value, line[-1].value) == ("n/a", f"cannot tell: {found.why}")
    assert probe_json([found])[0]["worst"] is None
    assert RULE in probe_grid([found]).notes


def test_what_retrain_has_no_value_of_is_told(home: Path) -> None:
    stored(home, "retrain", "shake", "strong", 2, flat(0.3), undefined=NAN)
    assert course(home, "gone").why == f"retrain has no value at strong: {NAN}"


def test_no_course_is_not_for_want_of_retrain() -> None:
    assert NO_RETRAIN not in probe_grid([]).notes


def test_other_examples_are_no_strength(home: Path) -> None:
    stored(home, "hider", "shake", "strong", 2, flat(0.8)[:-1])
    found = course(home, "hider")
    assert [step.strength for step in found.steps] == ["weak"]
    assert (found.verdict, found.why) == (
        "cannot tell",
        "no value at strong: it was scored on other examples",
    )


def test_few_examples_tell_nothing(tmp_path: Path) -> None:
    for of, after in (("retrain", 0.2), ("hider", 0.9)):
        stored(tmp_path, of, "", "now", 0, flat(0.2)[:19])
        stored(tmp_path, of, "shake", "weak", 1, flat(after)[:19], strengths=("weak",))
    found = course(tmp_path, "hider")
    assert (found.verdict, found.why) == ("cannot tell", "19 examples are too few")


def difference(value: float, p: float) -> Difference:
    return Difference(value, value - 1, value + 1, p, 3.0)


def plain(*steps: tuple[float, float, float, float]) -> Course:
    """Return a course whose steps have gained more and stand above by so much, each with its p."""
    made = tuple(
        Step(str(place), f"at {place}", 50, 49, 51, 20, difference(more, p), difference(above, q))
        for place, (more, p, above, q) in enumerate(steps, 1)
    )
    return Course("one", "shake", "c", "C", N, 20, 19, 21, 20, difference(0.0, 1.0), made)


def test_p_is_the_larger_of_both_adjusted_over_strengths_and_columns() -> None:
    first, second = adjusted([plain((9, 0.01, 9, 0.02)), plain((9, 0.001, 9, 0.001), (9, 0.03, 9, 0.002))])
    # Holm over 0.02, 0.001, 0.03: 3 · 0.001, then 2 · 0.02, then the larger of 0.03 and the one before.
    assert [step.p for step in (*first.steps, *second.steps)] == pytest.approx([0.04, 0.003, 0.04])


@pytest.mark.parametrize(
    ("step", "verdict"),
    [
        ((9, 0.05, 9, 0.05), "hidden"),
        ((9, 0.051, 9, 0.01), "holds"),
        ((9, 0.01, 9, 0.051), "holds"),
        ((-9, 0.01, 9, 0.01), "holds"),
        ((9, 0.01, -9, 0.01), "holds"),
    ],
)
def test_both_must_be_shown(step: tuple[float, float, float, float], verdict: str) -> None:
    (found,) = adjusted([plain(step)])
    assert judge(found).verdict == verdict


def test_what_would_have_shown_is_of_both_differences_and_of_one_strength() -> None:
    (found,) = adjusted([plain((1, 0.9, 1, 0.9), (1, 0.9, 1, 0.9))])
    first, second = found.steps
    assert second.above
    wide = replace(found, steps=(first, replace(second, above=replace(second.above, least=4.5))))
    assert judge(wide).why == "a gain of 4.5 points beyond retrain's would have shown, at one strength alone"


def test_the_weakest_strength_that_shows_it_is_named() -> None:
    (found,) = adjusted([plain((1, 0.9, 1, 0.9), (9, 0.001, 9, 0.001), (9, 0.001, 9, 0.001))])
    assert judge(found).why == "comes back at 2"


def test_starting_above_retrain_counts_where_it_is_shown() -> None:
    (kept,) = adjusted([plain((0, 1.0, 0, 1.0))])
    found = replace(kept, apart=difference(5, 0.05))
    assert judge(found).verdict == "not unlearned"
    assert judge(replace(found, apart=difference(5, 0.06))).verdict == "holds"
    assert judge(replace(found, apart=difference(-5, 0.01))).verdict == "holds"


def test_the_table_has_a_line_for_each_model_but_retrain(home: Path) -> None:
    found = courses(runs(home, "hider", "retrain"))
    laid = probe_grid(found)
    assert [line[0].value for line in laid.lines] == ["hider"]
    assert [cell.value for cell in laid.lines[0][1:5]] == [
        "shake",
        "VerbMem Df",
        "20.0 → 80.0",
        "20.0 → 30.0",
    ]
    assert laid.lines[0][-1].value == "hidden: comes back at strong"
    assert RULE in laid.notes
    assert {one["model"]: one["worst"] for one in probe_json(found)} == {
        "hider": "strong",
        "retrain": "strong",
    }


def test_probed_runs_are_kept_apart_and_pandas_has_them(home: Path) -> None:
    stored(home, "other", "", "now", 0, flat(0.2))
    folder = home / "runs" / "town" / "plain"
    one = load(home / "runs" / "town" / "other+now")
    assert one
    config = {key: value for key, value in one.config.items() if key not in ("made", "fingerprint")}
    records = tuple(
        Record("v/f", i, {"rougeL": v}, {"truth": f"t{i}"}, "ab") for i, v in enumerate(flat(0.2))
    )
    score = Score(20.0, (19, 21), N, records=records)
    save(Result("town", "plain", {"id": "m"}, {"verbmem_f": score}, {}, config, {}, 0), folder)
    assert [row["name"] for row in all_rows(home, ignore)] == ["plain"]
    frame = frames.results_frame(home)
    assert len(frame) == 17
    (line,) = frame[frame["name"] == "hider+shake:weak"].to_dict("records")
    assert (line["probe"], line["strength"]) == ("shake", "weak")
    assert list(frame[frame["name"] == "plain"]["probe"]) == [""]
