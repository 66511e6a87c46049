"""A tune on a tiny model: ranked, killed at every turn and resumed, and what is left of each trial."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from typer.testing import Result

from muse_eval.api import unlearn
from muse_eval.tuning import trials as tuning
from muse_eval.unlearning.training import output
from tests.e2e import COLUMNS, files, muse, other_model, write_data, write_task

GRID = "beta=0.1:0.7,lr=1e-3:2e-2"
POINTS = [("0.1", "0.001"), ("0.1", "0.02"), ("0.7", "0.001"), ("0.7", "0.02")]
HOME = Path("results/tune/village/simnpo_gdr")
MODELS = Path("results/models/village/tune/simnpo_gdr")


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with the small task, its data, and target and retrain model."""
    folder = tmp_path_factory.mktemp("village")
    write_task(folder / "village.yaml")
    write_data(folder / "data")
    shutil.copytree(tiny_model, folder / "target")
    other_model(tiny_model, folder / "retrain")
    return folder


@pytest.fixture(scope="module")
def whole(village: Path) -> Iterator[tuple[Path, Result]]:
    """That folder after an undisturbed tune of four points, and what was printed."""
    before = Path.cwd()
    os.chdir(village)
    try:
        yield village, tune("--grid", GRID, "--epochs", 2)
    finally:
        os.chdir(before)


@pytest.fixture
def here(village: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder without results, as the working directory."""
    folder = tmp_path / "here"
    shutil.copytree(village, folder, ignore=shutil.ignore_patterns("results"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is unlearned with from now on."""
    found: list[dict[str, Any]] = []

    def noting(*args: Any, **options: Any) -> Path:
        found.append({**options, **options["params"]})
        return unlearn(*args, **options)

    monkeypatch.setattr(tuning, "unlearn", noting)
    return found


OPTIONS = ["--task", "village.yaml", "--target", "target", "--retrain", "retrain", "--data-dir", "data"]
TUNE = ["tune", "--method", "simnpo_gdr", *OPTIONS, "--rank-flagged", "--quiet"]
"""A model this small says nothing of sense: nearly every trial is degenerate."""


def tune(*more: object) -> Result:
    """Tune; an epoch has two steps."""
    return muse(*TUNE, *more)


def trials() -> list[dict[str, str]]:
    with (HOME / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def weights() -> list[str]:
    """List the trials whose weights are there."""
    return sorted(path.parent.name for path in MODELS.glob("*/*.safetensors"))


def states() -> list[str]:
    """List the states of all trials in the database."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{HOME}.db")
    studies = [
        optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)
    ]
    found = [trial.state.name for study in studies for trial in study.get_trials()]
    storage.remove_session()
    storage.engine.dispose()
    return found


# ── the whole grid ───────────────────────────────────────────────────────────────────────────────
def test_the_order_is_that_of_the_composites_computed_by_hand(whole: tuple[Path, Result]) -> None:
    """Balance: (KnowMem Dr + ((100 − VerbMem) + (100 − KnowMem Df) + (100 − |PrivLeak|)) / 3) / 2."""
    _, done = whole
    assert (done.exit_code, done.stderr) == (0, "")
    values = {}
    for path in HOME.glob("*/result.json"):
        v, k, p, r = (
            read(path)["columns"][name]["value"]
            for name in ("verbmem_f", "knowmem_f", "privleak", "knowmem_r")
        )
        values[path.parent.name] = (r + ((100 - v) + (100 - k) + (100 - min(abs(p), 100))) / 3) / 2
    listed = trials()
    assert {(line["beta"], line["lr"]) for line in listed} == set(POINTS)
    assert [line["rank"] for line in listed] == ["1", "2", "3", "4"]
    assert {line["trial"]: pytest.approx(float(line["balance"])) for line in listed} == values
    assert [values[line["trial"]] for line in listed] == sorted(values.values(), reverse=True)
    assert len(set(values.values())) > 1
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row[1:4]] for row in rows] == [
        [line["rank"], line["beta"], line["lr"]] for line in listed
    ]
    assert [row[8].strip() for row in rows] == [f"{values[line['trial']]:.2f}" for line in listed]
    assert "balance ranks on the evaluation data itself" in done.stdout


def test_ruined_models_have_no_rank_unless_told_otherwise(
    whole: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same four trials, none of them made again."""
    monkeypatch.chdir(whole[0])
    monkeypatch.setattr(tuning, "unlearn", None)
    told = muse(*(word for word in TUNE if word != "--rank-flagged"), "--grid", GRID, "--epochs", 2)
    assert told.exit_code == 0, told.output
    found = trials()
    assert {one["trial"] for one in found} == {path.name for path in HOME.iterdir() if path.is_dir()}
    ruined = [any("degenerate" in text or "collapsed" in text for text in one.values()) for one in found]
    assert any(ruined)
    assert [one["rank"] == "" for one in found] == ruined == sorted(ruined)
    assert ("none is ranked" in told.output) == all(ruined)
    assert tune("--grid", GRID, "--epochs", 2).stdout == whole[1].stdout


def test_only_the_best_keeps_its_weights_and_every_trial_its_evidence(whole: tuple[Path, Result]) -> None:
    _, done = whole
    best = trials()[0]["trial"]
    assert weights() == [best]
    assert f"best model: {MODELS}/{best}\n" in done.stdout
    assert [path.name for path in MODELS.iterdir()] == [best]
    for line in trials():
        kept = files(HOME / line["trial"])
        assert kept == ["log.jsonl", "records.jsonl", "result.json", "unlearn.json"]
        card = read(HOME / line["trial"] / "unlearn.json")
        assert card["method"]["params"]["beta"] == float(line["beta"])
        assert card["training"]["lr"] == float(line["lr"])
        assert card["training"]["epochs"] == 2
        model = read(HOME / line["trial"] / "result.json")["provenance"]["engine"]["path"]
        assert model == str(MODELS / line["trial"])
    assert sorted(path.name for path in Path("results").iterdir()) == ["cache", "models", "tune"]


def test_the_printed_command_is_the_best_ones_recipe(whole: tuple[Path, Result], tmp_path: Path) -> None:
    """Its options, given to ``unlearn`` from Python, make the same weights."""
    _, done = whole
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("to make it again: ")]
    words = shlex.split(line.partition(": ")[2])
    assert words[:2] == ["muse-eval", "unlearn"]
    told = dict(zip(words[2::2], words[3::2], strict=True))
    best = trials()[0]
    assert told.pop("--out") == f"results/models/village/simnpo_gdr-{best['trial']}"
    assert told == {
        "--method": "simnpo_gdr",
        "--target": "target",
        "--task": "village.yaml",
        "--data-dir": "data",
        "--epochs": "2",
        "--lr": best["lr"],
        "--set": f"beta={best['beta']}",
    }
    again = unlearn(
        "target",
        "village.yaml",
        "simnpo_gdr",
        tmp_path / "again",
        data_dir="data",
        epochs=2,
        lr=float(told["--lr"]),
        params={"beta": float(best["beta"])},
    )
    kept = MODELS / best["trial"]
    assert read(again / "unlearn.json")["fingerprint"] == read(kept / "unlearn.json")["fingerprint"]
    assert (again / "model.safetensors").read_bytes() == (kept / "model.safetensors").read_bytes()


def test_the_same_command_again_only_prints(whole: tuple[Path, Result], made: list[dict[str, Any]]) -> None:
    def state() -> dict[Path, int]:
        found = [path for path in Path("results").rglob("*") if path.is_file() and path.suffix != ".csv"]
        return {path: path.stat().st_mtime_ns for path in found if path.suffix != ".db"}

    before = state()
    assert tune("--grid", GRID, "--epochs", 2).stdout == whole[1].stdout
    assert (state(), made) == (before, [])


@pytest.mark.usefixtures("here")
def test_another_composite_or_grid_makes_only_what_is_new(
    whole: tuple[Path, Result], made: list[dict[str, Any]]
) -> None:
    shutil.copytree(whole[0] / "results", "results")
    done = tune("--grid", GRID, "--epochs", 2, "--composite", "harmonic")
    assert "harmonic ↑" in done.stdout
    assert made == []
    done = tune("--grid", "lr=2e-2:1e-3", "--grid", "epochs=2:1,beta=0.7")
    assert done.exit_code == 0, done.output
    assert [(one["lr"], one["epochs"]) for one in made] == [(2e-2, 1), (1e-3, 1)]
    assert len(trials()) == 4


@pytest.mark.usefixtures("here")
def test_weights_that_are_there_are_kept_where_the_best_ones_are_gone(whole: tuple[Path, Result]) -> None:
    """By ``harmonic`` both trials come to 0, so the one tried first, whose weights were dropped, leads."""
    shutil.copytree(whole[0] / "results", "results")
    named = {(line["beta"], line["lr"]): line["trial"] for line in trials()}
    (MODELS / weights()[0]).rename(MODELS / named["0.7", "0.001"])
    done = tune("--grid", "lr=1e-3,beta=0.1:0.7", "--epochs", 2, "--composite", "harmonic")
    assert [line["harmonic"] for line in trials()] == ["0.0", "0.0"]
    assert trials()[0]["trial"] == named["0.1", "0.001"]
    assert "best model: its weights are gone" in done.stdout
    assert f"--out results/models/village/simnpo_gdr-{named['0.1', '0.001']}" in done.stdout
    assert weights() == [named["0.7", "0.001"]]


# ── killed ───────────────────────────────────────────────────────────────────────────────────────
DYING = """
import os, signal, sys
from muse_eval.tuning import trials as tune
from muse_eval.cli.app import main
from muse_eval.engines.hf import engine
from muse_eval.tuning.study import Study
from muse_eval.unlearning.training import seals, train
command = sys.argv[1:]
rooms = {"complete": seals, "run": tune, "tell": Study, "_ask": Study}
def die_at(name, count):
    real, calls = getattr(rooms[name], name), []
    def dying(*given, **named):
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    setattr(rooms[name], name, dying)
    sys.argv[1:] = command
    main()
for line in sys.stdin:
    name, count = line.split()
    if (child := os.fork()) == 0:
        try:
            die_at(name, int(count))
        finally:
            os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def dying(*more: object) -> Iterator[Callable[[str, int], None]]:
    """Yield what tunes in a process that dies, by kill -9, at the call of that number to a function.

    The processes are forked from one that has imported all they need.
    """
    command = [sys.executable, "-c", DYING, *TUNE, *map(str, more)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        asked, told = parent.stdin, parent.stdout
        assert asked is not None
        assert told is not None

        def killed(name: str, count: int) -> None:
            asked.write(f"{name} {count}\n")
            asked.flush()
            assert told.readline() == f"{-signal.SIGKILL}\n"

        yield killed
        asked.close()
    assert parent.returncode == 0


def log(folder: Path) -> list[dict[str, Any]]:
    return output.read_log(folder / "log.jsonl")


@pytest.mark.usefixtures("here")
def test_killed_at_every_turn_it_comes_to_the_same_and_does_nothing_twice(
    whole: tuple[Path, Result], made: list[dict[str, Any]]
) -> None:
    args = ("--grid", GRID, "--epochs", 2)
    with dying(*args) as killed:
        # In the first trial, its second checkpoint written but not marked as complete.
        killed("complete", 2)
        (partial,) = MODELS.glob("*.partial")
        first = partial.name.removesuffix(".partial")
        begun = log(partial)[:2]
        # The second trial is unlearned and not yet scored.
        killed("run", 2)
        assert log(HOME / first)[:2] == begun
        assert states() == ["COMPLETE", "RUNNING"]
        # It is scored, and the study was not told.
        killed("tell", 1)
        assert len(list(HOME.glob("*/result.json"))) == 2
        scored = {path: path.read_bytes() for path in HOME.glob("*/result.json")}
        # The third one stands in the study and was not begun.
        killed("_ask", 1)
        assert states() == ["COMPLETE", "COMPLETE", "WAITING"]

    done = tune(*args)
    assert (done.exit_code, done.stdout) == (0, whole[1].stdout)
    assert [(one["beta"], one["lr"]) for one in made] == [(0.7, 1e-3), (0.7, 2e-2)]
    assert {path: path.read_bytes() for path in scored} == scored
    assert states() == ["COMPLETE"] * 4
    assert [[line["step"] for line in log(folder)] for folder in HOME.iterdir() if folder.is_dir()] == [
        [1, 2, 3, 4]
    ] * 4
    assert weights() == [trials()[0]["trial"]]
    for path in HOME.glob("*/result.json"):
        assert read(path)["columns"] == read(whole[0] / path)["columns"]


@pytest.mark.usefixtures("here")
def test_two_tunes_do_not_share_a_study() -> None:
    with output.claimed(HOME):
        done = tune("--grid", "beta=0.1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{HOME} is in use by another run" in done.stderr


# ── trials that fail ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("here")
def test_a_trial_that_diverges_is_told_of_and_not_tried_again(made: list[dict[str, Any]]) -> None:
    done = tune("--grid", "lr=1e30:1e-3")
    assert done.exit_code == 0, done.output
    assert done.stderr == "muse-eval: failed: lr=1e+30: the loss is nan at step 2 (forget rows 2, 3)\n"
    good, bad = trials()
    assert (good["lr"], good["rank"], good["failure"]) == ("0.001", "1", "")
    assert (bad["lr"], bad["rank"], bad["failure"]) == (
        "1e+30",
        "",
        "the loss is nan at step 2 (forget rows 2, 3)",
    )
    assert files(HOME / bad["trial"]) == ["failed.json", "log.jsonl", "recipe.json"]
    assert [path.name for path in MODELS.iterdir()] == [good["trial"]]
    assert sorted(states()) == ["COMPLETE", "FAIL"]

    again = tune("--grid", "lr=1e30:1e-3")
    assert (again.exit_code, again.output) == (0, done.output)
    assert len(made) == 2


@pytest.mark.usefixtures("here")
def test_when_every_trial_fails_there_is_no_table_and_exit_code_2() -> None:
    done = tune("--grid", "lr=1e30:1e31")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "muse-eval: failed: lr=1e+30: the loss is nan at step 2 (forget rows 2, 3)",
        "muse-eval: failed: lr=1e+31: the loss is nan at step 2 (forget rows 2, 3)",
        f"muse-eval: error: every trial failed; their logs are in {HOME}",
    ]


@pytest.mark.usefixtures("here")
def test_what_failed_for_another_reason_is_tried_again(made: list[dict[str, Any]]) -> None:
    done = tune("--grid", "batch_size=2:3", "--micro-batch-size", 2)
    assert done.exit_code == 0
    assert "failed: batch_size=3: --micro-batch-size 2 does not divide the 3 rows" in done.stderr
    done = tune("--grid", "batch_size=2:3")
    assert (done.exit_code, done.stderr) == (0, "")
    assert [one["batch_size"] for one in made] == [2, 3, 3]
    assert {line["batch_size"]: line["failure"] for line in trials()} == {"2": "", "3": ""}
    assert states() == ["COMPLETE", "FAIL", "COMPLETE"]
    assert not list(HOME.glob("*/failed.json"))


@pytest.mark.usefixtures("here")
def test_an_undefined_composite_is_shown_and_comes_last() -> None:
    """One step at a rate of 1e30: no loss is undefined, but the model's log-probabilities are."""
    done = tune("--grid", "lr=1e30:1e-3", "--batch-size", 4)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [(line["rank"], line["lr"], line["balance"] == "") for line in trials()] == [
        ("1", "0.001", False),
        ("2", "1e+30", True),
    ]
    assert "n/a: Min-40% is undefined" in done.stdout
    assert weights() == [trials()[0]["trial"]]
    assert sorted(states()) == ["COMPLETE", "PRUNED"]


# ── sampled ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("here")
def test_more_trials_are_added_to_those_that_were_sampled(made: list[dict[str, Any]]) -> None:
    args = ("--grid", "lr=1e-4..1e-2,beta=0.1:0.7", "--keep-models", "--trials")
    assert tune(*args, 1).exit_code == 0
    assert tune(*args, 2).exit_code == 0
    assert len(made) == len(trials()) == len(weights()) == 2
    assert all(1e-4 <= one["lr"] <= 1e-2 and one["beta"] in (0.1, 0.7) for one in made)
    assert {float(line["lr"]) for line in trials()} == {one["lr"] for one in made}


# ── what is refused before anything is made ──────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--grid", "beta=0"], "beta: input should be greater than 0 (got 0)"),
        (["--grid", "beta=0.1,lr=2e-5:-1"], "--grid lr=-1"),
        (["--grid", "bta=0.1"], "did you mean 'beta'"),
        (["--grid", "beta=0.1", "--grid", "beta=0.7"], "beta is given twice"),
        (["--grid", "lr=1e-5", "--lr", "1e-4"], "lr is given both by --grid and by its own option"),
        (["--grid", "lambda=1", "--lambda", "0"], "lambda is given both"),
        (["--grid", "lr=1e-5..1e-4"], "lr is a range: say how many settings to sample with --trials"),
        (["--grid", "lr=1e-5..1e-4", "--trials", "0"], "tune: trials"),
        (["--grid", "beta=1", "--composite", "balanse"], "did you mean 'balance'"),
        (["--grid", "beta=1", "--engine", "server"], "engine server answers for one model"),
        (["--grid", "beta=1", "--set", "privleak.q=1"], "no parameter 'q'"),
        (["--grid", "beta=1", "--set", "simnpo.gamma=3.0"], "use --grid gamma=3.0"),
        (["--grid", "beta=1", "--set", "simnpo_gdr.gamma=3.0"], "use --grid gamma=3.0"),
        (["--grid", "beta=1", "--set", "privleek.k=0.2"], "did you mean 'privleak'?"),
        (["--grid", "beta=1", "--lr", "0"], "tune: lr"),
        (["--grid", "beta=1", "--dtype", "int8"], "tune: dtype"),
        (["--grid", "beta=1", "--seed", "-1"], "tune: seed"),
        (["--grid", "beta=1", "--results", "village.yaml"], "cannot write results to village.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_nothing_is_made(here: Path, args: list[str], told: str) -> None:
    done = tune(*args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("muse-eval: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr
    assert not (here / "results").exists()


def test_a_task_of_several_forget_sets_is_refused(here: Path) -> None:
    write_task(here / "village.yaml", folds={"mode": "nested", "forget": ["raw/forget"]})
    done = tune("--grid", "beta=1")
    assert done.exit_code == 2
    assert "task village has several forget sets, and tune unlearns one" in done.stderr


def test_a_task_that_lacks_a_column_of_the_composite_is_refused(here: Path) -> None:
    write_task(here / "village.yaml", columns={"verbmem_f": COLUMNS["verbmem_f"]})
    done = tune("--grid", "beta=1")
    assert done.exit_code == 2
    assert "composite balance needs the columns knowmem_f, privleak, knowmem_r" in done.stderr
