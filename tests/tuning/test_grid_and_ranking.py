"""A tune's grammar, its ranking and what it prints, by hand; and its study, on Optuna itself."""

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from muse_eval import plugins
from muse_eval.errors import UserError
from muse_eval.results.runs import StoredColumn, StoredResult
from muse_eval.tuning.grid import Axis, Point, label, options, points, read_axes, resolve
from muse_eval.tuning.ranking import Trial, Tuned, rank, table, to_csv
from muse_eval.tuning.study import Study, open_study
from tests.e2e import muse

BOOKS = plugins.task("muse_books")


# ── the grammar ──────────────────────────────────────────────────────────────────────────────────
def read(*texts: str, method: str = "simnpo_gdr") -> dict[str, Axis]:
    return {axis.name: axis for axis in read_axes(texts, BOOKS, method)}


def test_names_and_values_come_in_the_order_and_the_kinds_they_are_known_in() -> None:
    """YAML reads 1e-5 as a word and 1 as an integer; the method wants floats, the epochs an integer."""
    axes = read("beta=1:0.7, lr=1e-5:2.0e-5", "epochs=5:10,lambda=0")
    assert list(axes) == ["beta", "lr", "epochs", "lambda"]
    assert axes["beta"] == Axis("beta", (1.0, 0.7))
    assert axes["lr"].values == (1e-5, 2e-5)
    assert axes["epochs"].values == (5, 10)
    assert [type(axes[name].values[0]) for name in axes] == [float, float, int, float]


def test_two_dots_are_a_range() -> None:
    axes = read("lr=1e-6..1e-4,epochs=2..8,gamma=0:0.5")
    assert axes["lr"] == Axis("lr", (1e-6, 1e-4), span=True)
    assert axes["epochs"] == Axis("epochs", (2, 8), span=True)
    assert not axes["gamma"].span


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ("bta=0.1", "did you mean 'beta'"),
        ("batch-size=4", "did you mean 'batch_size'"),
        ("beta", "'beta': write NAME=V1:V2"),
        ("", "'': write NAME=V1:V2"),
        ("beta=0.1,0.7", "'0.7': write NAME=V1:V2, with a colon between values"),
        ("=0.1", "'=0.1': write NAME=V1:V2"),
        ("beta=", "beta: a value is empty"),
        ("beta=0.1::0.7", "beta: a value is empty"),
        ("lr=1e-5..", "lr: a value is empty"),
        ("beta=0.1,lr=1e-5,beta=0.7", "beta is given twice; give all its values at once"),
        ("beta=1:0.7:1.0", "beta=1:0.7:1.0: 1.0 is given twice"),
        ("lr=1e-5:0.00001", "1e-05 is given twice"),
        ("beta=0", "beta=0: method simnpo_gdr: beta: input should be greater than 0 (got 0)"),
        ("beta=0.1:-1", "beta=-1: method simnpo_gdr: beta: input should be greater than 0"),
        ("gamma=-0.1", "gamma=-0.1: method simnpo_gdr: gamma"),
        ("lr=.nan", "lr=.nan: not valid YAML: a number must be finite"),
        ("lr=-1e-5..1e-5", "lr=-1e-5: unlearn: lr"),
        ("lambda=-1", "lambda=-1: unlearn: lambda"),
        ("epochs=2.5", "epochs=2.5: unlearn: epochs"),
        ("beta=high", "beta=high: method simnpo_gdr: beta"),
        ("beta=true", "beta=true: give a number, not true"),
        ("beta=null", "beta=null: give a number, true, false or a word"),
        ("beta={}", "beta={}: give a number, true, false or a word"),
        ("beta=@", "beta=@: that is no YAML value"),
        ("lr=1e-4..1e-6", "lr=1e-4..1e-6: write a range of numbers as LOW..HIGH"),
        ("lr=1e-4..1e-4", "0.0001 is given twice"),
    ],
)
def test_what_is_not_a_grid_is_one_line_that_names_it(grid: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        read(grid)
    assert str(caught.value).startswith("--grid ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_weight_of_no_retain_term_is_refused() -> None:
    with pytest.raises(UserError, match="lambda weighs a retain term, and simnpo has none; try simnpo_gdr"):
        read("lambda=0.5:1", method="simnpo")


def test_the_whole_grid_has_its_last_name_change_fastest() -> None:
    grid = points((Axis("beta", (0.1, 0.7)), Axis("lr", (1e-5, 2e-5))))
    assert grid == [
        {"beta": 0.1, "lr": 1e-5},
        {"beta": 0.1, "lr": 2e-5},
        {"beta": 0.7, "lr": 1e-5},
        {"beta": 0.7, "lr": 2e-5},
    ]
    assert label(grid[1]) == "beta=0.1, lr=2e-05"
    assert options(grid[1]) == {"lr": 2e-5, "params": {"beta": 0.1}}


def test_a_point_is_the_same_recipe_however_it_was_given() -> None:
    """What is a default, what holds for all trials and what is tuned come to one setting."""
    tuned = resolve(BOOKS, "simnpo_gdr", {"epochs": 3, "gamma": 0.0}, lr=2e-5)
    assert tuned == resolve(BOOKS, "simnpo_gdr", {"lr": 2e-5, "beta": 0.7}, epochs=3)
    assert tuned["params"] == {"beta": 0.7, "gamma": 0.0}
    assert (tuned["lr"], tuned["epochs"], tuned["lambda"]) == (2e-5, 3, 1.0)


# ── ranking and table ────────────────────────────────────────────────────────────────────────────
def scored(name: str, kept: float, leak: float | None, flags: tuple[str, ...] = ()) -> Trial:
    """A trial with VerbMem 10, KnowMem Df 20: balance (kept + (90 + 80 + 100 − |leak|)/3)/2."""
    values = {"verbmem_f": 10.0, "knowmem_f": 20.0, "privleak": leak, "knowmem_r": kept}
    columns = {
        key: StoredColumn(
            value=value,
            ci=None if value is None else (value - 1, value + 3),
            n=9,
            flags=flags if key == "privleak" else (),
            reason="no leak" if value is None else None,
        )
        for key, value in values.items()
    }
    result = StoredResult(
        schema_version=1, task="muse_books", name=name, model={}, columns=columns, seconds=1.5
    )
    return Trial(name, {"beta": kept / 100}, result, seconds=2.5)


FAILED = Trial("failed", {"beta": 9.0}, None, failure="the loss is nan at step 3")
TRIALS = [
    FAILED,
    scored("undefined", 90, None),
    scored("worse", 40, -30.0),
    scored("best", 60, 30.0, ("saturated",)),
    scored("equal", 60, -30.0),
]


def tuned(trials: list[Trial]) -> Tuned:
    return Tuned(BOOKS, ("beta",), "balance", rank(trials, "balance"), Path("tune"))


def test_trials_rank_by_composite_then_undefined_then_failed() -> None:
    """(60 + (90 + 80 + 70)/3)/2 = 70 twice, the first tried first; (40 + 80)/2 = 60."""
    ranked = rank(TRIALS, "balance")
    assert [trial.name for trial in ranked] == ["best", "equal", "worse", "undefined", "failed"]
    assert [trial.value("balance") for trial in ranked] == [
        pytest.approx(70),
        pytest.approx(70),
        pytest.approx(60),
        None,
        None,
    ]
    assert rank(TRIALS, "harmonic")[0].name == "best"


def test_without_a_composite_there_is_no_best() -> None:
    assert tuned(TRIALS[:2]).best is None
    assert tuned([]).best is None


def test_the_table_shows_rank_setting_scores_composite_and_flags() -> None:
    laid = table(tuned(TRIALS))
    assert [cell.value for cell in laid.lines[0]] == [
        "1",
        "0.6",
        "10.00",
        "20.00",
        "30.00",
        "60.00",
        "70.00",
        "saturated",
    ]
    assert [cell.spread for cell in laid.lines[0]] == ["", "", *[" ± 2.00"] * 4, "", ""]
    assert [line[0].best for line in laid.lines] == [True, False, False, False]
    assert [cell.value for cell in laid.lines[3]][4:7] == ["n/a", "90.00", "n/a"]
    assert laid.header[0::6] == ["rank", "balance ↑"]
    assert [note.partition(":")[0] for note in laid.notes] == ["saturated", "n/a"]


@pytest.mark.parametrize("flag", ["collapsed", "degenerate"])
def test_a_ruined_model_has_no_rank_unless_told_otherwise(flag: str) -> None:
    trials = [scored("ruined", 90, 0.0, (flag,)), *TRIALS]
    assert [one.name for one in tuned(trials).trials] == [
        "best", "equal", "worse", "ruined", "undefined", "failed"
    ]  # fmt: skip
    lines = list(csv.DictReader(io.StringIO(to_csv(tuned(trials)))))
    assert [line["rank"] for line in lines] == ["1", "2", "3", "", "5", ""]
    assert [line[0].value for line in table(tuned(trials)).lines] == ["1", "2", "3", "", "5"]
    assert tuned(trials[:1]).best is None
    every = replace(tuned(trials), trials=rank(trials, "balance", flagged=True), rank_flagged=True)
    assert every.best is trials[0]
    assert next(line[0].value for line in table(every).lines) == "1"


def test_the_table_says_how_its_trials_were_asked() -> None:
    found = tuned(TRIALS[:2])
    told = {"notes": {"asked": "KnowMem Df asked with answer_space=false"}}
    trials = [
        replace(one, result=one.result.model_copy(update={"extras": told}) if one.result else None)
        for one in found.trials
    ]
    assert "KnowMem Df asked with answer_space=false" in table(replace(found, trials=trials)).notes


def test_the_csv_has_every_trial_and_why_one_failed() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(tuned(TRIALS)))))
    assert [line["trial"] for line in lines] == ["best", "equal", "worse", "undefined", "failed"]
    assert [line["rank"] for line in lines] == ["1", "2", "3", "4", ""]
    assert [line["balance"] for line in lines][2:] == ["60.0", "", ""]
    assert (lines[0]["privleak_low"], lines[0]["privleak_flags"]) == ("29.0", "saturated")
    assert (lines[0]["seconds"], lines[4]["seconds"]) == ("2.5", "")
    assert lines[4]["failure"] == "the loss is nan at step 3"


# ── the study ────────────────────────────────────────────────────────────────────────────────────
GRID = (Axis("beta", (0.1, 0.7)), Axis("lr", (1e-5, 2e-5)))
RANGES = (Axis("lr", (1e-6, 1e-4), span=True), Axis("epochs", (1, 9), span=True), Axis("beta", (0.1, 0.7)))


def always(_: Point) -> bool:
    return True


def take(study: Study, trials: int | None, stop: int | None = None) -> Iterator[tuple[int, Point]]:
    """Run trials whose value is their learning rate; leave the one after ``stop`` of them running."""
    for count, (number, point) in enumerate(study.queue(always, trials)):
        yield number, point
        if count == stop:
            return
        study.tell(number, float(point["lr"]), failed=False)


def test_a_study_goes_on_with_the_trial_that_was_running(tmp_path: Path) -> None:
    with open_study(tmp_path / "s.db", "s", GRID, 0) as study:
        begun = list(take(study, None, stop=1))
    assert begun == list(enumerate(points(GRID)[:2]))
    with open_study(tmp_path / "s.db", "s", GRID, 0) as study:
        assert list(take(study, None)) == list(enumerate(points(GRID)))[1:]
        assert study.ended() == points(GRID)
        assert list(take(study, None)) == []


@pytest.mark.slow
def test_sampled_trials_are_the_same_whether_or_not_they_were_interrupted(tmp_path: Path) -> None:
    """Twelve: after ten random ones TPE draws on what the others came to."""
    with open_study(tmp_path / "whole.db", "s", RANGES, 3) as study:
        whole = [point for _, point in take(study, 12)]
    parts: list[Point] = []
    for trials, stop in ((4, None), (12, 3), (12, None)):
        with open_study(tmp_path / "parts.db", "s", RANGES, 3) as study:
            made = [point for _, point in take(study, trials, stop)]
        parts += made[: stop if stop is not None else None]
    assert parts == whole
    assert all(1e-6 <= float(point["lr"]) <= 1e-4 for point in whole)
    assert all(isinstance(point["epochs"], int) and 1 <= point["epochs"] <= 9 for point in whole)
    assert len({point["lr"] for point in whole}) == 12
    with open_study(tmp_path / "other.db", "s", RANGES, 4) as study:
        assert [point for _, point in take(study, 2)] != whole[:2]


def test_two_seeds_share_no_sampled_point(tmp_path: Path) -> None:
    """Six trials each are still random, so a shared seed would be a shared point."""
    sampled = []
    for seed in (3, 4):
        with open_study(tmp_path / f"{seed}.db", "s", RANGES, seed) as study:
            sampled.append({point["lr"] for _, point in take(study, 6)})
    assert [len(points) for points in sampled] == [6, 6]
    assert sampled[0].isdisjoint(sampled[1])


def test_a_database_that_is_none_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_text("no database\n" * 100, encoding="utf-8")
    with pytest.raises(UserError) as caught, open_study(path, "s", GRID, 0):
        pass
    assert str(caught.value).startswith(f"Optuna cannot use {path} (")
    assert "move the file away" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_optuna_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = muse("tune", "--method", "simnpo", "--task", "muse_mini", "--grid", "beta=1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "muse-eval: error: tune needs optuna: pip install '.[tune]'\n"
