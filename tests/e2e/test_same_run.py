"""What the pipeline made and scored, asked for again by hand: the same run, the same retrain model."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from muse_eval import evaluate
from muse_eval.config.run import RunConfig
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.errors import UserError
from muse_eval.results.evidence import find_run
from muse_eval.results.runs import StoredResult, load, load_records
from muse_eval.scoring.plan import plan
from muse_eval.scoring.retrain import Found, find
from tests.e2e import files, muse, other_model, write_data, write_task

RUN = Path("results/runs/village/ga")
MODEL = Path("results/models/village/ga")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Return a folder in which a pipeline has unlearned and scored a model."""
    home = tmp_path_factory.mktemp("made")
    write_task(home / "village.yaml", retrain_auc={})
    write_data(home / "data")
    other_model(tiny_model, home / "other")
    with chdir(home):
        done = muse(*pipeline(tiny_model))
    assert done.exit_code == 0, done.output
    return home


@pytest.fixture
def here(tmp_path: Path, made: Path) -> Iterator[Path]:
    """A copy of that folder as the working directory."""
    copy = tmp_path / "here"
    shutil.copytree(made, copy)
    with chdir(copy):
        yield copy


def pipeline(target: Path) -> tuple[object, ...]:
    given = ("pipeline", "--task", "village.yaml", "--methods", "ga", "--data-dir", "data", "-q")
    return (*given, "--target", target, "--retrain", "other")


def scored(*more: object, model: object = MODEL) -> tuple[object, ...]:
    return ("run", "--model", model, "--task", "village.yaml", "--data-dir", "data", *more)


def contents() -> dict[str, bytes]:
    return {name: (RUN / name).read_bytes() for name in files(RUN)}


def stored(name: str = "ga", results: str = "results") -> StoredResult:
    found = load(Path(results) / "runs" / "village" / name)
    assert found is not None
    return found


# ── the same run ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("here")
def test_the_same_questions_to_the_same_model_are_the_same_run() -> None:
    before = contents()
    found = muse(*scored())
    assert found.exit_code == 0, found.output
    assert "muse-eval: retrain: other (the pipeline's; --retrain names another, or none)" in found.stderr
    # The title heads the table, not the file's name.
    assert found.stdout.startswith("Village (±")
    assert contents() == before
    given = muse(*scored("--retrain", "other", "-q"))
    assert (given.exit_code, given.stderr) == (0, "")
    assert contents() == before
    assert (
        stored().config["made"]["recipe"] == json.loads((MODEL / "unlearn.json").read_text())["fingerprint"]
    )
    result = evaluate(MODEL, "village.yaml", data_dir=Path("data"))
    assert result.columns["privleak"].value == stored().columns["privleak"].value
    assert contents() == before


@pytest.mark.usefixtures("here")
def test_other_questions_are_named_with_both_values() -> None:
    before = contents()
    refused = muse(*scored("--seed", 1, "--set", "privleak.k=0.2", "-q"))
    assert refused.exit_code == 2
    told = "holds a run with other settings (columns.privleak.k 0.4, now 0.2; seed 0, now 1);"
    assert told in refused.stderr
    refused = muse(*scored("--retrain", "none", "-q"))
    assert "now none); it was scored with --retrain other; give --name" in refused.stderr
    assert contents() == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_at_once_of_one_name_the_second_to_end_is_refused(overwrite: bool) -> None:
    """Neither the first one's result is lost nor what the second had asked."""
    ended: list[int] = []

    def another(*_: object) -> None:
        if not ended:
            ended.append(0)
            done = muse(*scored("--name", "twice", "--limit", 2, "-q"))
            assert done.exit_code == 0, done.output

    def both() -> None:
        evaluate(
            MODEL,
            "village.yaml",
            data_dir=Path("data"),
            name="twice",
            limit=1,
            cache=False,
            overwrite=overwrite,
            progress=another,
        )

    with pytest.raises(UserError, match=r"other settings \(limit 2, now 1\); give --name .*; it was stored"):
        both()
    assert ended
    assert stored("twice").config["limit"] == 2


def test_records_of_an_older_version_are_the_same_run(here: Path, tiny_model: Path) -> None:
    """They lack what the model was given; where the code is the same the pipeline leaves them alone."""
    new = contents()
    lines = [json.loads(line) for line in new["records.jsonl"].decode().splitlines()]
    for line in lines:
        line.pop("prompt", None)
        line.pop("text", None)
    old = "".join(json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n" for line in lines).encode()
    assert old != new["records.jsonl"]
    result = json.loads(new["result.json"]) | {"records_sha256": hashlib.sha256(old).hexdigest()}
    (RUN / "records.jsonl").write_bytes(old)
    (RUN / "result.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    before = contents()
    shown = muse("show", "ga", "--column", "verbmem_f")
    assert shown.exit_code == 0
    assert "what the model was given is not in these records" in shown.stdout
    assert muse(*pipeline(tiny_model)).exit_code == 0
    assert contents() == before
    # Of another version's code it is scored again, from the stored answers.
    result["provenance"]["code"] = "0" * 64
    (RUN / "result.json").write_text(json.dumps(result), encoding="utf-8")
    cached = files(here / "results" / "cache")
    assert muse(*pipeline(tiny_model)).exit_code == 0
    assert contents() == new
    assert files(here / "results" / "cache") == cached


@pytest.mark.usefixtures("here")
def test_the_pipeline_takes_over_a_run_that_was_made_by_hand(tiny_model: Path) -> None:
    before = contents()
    shutil.rmtree(RUN)
    assert muse(*scored("-q")).exit_code == 0
    assert "made" not in stored().config
    assert muse(*pipeline(tiny_model)).exit_code == 0
    assert contents() == before


# ── the retrain model ────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("here")
def test_the_target_is_compared_with_it_too_under_whatever_name(tiny_model: Path) -> None:
    done = muse(*scored("--name", "mine", "--metrics", "privleak", model=tiny_model))
    assert "muse-eval: retrain: other (the pipeline's" in done.stderr
    assert stored("mine").columns["privleak"].value == stored("target").columns["privleak"].value
    # Columns that compare with nothing need none.
    done = muse(*scored("--name", "verbmem", "--metrics", "verbmem_f"))
    assert (done.exit_code, done.stderr.count("retrain")) == (0, 0)


@pytest.mark.usefixtures("here")
def test_it_is_found_from_the_model_where_results_go_elsewhere() -> None:
    done = muse(*scored("--results", "elsewhere", "--metrics", "privleak"))
    assert "muse-eval: retrain: other (the pipeline's" in done.stderr
    assert stored(results="elsewhere").columns["privleak"].value == stored().columns["privleak"].value


@pytest.mark.usefixtures("here")
def test_a_run_that_was_scored_without_one_stays_what_it_is() -> None:
    given = scored("--name", "plain", "--metrics", "privleak")
    assert muse(*given, "--retrain", "none").exit_code == 0
    assert (
        stored("plain").columns["privleak"].reason == "no retrain model to compare with; give --retrain MODEL"
    )
    done = muse(*given)
    assert done.exit_code == 0
    assert "retrain: none, as in the run that is there; --overwrite compares with other" in done.stderr
    assert stored("plain").columns["privleak"].value is None
    assert muse(*given, "--overwrite").exit_code == 0
    assert stored("plain").columns["privleak"].value == stored().columns["privleak"].value


@pytest.mark.usefixtures("here")
def test_one_that_is_gone_or_another_by_now_is_never_used(tiny_model: Path) -> None:
    given = scored("--name", "plain", "--metrics", "privleak", "--overwrite")
    shutil.rmtree("other")
    done = muse(*given)
    assert done.exit_code == 0
    assert "the pipeline's retrain model cannot be opened (" in done.stderr
    shutil.copytree(tiny_model, "other")
    done = muse(*given)
    assert "other is no longer the retrain model that the pipeline scored; name one with" in done.stderr
    assert "no-reference" in stored("plain").columns["privleak"].flags


@pytest.mark.usefixtures("here")
def test_it_is_of_the_same_data_the_same_task_and_the_same_target() -> None:
    def found(**changes: object) -> Found | None:
        values = {"model": str(MODEL), "task": "village.yaml", "data_dir": Path("data"), **changes}
        config = RunConfig.model_validate(values)
        return find(config, plan(config), find_checkpoint(str(MODEL)).digest)

    known = Found("other", find_checkpoint("other").digest)
    assert found() == known
    # An unlearned model that was not scored: its target was.
    shutil.rmtree(RUN)
    assert found() == known
    other = write_data(Path("changed"))
    (other / "privleak" / "forget.json").write_text('["another text", "and one more", "and a third"]')
    assert found(data_dir=other) is None
    write_task(Path("town.yaml"), name="town")
    assert found(task="town.yaml") is None
    # A target that someone scored against some model is no pipeline's.
    target = Path("results/runs/village/target/result.json")
    renamed = target.read_text(encoding="utf-8").replace('"name": "target"', '"name": "mine"')
    target.write_text(renamed, encoding="utf-8")
    target.parent.rename(target.parent.with_name("mine"))
    assert find_run(Path("results"), "mine")
    assert found() is None
    # Nothing but its place speaks for a model beside the target.
    card = json.loads((MODEL / "unlearn.json").read_text(encoding="utf-8"))
    beside = Path(card["config"]["model"]).with_name("retrain")
    shutil.copytree("other", beside)
    try:
        assert found() == Found(str(beside), None, certain=False)
        done = muse(*scored("--name", "plain", "--metrics", "privleak"))
        assert f"{beside}, beside the target, may be the model to give" in done.stderr
        assert "no-reference" in stored("plain").columns["privleak"].flags
    finally:
        shutil.rmtree(beside)


def test_the_built_in_world_s_is_known_by_the_recipe_that_made_both(tmp_path: Path, tiny_model: Path) -> None:
    home = tmp_path / "results" / "models" / "muse_mini" / "0123"
    for stage in ("target", "retrain"):
        shutil.copytree(tiny_model, home / stage)
        recipe = {"fingerprint": "f", "task": "muse_mini", "stage": stage}
        (home / stage / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    digest = find_checkpoint(str(tiny_model)).digest
    model = tmp_path / "npo"
    shutil.copytree(tiny_model, model)
    card = {"target": {"weights": digest}, "config": {"task": "muse_mini", "model": str(home / "target")}}
    (model / "unlearn.json").write_text(json.dumps(card), encoding="utf-8")

    def found(model: Path, task: str = "muse_mini") -> Found | None:
        config = RunConfig(model=str(model), task=task, results=tmp_path / "nowhere")
        return find(config, plan(config), digest)

    certain = Found(str(home / "retrain"), None)
    assert found(model) == found(home / "target") == found(home / "retrain") == certain
    # An epoch's checkpoint was made from the same target.
    (model / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    assert found(model / "checkpoints" / "checkpoint-2") == certain
    # Made for one task, scored on another: nothing is known.
    assert found(model, "muse_mini-seed1") is None
    recipe = {"fingerprint": "another", "task": "muse_mini", "stage": "retrain"}
    (home / "retrain" / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    assert found(model) == Found(str(home / "retrain"), None, certain=False)


# ── reading examples ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("here")
def test_show_reads_a_runs_examples() -> None:
    done = muse("show", "ga", "--column", "verbmem_f,privleak", "--worst", 2)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("village/ga: ga\n\nVerbMem Df ↓ (verbmem_f) ")
    assert done.stdout.count("  prompt    ") == done.stdout.count("  truth     ") == 2
    assert done.stdout.count("  text      ") == 2
    assert f"evidence: {RUN}/result.json and records.jsonl" in done.stdout
    whole = json.loads(muse("show", RUN, "--example", 1, "--json").stdout)
    assert list(whole["columns"]) == ["verbmem_f", "knowmem_f", "privleak", "knowmem_r"]
    found = whole["columns"]["privleak"]["examples"]
    assert found == [one for one in load_records(RUN) if one["column"] == "privleak" and one["id"] == 1]
    for wrong, told in (
        (["gaa"], "no run 'gaa'; did you mean"),
        (["ga", "--column", "verbmem"], "no column 'verbmem'; did you mean 'verbmem_f'"),
        (["ga", "--example", 99], "has no example 99; they are 0 to 2"),
    ):
        refused = muse("show", *wrong)
        assert refused.exit_code == 2
        assert told in refused.stderr
