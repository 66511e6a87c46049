"""The pipeline's epochs and folds, end to end on a tiny model: selected, kept, resumed, refused."""

import csv
import json
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from muse_eval.errors import UserError
from muse_eval.pipelines import keeping
from muse_eval.pipelines.config import PipelineConfig
from muse_eval.pipelines.stages import pipeline
from muse_eval.results.composites import composite
from muse_eval.results.runs import StoredResult, load
from tests.e2e import COLUMNS, SPLITS, TEXTS, files, muse, other_model, write_data, write_task

FORGET_SETS = {
    "scal": {"scal/forget_1": TEXTS[:2], "scal/forget_2": TEXTS[:4]},
    "sust": {"sust/forget_1": TEXTS[:2], "sust/forget_2": TEXTS[2:4]},
}
MODES = {"scal": "nested", "sust": "sequential"}
RUNS = Path("results/runs/village")


def make_world(home: Path, model: Path) -> None:
    """Write the small task, its two tasks of several forget sets, its data and a second model."""
    write_task(home / "village.yaml")
    for kind, forget_sets in FORGET_SETS.items():
        spec = {"name": f"village_{kind}", "title": f"Village {kind}", "source": "made up"}
        own = {"base": "village.yaml", "folds": {"mode": MODES[kind], "forget": list(forget_sets)}}
        (home / f"{kind}.yaml").write_text(json.dumps({**spec, **own}), encoding="utf-8")
        write_data(home / "data", forget_sets)
    write_data(home / "data", SPLITS)
    other_model(model, home / "other")


def call(
    model: Path, *more: object, task: str = "village", methods: str = "simnpo_gdr"
) -> tuple[object, ...]:
    given = ("pipeline", "--task", f"{task}.yaml", "--methods", methods, "--data-dir", "data", "-q")
    return (*given, "--target", model, "--retrain", "other", "--lr", 0.01, *more)


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Return a folder in which a pipeline has scored three epochs and selected by one rule."""
    home = tmp_path_factory.mktemp("selected")
    make_world(home, tiny_model)
    with chdir(home):
        done = muse(*call(tiny_model, "--epochs", 3, "--select", "released"))
    assert done.exit_code == 0, done.output
    return home


@pytest.fixture
def here(tmp_path: Path, selected: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder as the working directory."""
    copy = tmp_path / "here"
    shutil.copytree(selected, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def fresh(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which nothing was done."""
    make_world(tmp_path, tiny_model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(folder: Path) -> StoredResult:
    found = load(folder)
    assert found is not None
    return found


def epoch(number: int, name: str = "simnpo_gdr") -> StoredResult:
    return stored(RUNS / name / "epochs" / str(number))


def values(result: StoredResult) -> dict[str, float | None]:
    return {name: column.value for name, column in result.columns.items()}


def known(result: StoredResult, column: str) -> float:
    value = result.columns[column].value
    assert value is not None
    return value


def weights() -> list[str]:
    return [name for name in files(Path("results/models")) if name.endswith(".safetensors")]


def times() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path("results").rglob("*") if path.is_file()}


# ── epochs ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("here")
def test_every_epoch_is_scored_and_the_rules_first_is_the_run() -> None:
    bar = known(stored(RUNS / "retrain"), "knowmem_f")
    first = next(number for number in (1, 2, 3) if known(epoch(number), "knowmem_f") <= bar)
    run = stored(RUNS / "simnpo_gdr")
    chosen = run.config["made"]["selection"]
    assert chosen == {"epoch": first, "of": 3, "rule": "released", "fired": True, "composite": None}
    assert values(run) == values(epoch(chosen["epoch"]))
    assert run.model["digest"] == epoch(chosen["epoch"]).model["digest"]
    assert len({epoch(number).model["digest"] for number in (1, 2, 3)}) == 3
    assert (run.name, epoch(2).name) == ("simnpo_gdr", "simnpo_gdr-epoch2")

    with (RUNS / "simnpo_gdr" / "trajectory.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines] == ["0", "1", "2", "3"]
    assert [bool(line["selected"]) for line in lines] == [number == chosen["epoch"] for number in range(4)]
    shown = [
        f"{known(one, 'verbmem_f'):.4f}" for one in (stored(RUNS / "target"), epoch(1), epoch(2), epoch(3))
    ]
    assert [line["verbmem_f"] for line in lines] == shown
    ranks = [composite("balance", values(epoch(number))) or 0.0 for number in (1, 2, 3)]
    assert [float(line["balance"]) for line in lines[1:]] == pytest.approx(ranks, abs=1e-4)
    assert (RUNS / "simnpo_gdr" / "trajectory.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("here")
def test_a_second_call_asks_nothing_and_writes_nothing(tiny_model: Path) -> None:
    before = times()
    done = muse(*call(tiny_model, "--epochs", 3, "--select", "released"))
    assert done.exit_code == 0, done.output
    assert times() == before
    assert "│ simnpo_gdr [" in done.stdout
    assert "epochs of simnpo_gdr: results/runs/village/simnpo_gdr/trajectory.csv" in done.stdout
    assert "of 3, selected by the rule 'released'" in " ".join(done.stdout.split())


@pytest.mark.usefixtures("here")
def test_the_page_shows_epochs_and_tokens(tiny_model: Path) -> None:
    done = muse(*call(tiny_model, "--epochs", 3, "--select", "released", "--report"))
    assert done.exit_code == 0, done.output
    assert "report: results/reports/village.html, 3 runs, " in done.stdout
    assert "figures: results/reports/village/*.svg, *.png, *.pdf" in done.stdout
    assert Path("results/reports/village/epochs.pdf").read_bytes().startswith(b"%PDF")
    page = Path("results/reports/village.html").read_text(encoding="utf-8")
    assert 'id="picture-epochs"' in page
    assert "no log-probability of single tokens" not in page
    asked = muse(*call(tiny_model, "--epochs", 3, "--select", "released", "--report", "--json"))
    assert json.loads(asked.stdout)["reports"] == {"village": "results/reports/village.html"}


@pytest.mark.usefixtures("here")
def test_epochs_are_no_runs_of_their_own() -> None:
    done = muse("leaderboard", "--out", "-")
    lines = list(csv.DictReader(done.stdout.splitlines()))
    assert [line["name"] for line in lines] == ["target", "retrain", "simnpo_gdr"]
    assert [line["notes"][:6] for line in lines] == ["", "", "epoch "]


@pytest.mark.usefixtures("here")
def test_another_rule_needs_no_unlearning(tiny_model: Path) -> None:
    """The weights of what any rule selects stayed, and no question is new."""
    cached = files(Path("results/cache"))
    models = {path: path.stat().st_mtime_ns for path in Path("results/models").rglob("*.safetensors")}
    rules = [("best", ["--composite", "harmonic"]), ("last", []), ("paper", []), ("last", [])]
    for rule, more in rules:
        done = muse(*call(tiny_model, "--epochs", 3, "--select", rule, *more))
        assert done.exit_code == 0, done.output
        run = stored(RUNS / "simnpo_gdr")
        if rule != "last":
            chosen = run.config["made"]["selection"]
            assert chosen["rule"] == rule
            assert run.model["digest"] == epoch(chosen["epoch"]).model["digest"]
        if rule == "paper":
            # The tiny model's KnowMem Dr is 0 throughout, and nothing is below that.
            assert (chosen["epoch"], chosen["fired"]) == (3, False)
            assert "the last: the rule 'paper' selected none" in " ".join(done.stdout.split())
    assert list(run.config["made"]) == ["recipe"]
    assert run.model["digest"] == epoch(3).model["digest"]
    assert files(Path("results/cache")) == cached
    assert models == {p: p.stat().st_mtime_ns for p in Path("results/models").rglob("*.safetensors")}


@pytest.mark.usefixtures("here")
def test_other_settings_are_refused_all_the_same(tiny_model: Path) -> None:
    done = muse(*call(tiny_model, "--epochs", 3, "--select", "best", "--set", "privleak.k=0.2"))
    assert done.exit_code == 2
    assert "holds a run with other settings (columns.privleak.k 0.4, now 0.2);" in done.stderr


@pytest.mark.usefixtures("here")
def test_checkpoints_hold_no_training_state() -> None:
    left = {Path(name).name for name in files(Path("results/models/village/simnpo_gdr/checkpoints"))}
    assert left <= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "complete",
    }


def test_weights_that_no_rule_selects_go_unless_asked_for(fresh: Path, tiny_model: Path) -> None:
    """At lr 1e-9 all epochs are alike: rules take the first or the last, which is the model itself."""
    small = ("--epochs", 3, "--lr", 1e-9, "--trajectory")
    assert muse(*call(tiny_model, *small)).exit_code == 0
    steps = ["village/simnpo_gdr/checkpoints/checkpoint-2/model.safetensors"]
    assert set(weights()) - set(steps) == {"village/simnpo_gdr/model.safetensors"}
    run = stored(RUNS / "simnpo_gdr")
    assert run.config["made"]["selection"]["rule"] == "last"
    assert run.extras.get("notes") is None
    before = times()
    assert muse(*call(tiny_model, *small)).exit_code == 0
    assert times() == before

    shutil.rmtree("results")
    assert muse(*call(tiny_model, *small, "--keep-checkpoints")).exit_code == 0
    assert len(weights()) == 4
    assert fresh.exists()


def lose(here: Path, number: int) -> Path:
    """Drop an epoch's weights, as the pipeline does with those that no rule selects."""
    checkpoint = here / f"results/models/village/simnpo_gdr/checkpoints/checkpoint-{2 * number}"
    (checkpoint / "complete").unlink(missing_ok=True)
    (checkpoint / "model.safetensors").unlink(missing_ok=True)
    return checkpoint


def test_scores_whose_weights_are_gone_must_be_of_this_code(here: Path, tiny_model: Path) -> None:
    lose(here, 2)
    path = RUNS / "simnpo_gdr" / "epochs" / "2" / "result.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    result["provenance"]["code"] = "0" * 64
    path.write_text(json.dumps(result), encoding="utf-8")
    done = muse(*call(tiny_model, "--epochs", 3, "--select", "best"))
    assert done.exit_code == 2
    assert "no longer holds the weights of epoch 2" in done.stderr
    assert "--overwrite makes them again" in done.stderr


def test_a_selected_epoch_must_have_its_weights(here: Path, tiny_model: Path) -> None:
    chosen = stored(RUNS / "simnpo_gdr").config["made"]["selection"]["epoch"]
    assert chosen < 3
    lose(here, chosen)
    done = muse(*call(tiny_model, "--epochs", 3, "--select", "released"))
    assert done.exit_code == 2
    assert f"no longer holds the weights of epoch {chosen}" in done.stderr


def test_an_epoch_without_a_checkpoint_is_missed(here: Path, tiny_model: Path) -> None:
    shutil.rmtree(here / "results/models/village/simnpo_gdr/checkpoints/checkpoint-2")
    done = muse(*call(tiny_model, "--epochs", 3, "--select", "paper"))
    assert done.exit_code == 2
    assert "holds checkpoints of 2 of its 3 epochs" in done.stderr


@pytest.mark.usefixtures("here")
def test_a_shorter_unlearning_leaves_no_longer_ones_epochs(tiny_model: Path) -> None:
    done = muse(*call(tiny_model, "--epochs", 1, "--select", "best", "--overwrite"))
    assert done.exit_code == 0, done.output
    assert [path.name for path in (RUNS / "simnpo_gdr" / "epochs").iterdir()] == ["1"]
    assert stored(RUNS / "simnpo_gdr").config["made"]["selection"]["of"] == 1
    assert weights() == ["village/simnpo_gdr/model.safetensors"]


@pytest.mark.usefixtures("here")
def test_a_plain_result_keeps_its_own_trajectory_and_no_others(tiny_model: Path) -> None:
    run = RUNS / "simnpo_gdr"
    beside = [run / "trajectory.csv", run / "trajectory.png", run / "epochs"]
    (run / "epochs" / ".DS_Store").write_text("no epoch", encoding="utf-8")
    assert muse(*call(tiny_model, "--epochs", 3, "--trajectory")).exit_code == 0
    done = muse(*call(tiny_model, "--epochs", 3))
    assert done.exit_code == 0, done.output
    assert all(path.exists() for path in beside)
    done = muse(*call(tiny_model, "--epochs", 1, "--overwrite"))
    assert done.exit_code == 0, done.output
    assert not any(path.exists() for path in beside)
    assert "epochs of" not in done.stdout


@pytest.mark.usefixtures("fresh")
def test_small_epochs_are_kept_unasked_and_selected_among_later(tiny_model: Path) -> None:
    assert muse(*call(tiny_model, "--epochs", 3)).exit_code == 0
    assert len(weights()) == 4
    made = {path: time for path, time in times().items() if "models" in path.parts}
    done = muse(*call(tiny_model, "--epochs", 3, "--select", "released"))
    assert done.exit_code == 0, done.output
    assert stored(RUNS / "simnpo_gdr").config["made"]["selection"]["of"] == 3
    left = {path: time for path, time in times().items() if "models" in path.parts}
    # Nothing was made, and what no rule selects went.
    assert left.items() < made.items()


@pytest.mark.usefixtures("fresh")
def test_large_epochs_are_not_and_that_is_said_before(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = keeping.MOST
    monkeypatch.setattr(keeping, "MOST", 1)
    loud = [part for part in call(tiny_model, "--epochs", 2) if part != "-q"]
    said = "muse-eval: only each unlearning's last epoch will be kept: choosing another with --select later"
    done = muse(*loud)
    assert done.exit_code == 0, done.output
    told = done.stderr.splitlines()
    (place,) = (number for number, line in enumerate(told) if line.startswith(said))
    assert place < told.index("unlearn with simnpo_gdr")
    assert len(weights()) == 1
    # Where all is made there is nothing to say, and what was made without epochs stays valid.
    before = times()
    monkeypatch.setattr(keeping, "MOST", most)
    assert said not in muse(*loud).stderr
    assert times() == before
    done = muse(*call(tiny_model, "--epochs", 2, "--select", "paper"))
    assert done.exit_code == 2
    assert "was made without its checkpoints; --overwrite makes it again" in done.stderr


def test_what_was_begun_without_its_epochs_is_not_trained_to_its_end_in_vain(
    fresh: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PipelineConfig(
        task="village.yaml",
        methods=("ga",),
        target=str(tiny_model),
        retrain="other",
        data_dir=Path("data"),
        epochs=3,
        lr=0.01,
    )

    def stop(step: str, done: int, _: int) -> None:
        if (step, done) == ("unlearn", 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(keeping, "MOST", 1)
    with pytest.raises(KeyboardInterrupt):
        pipeline(config, progress=stop)
    done = muse(*call(tiny_model, "--epochs", 3, "--select", "paper", methods="ga"))
    assert done.exit_code == 2
    assert "ga.partial was begun without keeping its epochs; --overwrite begins again" in done.stderr
    # As it was begun it goes on, and what it then has is not enough to select from.
    monkeypatch.undo()
    monkeypatch.chdir(fresh)
    steps: list[int] = []
    told: list[str] = []

    def count(step: str, done: int, _: int) -> None:
        if step == "unlearn":
            steps.append(done)

    pipeline(config, progress=count, note=told.append)
    assert steps[-2:] == [5, 6]
    assert told == ["goes on from epoch 2 of 3, step 4 of 6"]
    assert weights() == ["village/ga/model.safetensors"]


# ── folds ────────────────────────────────────────────────────────────────────────────────────────
def cards(kind: str, method: str = "simnpo_gdr") -> list[dict[str, Any]]:
    home = Path(f"results/models/village_{kind}")
    return [
        json.loads((home / f"{method}-{number}" / "unlearn.json").read_text(encoding="utf-8"))
        for number in (1, 2)
    ]


@pytest.mark.parametrize("kind", ["scal", "sust"])
def test_several_forget_sets(kind: str, fresh: Path, tiny_model: Path) -> None:
    done = muse(*call(tiny_model, task=kind, methods="simnpo_gdr,ga"))
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("│")]
    assert [row[1] for row in rows] == ["target", "retrain", "simnpo_gdr", "simnpo_gdr", "ga", "ga"]
    sizes = {"scal": [2, 4], "sust": [2, 2]}[kind]
    assert [int(row[5]) for row in rows[2:]] == sizes * 2
    assert [row[3] for row in rows[2:4]] == list(FORGET_SETS[kind])

    home = Path(f"results/runs/village_{kind}")
    assert sorted(path.name for path in home.iterdir() if path.is_dir()) == sorted(
        ["target", "retrain", "simnpo_gdr-1", "simnpo_gdr-2", "ga-1", "ga-2"]
    )
    first, second = cards(kind)
    assert [first["data"]["forget"]["texts"], second["data"]["forget"]["texts"]] == sizes
    start = stored(home / ("target" if kind == "scal" else "simnpo_gdr-1"))
    assert second["target"]["weights"] == start.model["digest"]
    assert first["target"]["weights"] == stored(home / "target").model["digest"]
    assert stored(home / "simnpo_gdr-2").config["made"]["fold"] == {
        "method": "simnpo_gdr",
        "split": f"{kind}/forget_2",
        "number": 2,
        "of": 2,
        "mode": MODES[kind],
        "texts": sizes[1],
        "tokens": second["tokens"]["forget"],
    }
    name = {"scal": "scalability", "sust": "sustainability"}[kind]
    assert len((home / f"{name}.csv").read_text(encoding="utf-8").splitlines()) == 7
    assert (home / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "against its retrain model" in " ".join(done.stdout.split())

    before = times()
    again = muse(*call(tiny_model, task=kind, methods="simnpo_gdr,ga"))
    assert (again.stdout, times()) == (done.stdout, before)
    page = muse("report", "--task", f"{kind}.yaml", "--data-dir", "data", "--figures", fresh / "paper")
    assert page.exit_code == 0, page.output
    assert (fresh / "paper" / f"{name}.svg").is_file()


@pytest.mark.parametrize("kind", ["scal", "sust"])
def test_what_was_stopped_between_and_within_folds_goes_on(kind: str, fresh: Path, tiny_model: Path) -> None:
    """Stopped before the second fold, then in its second step of two epochs: nothing is done twice."""
    config = PipelineConfig(
        task=f"{kind}.yaml",
        methods=("ga",),
        target=str(tiny_model),
        retrain="other",
        data_dir=Path("data"),
        epochs=2,
        lr=0.001,
        batch_size=4,
    )
    stages: list[str] = []
    steps: list[tuple[str, str, int]] = []

    def go(stop: Callable[[str, int], bool]) -> None:
        def stage(name: str) -> None:
            stages.append(name)
            if stop(name, 0):
                raise KeyboardInterrupt

        def progress(step: str, done: int, _total: int) -> None:
            steps.append((stages[-1], step, done))
            if step == "unlearn" and stop(stages[-1], done):
                raise KeyboardInterrupt

        pipeline(config, stage=stage, progress=progress)

    last = f"unlearn with ga: {kind}/forget_2"
    with pytest.raises(KeyboardInterrupt):
        go(lambda name, done: name == last and done == 0)
    assert Path(f"results/models/village_{kind}/ga-1").is_dir()
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        go(lambda name, done: name == last and done == 2)
    assert [step for step in steps if step[1] == "unlearn"] == [(last, "unlearn", 1), (last, "unlearn", 2)]
    steps.clear()
    go(lambda *_: False)
    assert {stage for stage, _, _ in steps} <= {last, "score ga-2"}
    assert [done for _, step, done in steps if step == "unlearn"] == [2]
    assert fresh.exists()


@pytest.mark.usefixtures("fresh")
def test_a_later_fold_starts_from_the_epoch_selected(tiny_model: Path) -> None:
    done = muse(*call(tiny_model, "--epochs", 2, "--select", "best", task="sust"))
    assert done.exit_code == 0, done.output
    home = Path("results/runs/village_sust")
    first = stored(home / "simnpo_gdr-1")
    assert cards("sust")[1]["target"]["weights"] == first.model["digest"]
    with (home / "simnpo_gdr-2" / "trajectory.csv").open(encoding="utf-8") as file:
        start = next(csv.DictReader(file))
    assert start["verbmem_f"] == f"{known(first, 'verbmem_f'):.4f}"
    before = times()
    assert muse(*call(tiny_model, "--epochs", 2, "--select", "best", task="sust")).exit_code == 0
    assert times() == before


def test_the_built_in_world_is_made_once_for_all_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where its models go and which world they are of is looked at: training them takes minutes."""
    asked: list[tuple[Path, int]] = []

    def stop(home: Path, seed: int, *_: object) -> dict[str, Path]:
        asked.append((home, seed))
        raise KeyboardInterrupt

    monkeypatch.setattr("muse_eval.mini.train.make_models", stop)
    for task in ("muse_mini", "muse_mini_scal", "muse_mini_sust-seed2"):
        with pytest.raises(KeyboardInterrupt):
            pipeline(PipelineConfig(task=task, methods=("ga",), results=tmp_path))
    models = tmp_path / "models"
    assert asked == [(models / "muse_mini", 0), (models / "muse_mini", 0), (models / "muse_mini-seed2", 2)]


# ── training seeds ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("fresh")
def test_seeds_of_given_data_are_the_unlearnings(tiny_model: Path) -> None:
    """The first, the task's own, is the very pipeline without --seeds; target and retrain serve all."""
    plain = muse(*call(tiny_model))
    assert plain.exit_code == 0, plain.output
    before = times()
    done = muse(*call(tiny_model, "--seeds", "0,1"))
    assert done.exit_code == 0, done.output
    assert before.items() <= times().items()
    assert done.stdout.startswith(plain.stdout.split("evidence")[0])
    names = sorted(path.name for path in RUNS.iterdir())
    assert names == ["retrain", "simnpo_gdr", "simnpo_gdr-seed1", "target"]
    home = Path("results/models/village")
    seeds = [
        json.loads((home / name / "unlearn.json").read_text(encoding="utf-8"))["config"]["seed"]
        for name in ("simnpo_gdr", "simnpo_gdr-seed1")
    ]
    assert seeds == [0, 1]
    assert len({stored(RUNS / name).model["digest"] for name in names}) == 4
    last = done.stdout.rpartition("┏")[2]
    rows = [line.split("│")[1:3] for line in last.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == ["target", "retrain", "simnpo_gdr"]
    assert ["±" in row[1] for row in rows] == [False, False, True]
    assert "mean ± standard deviation over 2 seeds; target and retrain are the same" in " ".join(last.split())

    before = times()
    assert muse(*call(tiny_model, "--seeds", "0,1")).stdout == done.stdout
    assert times() == before


@pytest.mark.usefixtures("fresh")
def test_another_seeds_folds_lie_beside_the_firsts(tiny_model: Path) -> None:
    for seeds in ("0,7", "7"):
        done = muse(*call(tiny_model, "--seeds", seeds, task="sust", methods="ga"))
        assert done.exit_code == 0, done.output
        assert "Village sust, training seed 7 (±" in done.stdout
    home = Path("results/runs/village_sust")
    assert {path.name for path in home.iterdir()} == {
        *("target", "retrain", "ga-1", "ga-2", "ga-seed7-1", "ga-seed7-2"),
        *(f"sustainability{seed}{ending}" for seed in ("", "-seed7") for ending in (".csv", ".png")),
    }
    first = stored(home / "ga-seed7-1").model["digest"]
    card = json.loads(Path("results/models/village_sust/ga-seed7-2/unlearn.json").read_text())
    assert card["target"]["weights"] == first != stored(home / "ga-1").model["digest"]


@pytest.mark.parametrize(("seeds", "told"), [("1,x", "give whole numbers"), (f"{2**32}", "below 2**32")])
def test_a_wrong_seed_is_refused(fresh: Path, tiny_model: Path, seeds: str, told: str) -> None:
    done = muse(*call(tiny_model, "--seeds", seeds))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--seeds {seeds}: " in done.stderr
    assert told in done.stderr
    assert not (fresh / "results").exists()


def test_a_users_own_task_of_the_built_in_world_has_other_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only which worlds are asked for is looked at: making one takes minutes."""
    write_task(tmp_path / "own.yaml", name="own", data={"source": "builtin"})
    asked: list[tuple[str, int]] = []

    def stop(home: Path, seed: int, *_: object) -> dict[str, Path]:
        asked.append((home.name, seed))
        raise UserError("not now")

    monkeypatch.setattr("muse_eval.mini.train.make_models", stop)
    for seeds in ("0", "3"):
        args = ["--task", tmp_path / "own.yaml", "--methods", "ga", "--results", tmp_path / "results"]
        assert "not now" in muse("pipeline", *args, "--seeds", seeds, "-q").stderr
    assert asked == [("own", 0), ("own-seed3", 3)]


# ── settings of methods ──────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("fresh")
def test_a_methods_own_setting_goes_before_its_losss(tiny_model: Path) -> None:
    sets = ["--set", "simnpo.beta=0.5", "--set", "simnpo_gdr.beta=0.25", "--set", "simnpo.gamma=0.125"]
    done = muse(*call(tiny_model, *sets, "--set", "privleak.k=0.2", methods="simnpo,simnpo_gdr"))
    assert done.exit_code == 0, done.output
    for method, beta in {"simnpo": 0.5, "simnpo_gdr": 0.25}.items():
        card = json.loads(Path(f"results/models/village/{method}/unlearn.json").read_text(encoding="utf-8"))
        assert card["method"]["params"] == {"beta": beta, "gamma": 0.125}
    assert stored(RUNS / "simnpo").config["columns"]["privleak"]["k"] == 0.2


# ── bad input ────────────────────────────────────────────────────────────────────────────────────
BAD: dict[str, tuple[list[object], str]] = {
    "server": (["--engine", "server"], "engine server answers for one model, and a pipeline makes others"),
    "rule": (["--select", "papr"], "no selection rule 'papr'; did you mean 'paper'?"),
    "composite": (["--select", "best", "--composite", "balanse"], "no composite 'balanse'; did you mean"),
    "idle composite": (["--composite", "harmonic"], "--composite ranks epochs; it goes with --select best"),
    "method's parameter": (["--set", "simnpo.bta=1"], "method simnpo_gdr: no parameter 'bta'; did you mean"),
    "method's value": (["--set", "simnpo_gdr.beta=-1"], "method simnpo_gdr: beta: input should be greater"),
    "method left out": (["--set", "npo.beta=1"], "--set npo.beta: --methods leaves npo out"),
    "group": (["--set", "simnpo_gdt.beta=1"], "no group 'simnpo_gdt'; did you mean 'simnpo_gdr'?"),
}


@pytest.mark.parametrize(("more", "told"), BAD.values(), ids=BAD)
def test_mistakes_are_found_before_anything_is_made(
    more: list[object], told: str, fresh: Path, tiny_model: Path
) -> None:
    done = muse(*call(tiny_model, *more))
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    assert not (fresh / "results").exists()


def test_a_rule_needs_its_columns(fresh: Path, tiny_model: Path) -> None:
    write_task(fresh / "village.yaml", columns={"verbmem_f": COLUMNS["verbmem_f"]})
    for rule, column in (("paper", "knowmem_r"), ("released", "knowmem_f"), ("best", "knowmem_f, privleak")):
        done = muse(*call(tiny_model, "--select", rule))
        assert done.exit_code == 2
        assert f"--select {rule} needs the columns {column}" in done.stderr
    done = muse(*call(tiny_model, "--trajectory", "--epochs", 2))
    assert done.exit_code == 0, done.output
    head = (RUNS / "simnpo_gdr" / "trajectory.csv").read_text(encoding="utf-8").splitlines()[0]
    assert head == "epoch,verbmem_f,verbmem_f_low,verbmem_f_high,selected"


def test_folds_must_be_there_and_be_texts(fresh: Path, tiny_model: Path) -> None:
    (fresh / "data/scal/forget_2.json").unlink()
    done = muse(*call(tiny_model, task="scal"))
    assert done.exit_code == 2
    assert "scal/forget_2.json does not exist" in done.stderr
    verdicts = muse("data", "verify", "--task", "scal.yaml", "--data-dir", "data")
    assert verdicts.exit_code == 1
    assert "scal/forget_2: missing" in verdicts.stdout

    spec = json.loads((fresh / "scal.yaml").read_text(encoding="utf-8"))
    spec["folds"]["forget"] = ["knowmem/forget_qa"]
    (fresh / "scal.yaml").write_text(json.dumps(spec), encoding="utf-8")
    done = muse(*call(tiny_model, task="scal"))
    assert done.exit_code == 2
    assert "the forget set knowmem/forget_qa is no split of texts" in done.stderr
    assert not (fresh / "results").exists()


@pytest.mark.usefixtures("fresh")
def test_one_unlearning_has_one_forget_set(tiny_model: Path) -> None:
    args = ["--model", tiny_model, "--task", "scal.yaml", "--data-dir", "data", "--out", "out", "-q"]
    done = muse("unlearn", "--method", "ga", *args)
    assert done.exit_code == 2
    assert "task village_scal has 2 forget sets; muse-eval pipeline unlearns them" in done.stderr
    assert not Path("out").exists()
