"""Every verb of the command line, on a tiny model and a small folder of data."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from muse_eval import __version__, evaluate
from muse_eval.cli.app import app
from muse_eval.errors import UserError
from muse_eval.results.runs import save
from muse_eval.types import Result, Score
from tests.e2e import COLUMNS, SCRIPT, files, muse, other_model, process, write_data, write_task

PUBLISHED = Path(__file__).parents[2] / "results" / "project" / "published.csv"
VERBS = [
    ("run",),
    ("unlearn",),
    ("finetune",),
    ("sweep",),
    ("tune",),
    ("pipeline",),
    ("probe",),
    ("show",),
    ("leaderboard",),
    ("check",),
    ("compare",),
    ("report",),
    ("list",),
    ("data", "init"),
    ("data", "show"),
    ("data", "verify"),
    ("data", "export"),
    ("cache", "info"),
    ("cache", "clear"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the small task's YAML (``village.yaml``) and data (``data``)."""
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path / "village.yaml")
    write_data(tmp_path / "data")
    return tmp_path


@pytest.fixture
def scored(here: Path, tiny_model: Path) -> Path:
    """Two runs in ``results`` under a built-in task's name, so that check knows which way is better."""
    write_task(here / "books.yaml", name="muse_books")
    other = other_model(tiny_model, here / "other")
    for name, model in (("one", tiny_model), ("two", other)):
        args = ["run", "--model", model, "--task", "books.yaml", "--data-dir", "data", "--name", name, "-q"]
        assert muse(*args).exit_code == 0
    return here


def result_of(task: str, name: str) -> dict[str, Any]:
    text = Path("results", "runs", task, name, "result.json").read_text(encoding="utf-8")
    stored: dict[str, Any] = json.loads(text)
    return stored


# ── run ──────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("here")
def test_run_prints_the_table_and_leaves_evidence(tiny_model: Path) -> None:
    done = muse("run", "--model", tiny_model, "--task", "village.yaml", "--data-dir", "data")

    asked = "  to answer: VerbMem Df 6, KnowMem Df 3, PrivLeak 6, KnowMem Dr 3; on cpu\n"
    assert (done.exit_code, done.stderr) == (0, asked)
    assert re.search(r"^engine: hf \(.+\)$", done.stdout, re.MULTILINE)
    for title in ("model", "VerbMem Df ↓", "KnowMem Df ↓", "PrivLeak → 0", "KnowMem Dr ↑", "tiny"):
        assert title in done.stdout
    assert "evidence: results/runs/village/tiny/result.json" in done.stdout
    stored = result_of("village", "tiny")
    assert list(stored["columns"]) == list(COLUMNS)
    assert stored["model"]["id"] == "tiny"
    records = Path("results/runs/village/tiny/records.jsonl").read_text(encoding="utf-8").splitlines()
    # One record an example: VerbMem 3, KnowMem 3 + 3, PrivLeak forget 3 + holdout 3.
    assert len(records) == 15
    assert {json.loads(line)["split"] for line in records} == {
        "verbmem/forget",
        "knowmem/forget_qa",
        "knowmem/retain_qa",
        "privleak/forget",
        "privleak/holdout",
    }


@pytest.mark.usefixtures("here")
def test_run_does_as_its_options_say(tiny_model: Path) -> None:
    options = ["--json", "--quiet", "--metrics", "privleak,verbmem_f", "--name", "short", "--limit", 2]
    more = ["--set", "privleak.retain=true", "--set", "verbmem_f.max_tokens=4", "--set", "engine.device=cpu"]
    done = muse("run", "--model", tiny_model, "--task", "village.yaml", "--data-dir", "data", *options, *more)

    assert (done.exit_code, done.stderr) == (0, "")
    stored = json.loads(done.stdout)
    assert stored == result_of("village", "short")
    assert list(stored["columns"]) == ["verbmem_f", "privleak"]
    assert stored["columns"]["verbmem_f"]["n"] == 2
    assert all("limited" in column["flags"] for column in stored["columns"].values())
    assert stored["config"]["columns"]["verbmem_f"]["max_tokens"] == 4
    assert stored["config"]["columns"]["privleak"]["retain"] is True
    assert "forget_retain_Min-40%" in stored["extras"]["auc"]
    # KnowMem was not asked for, so its splits were not even read.
    assert set(stored["config"]["data"]["sha256"]) == {
        "verbmem/forget",
        "privleak/forget",
        "privleak/holdout",
        "privleak/retain",
    }


@pytest.mark.usefixtures("here")
def test_the_same_run_again_gives_the_same_bytes_from_the_cache(tiny_model: Path) -> None:
    args = ["run", "--model", tiny_model, "--task", "village.yaml", "--data-dir", "data", "--json"]
    first = muse(*args)
    cached = {path: path.read_bytes() for path in Path("results/cache").rglob("*.jsonl")}

    assert muse(*args).stdout == first.stdout
    assert cached == {path: path.read_bytes() for path in Path("results/cache").rglob("*.jsonl")}


@pytest.mark.usefixtures("here")
def test_no_cache_leaves_only_the_result(tiny_model: Path) -> None:
    done = muse("run", "--model", tiny_model, "--task", "village.yaml", "--data-dir", "data", "--no-cache")
    assert done.exit_code == 0
    assert files(Path("results")) == ["runs/village/tiny/records.jsonl", "runs/village/tiny/result.json"]


def test_retrain_is_what_privleak_is_relative_to(here: Path, tiny_model: Path) -> None:
    other = other_model(tiny_model, here / "other")
    args = ["run", "--task", "village.yaml", "--data-dir", "data", "--metrics", "privleak"]
    args += ["--retrain", str(other)]
    assert muse(*args, "--model", other, "--name", "self").exit_code == 0
    assert muse(*args, "--model", tiny_model).exit_code == 0

    assert result_of("village", "self")["columns"]["privleak"]["value"] == 0
    stored = result_of("village", "tiny")
    assert stored["provenance"]["retrain"]["model"] == "other"
    assert "reference-published" not in stored["columns"]["privleak"]["flags"]


# ── unlearn, and its output scored ───────────────────────────────────────────────────────────────
def test_unlearn_then_run_reads_the_task_off_unlearn_json(here: Path, tiny_model: Path) -> None:
    # Only a built-in task can be found by the name in the recipe.
    write_task(here / "mini.yaml", name="muse_mini", data={"source": "builtin"})
    args = ["--model", tiny_model, "--task", "mini.yaml", "--data-dir", "data", "--out", "unlearned"]
    done = muse("unlearn", "--method", "npo_gdr", *args, "--beta", 0.2, "--lambda", 0.5, "--lr", 1e-3, "-q")

    assert done.exit_code == 0, done.output
    assert done.stdout == "unlearned model: unlearned (its recipe: unlearned/unlearn.json)\n"
    recipe = json.loads(Path("unlearned/unlearn.json").read_text(encoding="utf-8"))
    assert recipe["method"]["params"]["beta"] == 0.2
    assert recipe["config"]["lambda"] == 0.5
    assert recipe["config"]["task"] == "muse_mini"

    shots = ["--set", "knowmem_f.shots=2", "--set", "knowmem_r.shots=2"]
    done = muse("run", "--model", "unlearned", "--data-dir", "data", *shots)
    assert done.exit_code == 0, done.output
    stored = result_of("muse_mini", "unlearned")
    assert stored["task"] == "muse_mini"
    assert stored["columns"]["knowmem_f"]["n"] == 3


@pytest.mark.usefixtures("here")
def test_a_method_without_retain_term_needs_no_retain_split(tiny_model: Path) -> None:
    Path("data/raw/retain1.json").unlink()
    args = ["unlearn", "--model", tiny_model, "--task", "village.yaml", "--data-dir", "data", "-q"]
    done = muse(*args, "--method", "ga", "--out", "alone")
    assert done.exit_code == 0, done.output

    done = muse(*args, "--method", "ga_gdr", "--out", "with")
    assert done.exit_code == 2
    assert "raw/retain1.json does not exist" in done.stderr


# ── from Python ──────────────────────────────────────────────────────────────────────────────────
def test_a_tokenizer_is_a_path_beside_a_model_by_name(here: Path, tiny_model: Path) -> None:
    bare = here / "bare"
    shutil.copytree(tiny_model, bare, ignore=shutil.ignore_patterns("tokenizer*"))
    options: dict[str, Any] = {"data_dir": here / "data", "metrics": ["verbmem_f"]}
    by_path = evaluate(bare, "village.yaml", tokenizer=tiny_model, **options)
    by_text = evaluate(str(bare), "village.yaml", tokenizer=str(tiny_model), name="text", **options)
    assert by_path.columns["verbmem_f"] == by_text.columns["verbmem_f"]


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.usefixtures("here")
def test_a_loaded_model_takes_no_tokenizer_by_name(tiny_model: Path, kind: type) -> None:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tiny_model)
    with pytest.raises(UserError, match=r"needs a loaded tokenizer beside it, not the name '.*tiny'"):
        evaluate(model, "village.yaml", tokenizer=kind(tiny_model), data_dir="data")


# ── pipeline ─────────────────────────────────────────────────────────────────────────────────────
def test_pipeline_makes_scores_and_does_nothing_twice(here: Path, tiny_model: Path) -> None:
    other = other_model(tiny_model, here / "other")
    options = ["--target", tiny_model, "--retrain", other, "--data-dir", "data", "--epochs", 1, "--lr", 1e-4]
    args = ["pipeline", "--task", "village.yaml", "--methods", "ga, simnpo_gdr", *options]
    done = muse(*args)

    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert [line.split()[1] for line in lines] == ["target", "retrain", "ga", "simnpo_gdr"]
    assert sorted(path.name for path in Path("results/models/village").iterdir()) == ["ga", "simnpo_gdr"]
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*") if path.is_file()}

    again = muse(*args)
    assert again.stdout == done.stdout
    assert before == {p: p.stat().st_mtime_ns for p in Path("results").rglob("*") if p.is_file()}


def test_a_seed_given_twice_is_one_seed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def scored_at_once(task: str, **_: object) -> list[Path]:
        asked.append(task)
        folder = here / "results" / "runs" / task / "ga"
        save(Result(task, "ga", {}, {"verbmem_f": Score(1.0, None, 3)}, {}, {}, {}, 1.0), folder)
        return [folder]

    monkeypatch.setattr("muse_eval.api.pipeline", scored_at_once)
    done = muse("pipeline", "--task", "muse_mini", "--seeds", "2,0,1,01,2", "-q")
    assert done.exit_code == 0, done.output
    assert asked == ["muse_mini-seed2", "muse_mini", "muse_mini-seed1"]
    assert "over 3 seeds" in done.stdout

    assert "over" not in muse("pipeline", "--task", "muse_mini", "--seeds", "1,1", "-q").stdout


# ── leaderboard ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("scored")
def test_leaderboard_is_the_same_bytes_each_time() -> None:
    board = Path("results/leaderboard.csv")
    done = muse("leaderboard", "--published", PUBLISHED)
    assert (done.exit_code, done.stdout) == (0, "results/leaderboard.csv: 2 runs\n")
    first = board.read_bytes()
    assert muse("leaderboard", "--published", PUBLISHED).exit_code == 0
    assert board.read_bytes() == first

    printed = muse("leaderboard", "--published", PUBLISHED, "--out", "-")
    assert printed.stdout.encode() == first
    names = [line["name"] for line in csv.DictReader(io.StringIO(printed.stdout)) if line["name"]]
    assert {"one", "two"} <= set(names)


@pytest.mark.usefixtures("scored")
def test_leaderboard_in_markdown() -> None:
    done = muse("leaderboard", "--format", "md", "--out", "board.md")
    assert done.exit_code == 0
    text = Path("board.md").read_text(encoding="utf-8")
    assert "| model | VerbMem Df ↓ | KnowMem Df ↓ | PrivLeak → 0 | KnowMem Dr ↑ |" in text
    assert text.index("| one |") < text.index("| two |")
    assert muse("leaderboard", "--format", "md", "--out", "-").stdout == text
    assert "SimNPO" in muse("leaderboard", "--format", "md", "--out", "-", "--published", PUBLISHED).stdout


@pytest.mark.usefixtures("scored")
def test_leaderboard_says_what_it_replaces() -> None:
    board, text = Path("results/leaderboard.csv"), PUBLISHED.with_name("leaderboard.csv").read_text()
    board.write_text(text)
    done = muse("leaderboard")
    runs = len(text.splitlines()) - 1
    told = f"replaced: {runs} runs before, 2 now; gone: runs muse_mini/target, muse_mini/retrain, "
    assert done.stdout.splitlines()[0] == "results/leaderboard.csv: 2 runs"
    assert done.stdout.splitlines()[1].startswith(told)
    assert done.stdout.splitlines()[1].endswith(f" and {runs - 5} more")
    assert muse("leaderboard").stdout == "results/leaderboard.csv: 2 runs\n"

    markdown = ["leaderboard", "--format", "md", "--published", PUBLISHED]
    assert muse(*markdown).stdout == "results/leaderboard.md: 2 runs\n"
    shutil.rmtree("results/runs/muse_books/one")
    told = "replaced: 2 runs before, 1 now; gone: run MUSE-Books/one"
    assert muse(*markdown).stdout.splitlines()[1] == told
    Path("notes.md").write_text("one\ntwo\n")
    done = muse("leaderboard", "--format", "md", "--out", "notes.md")
    assert done.stdout.splitlines()[1] == "replaced a file of 2 lines that was no leaderboard"


@pytest.mark.usefixtures("scored")
def test_the_projects_own_files_are_read_where_there_are_none_of_ones_own() -> None:
    """And never written: what is typed as before finds them, what is made lies beside them."""
    own = Path("results/project")
    shutil.copytree(PUBLISHED.parent, own)
    before = {path: path.read_bytes() for path in own.iterdir()}
    done = muse("leaderboard", "--out", "-", "--published", "results/published.csv")
    assert done.exit_code == 0
    assert done.stdout == muse("leaderboard", "--out", "-", "--published", PUBLISHED).stdout
    assert "reading the project's own, results/project/published.csv" in done.stderr
    done = muse("check")
    assert done.exit_code == 2
    assert "muse_mini: 28 of 28 not there (runs " in done.stdout
    assert "reading the project's own, results/project/baseline.json" in done.stderr
    done = muse("check", "--update")
    assert done.stdout.splitlines()[-1] == "results/baseline.json: 2 runs"
    assert "not the project's own" in done.stderr
    assert muse("check", "--baseline", "results/baseline.json").exit_code == 0
    assert muse("leaderboard").exit_code == 0
    assert before == {path: path.read_bytes() for path in own.iterdir()}


# ── check ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("scored")
def test_check_is_0_when_fine_1_on_a_regression_and_2_when_it_cannot_tell() -> None:
    done = muse("check", "--update")
    assert done.exit_code == 0
    *taken, last = done.stdout.splitlines()
    assert last == "results/baseline.json: 2 runs"
    assert len(taken) == 6
    assert taken[0].startswith("muse_books/one verbmem_f ")
    assert all(line.endswith(" (new)") for line in taken)
    done = muse("check")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("fine: ")

    path = Path("results/baseline.json")
    baseline = json.loads(path.read_text(encoding="utf-8"))
    expected = baseline["runs"]["muse_books/one"]["knowmem_r"]
    expected["value"] += 5 + expected["tolerance"]
    path.write_text(json.dumps(baseline), encoding="utf-8")
    done = muse("check", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["exit_code"] == 1
    assert [row["column"] for row in report["rows"] if row["verdict"] == "worse"] == ["knowmem_r"]

    # The measured value is taken over, the tolerance is kept.
    done = muse("check", "--update")
    assert done.exit_code == 0
    changed, _ = done.stdout.splitlines()
    assert changed.startswith("muse_books/one knowmem_r ")
    assert muse("check").exit_code == 0

    baseline = json.loads(path.read_text(encoding="utf-8"))
    baseline["runs"]["muse_books/gone"] = baseline["runs"]["muse_books/one"]
    path.write_text(json.dumps(baseline), encoding="utf-8")
    done = muse("check")
    assert done.exit_code == 0
    assert "muse_books: 1 of 3 not there (run gone): not compared" in done.stdout.splitlines()
    for strict in (["--all"], ["--only", "muse_books/gone,muse_books/one"]):
        done = muse("check", *strict)
        assert done.exit_code == 2
        assert "not there (run gone): cannot tell" in done.stdout
        assert done.stdout.splitlines()[-1].startswith("cannot tell: ")
    rows = json.loads(muse("check", "--all", "--json").stdout)["rows"]
    assert {row["why"] for row in rows if row["verdict"] == "missing"} == {"no such run"}

    # The run that is left out is known, and not told of as if it were not.
    done = muse("check", "--only", "muse_books/one")
    assert done.exit_code == 0
    assert {line.split()[0] for line in done.stdout.splitlines()[:-1]} == {"muse_books/one"}
    assert "not in the baseline" not in done.stdout


# ── list, data, cache ────────────────────────────────────────────────────────────────────────────
LISTS = ("tasks", "methods", "presets", "metrics", "probes", "engines", "models", "launch")


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("tasks", {"muse_books", "muse_mini", "muse_news"}),
        ("methods", {"ga", "npo_gdr", "simnpo", "simnpo_klr"}),
        ("metrics", {"knowmem", "privleak", "verbmem"}),
        ("engines", {"hf", "vllm", "server"}),
        ("launch", {"ddp", "fsdp"}),
        ("models", {"muse_books", "muse_news"}),
    ],
)
def test_list_shows_all_of_a_kind(what: str, names: set[str]) -> None:
    plain, machine = muse("list", what), muse("list", what, "--json")
    assert plain.exit_code == machine.exit_code == 0
    lines = json.loads(machine.stdout)
    assert names <= {next(iter(line.values())) for line in lines}
    heads = [line for line in plain.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in heads] == [next(iter(x.values())) for x in lines]


@pytest.mark.parametrize("what", LISTS)
def test_lists_fit_80_columns_and_leave_out_no_word(what: str) -> None:
    plain, lines = muse("list", what).stdout, json.loads(muse("list", what, "--json").stdout)
    # A path cannot be cut in two.
    assert [line for line in plain.splitlines() if len(line) > 80 and len(line.split()) > 1] == []
    labels = {f"{key}:" for key in lines[0]}
    words = [word for word in plain.split() if word not in labels]
    assert sorted(words) == sorted(word for line in lines for cell in line.values() for word in cell.split())


def test_every_list_is_held_to_80_columns() -> None:
    told = muse("list", "nothing").stderr
    assert told.strip().endswith(f"lists: {', '.join(sorted(LISTS))}")


def test_list_shows_one_of_a_kind_and_the_path_alone_of_launch_settings() -> None:
    (line,) = json.loads(muse("list", "tasks", "muse_mini", "--json").stdout)
    assert line["name"] == "muse_mini"
    path = muse("list", "launch", "fsdp").stdout.strip()
    settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    assert settings["distributed_type"] == "FSDP"
    done = muse("list", "launch", "fdsp")
    assert done.exit_code == 2
    assert "no launch setting 'fdsp'; did you mean 'fsdp'?" in done.stderr


@pytest.mark.usefixtures("here")
def test_data_exported_reads_back_equal() -> None:
    built_in = muse("data", "show", "--task", "muse_mini")
    assert built_in.exit_code == 0
    done = muse("data", "export", "--task", "muse_mini", "--out", "copy")
    assert (done.exit_code, done.stdout) == (0, f"copy: {len(built_in.stdout.splitlines())} splits\n")

    assert muse("data", "show", "--task", "muse_mini", "--data-dir", "copy").stdout == built_in.stdout
    for split in ("knowmem/forget_qa", "raw/forget"):
        args = ["data", "show", "--task", "muse_mini", "--split", split]
        rows = muse(*args).stdout
        assert rows == muse(*args, "--data-dir", "copy").stdout
        assert len(rows.splitlines()) > 50

    args = ["data", "verify", "--task", "muse_mini", "--data-dir", "copy"]
    fine = muse(*args, "--strict")
    assert (fine.exit_code, fine.stderr) == (0, "")
    *verdicts, apart = fine.stdout.splitlines()
    assert all(line.split()[1] == "ok" for line in verdicts)
    assert apart.startswith("privleak/holdout told from privleak/forget without a model: AUC 0.")
    Path("copy/verbmem/forget.json").write_text('[{"prompt": "The owl", "gt": "said"}]', encoding="utf-8")
    Path("copy/train/forget.json").unlink()
    wrong = muse(*args)
    assert wrong.exit_code == 1
    assert "verbmem/forget: differs 1 rows, 19 bytes (expected 100 rows, " in wrong.stdout
    assert "train/forget: missing" in wrong.stdout


@pytest.mark.usefixtures("here")
def test_what_is_suspicious_in_the_data_is_a_warning() -> None:
    """The village is three texts a side: few, cut short, and two of the retain texts are forget texts."""
    args = ["data", "verify", "--task", "village.yaml", "--data-dir", "data"]
    done = muse(*args)
    assert done.exit_code == 0
    assert "raw/forget: not pinned 4 rows, " in done.stdout
    assert done.stdout.splitlines()[-1].endswith("without a model: too few texts to compare")
    warnings = done.stderr.splitlines()
    assert all(line.startswith("muse-eval: warning: ") for line in warnings)
    assert (
        "muse-eval: warning: verbmem/forget: only 3 rows: under 20 an interval says little; add rows"
        in warnings
    )
    assert any("privleak/retain: the same text as the forget side in rows 0 (" in line for line in warnings)

    strict = muse(*args, "--strict")
    assert (strict.exit_code, strict.stdout, strict.stderr) == (1, done.stdout, done.stderr)

    machine = muse(*args, "--json")
    assert (machine.exit_code, machine.stderr) == (0, "")
    told = json.loads(machine.stdout)
    assert [f"{one['split']}: {one['what']}; {one['do']}" for one in told["suspicions"]] == [
        line.removeprefix("muse-eval: warning: ") for line in warnings
    ]
    assert {one["split"]: one["found"]["rows"] for one in told["splits"]}["raw/forget"] == 4
    assert [(one["column"], one["length"], one["words"]) for one in told["shifts"]] == [
        ("privleak", None, None)
    ]

    Path("data/raw/forget.json").unlink()
    gone = muse(*args)
    assert gone.exit_code == 0
    assert "raw/forget: missing" in gone.stdout.splitlines()
    assert "warning: raw/forget: is not there, named by unlearn.forget; add raw/forget.json" in gone.stderr
    Path("data/privleak/holdout.json").unlink()
    assert muse(*args).exit_code == 1
    assert muse(*args, "--json").exit_code == 1


@pytest.mark.usefixtures("here")
def test_cache_is_counted_and_cleared(tiny_model: Path) -> None:
    assert muse("cache", "info").stdout == "0 engines, 0.0 MB\n"
    args = ["run", "--model", tiny_model, "--task", "village.yaml", "--data-dir", "data", "--quiet"]
    assert muse(*args).exit_code == 0
    info = muse("cache", "info")
    # VerbMem 3 continuations + 3 truths, KnowMem 3 + 3 answers, PrivLeak 3 + 3 texts; then the cuts that tell
    # how prompts fall into tokens: 2 for EOS, 10 of KnowMem's end, 8 of answers behind it.
    assert "38 answers" in info.stdout
    assert "1 engine, " in info.stdout

    assert muse("cache", "clear").stdout.startswith("freed ")
    assert muse("cache", "info").stdout == "0 engines, 0.0 MB\n"
    assert files(Path("results")) == ["runs/village/tiny/records.jsonl", "runs/village/tiny/result.json"]


# ── help and the rest ────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_has_an_example(verb: tuple[str, ...]) -> None:
    done = muse(*verb, "--help")
    assert done.exit_code == 0
    assert "Example: " in done.stdout
    assert f"muse-eval {' '.join(verb)}" in done.stdout
    assert muse(*verb, "-h").stdout == done.stdout


def test_every_verb_has_its_help_tested() -> None:
    root: Any = get_command(app)
    listed = {(name,) for name, verb in root.commands.items() if not hasattr(verb, "commands")}
    nested = {(name, n) for name, verb in root.commands.items() for n in getattr(verb, "commands", {})}
    assert listed | nested == set(VERBS)


def test_help_promises_no_number_of_tests() -> None:
    assert "The scores of MUSE (arXiv 2407.06460)." in " ".join(muse("--help").stdout.split())


def test_version() -> None:
    assert muse("--version").stdout == f"{__version__}\n"


def test_shells_complete_verbs_and_options() -> None:
    script = process("--show-completion", "bash")
    assert script.returncode == 0
    assert "_MUSE_EVAL_COMPLETE=complete_bash" in script.stdout

    env = {**os.environ, "_MUSE_EVAL_COMPLETE": "complete_bash"}
    for words, at, wanted in (
        ("muse-eval lead", "1", "leaderboard"),
        ("muse-eval run --met", "2", "--metrics"),
    ):
        asked = {**env, "COMP_WORDS": words, "COMP_CWORD": at}
        done = subprocess.run([SCRIPT], env=asked, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == [wanted]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["rnu"], "run"),
        (["run", "--model", "m", "--limit", "two"], "--limit"),
        (["run", "--model", "m", "--nope"], "--nope"),
        (["run"], "--model"),
        (["unlearn", "--method", "ga", "--model", "m", "--task", "t"], "--out"),
        (["list"], "what"),
        (["leaderboard", "--results"], "--results"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_command_names_what_is_wrong(args: list[str], named: str) -> None:
    done = muse(*args)
    assert done.exit_code == 2
    assert named in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_answers_without_torch_loaded() -> None:
    """``list``, ``leaderboard`` and ``--help`` answer fast because they never import torch."""
    code = (
        "import sys; from typer.testing import CliRunner; from muse_eval.cli.app import app; "
        "codes = [CliRunner().invoke(app, args.split()).exit_code for args in "
        "('--help', 'run --help', 'list tasks', 'list methods', 'list engines', 'leaderboard', 'check', "
        "'data show --task muse_mini')]; "
        "print(codes, sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    python = SCRIPT.with_name("python")
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, cwd="/")
    assert done.stdout == "[0, 0, 0, 0, 0, 2, 2, 0] []\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--task", "muse_mini", "--seeds", "0,1", "--methods", "simnpo,nope"], "no method 'nope'"),
        (["--task", "muse_books", "--seeds", "0,1", "--methods", "nope"], "no method 'nope'"),
        (["--task", "muse_mini", "--set", "privleak.q=1"], "no parameter 'q'"),
        (["--task", "muse_mini", "--engine", "vlm"], "no engine 'vlm'"),
    ],
)
def test_a_pipeline_finds_mistakes_before_it_makes_a_model(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    results = tmp_path / "results"
    done = muse("pipeline", *arguments, "--results", str(results))
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    assert not results.exists()
