"""A sweep's models and names, what it refuses, and how GPUs and cores are dealt out."""

import socket
from pathlib import Path

import pytest

from muse_eval.config.run import RunConfig
from muse_eval.errors import UserError
from muse_eval.sweeps import local as sweeping
from muse_eval.sweeps.local import deal
from muse_eval.sweeps.models import model_name, read_models
from muse_eval.sweeps.sweep import check, sweep
from tests.e2e import write_data, write_task


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with folders of models (empty), the small task and its data."""
    monkeypatch.chdir(tmp_path)
    for name in ("out/a", "out/b", "more/a", "lr=1e-5", "odd.txt"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "out" / "notes.md").touch()
    write_task(tmp_path / "village.yaml")
    write_data(tmp_path / "data")
    return tmp_path


# ── which models ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("given", "models"),
    [
        (["out/a", "org/model"], {"a": "out/a", "model": "org/model"}),
        (["org/model@v1.0"], {"model": "org/model@v1.0"}),
        (["out/b/", "out/a/../../more/a"], {"b": "out/b/", "a": "out/a/../../more/a"}),
        (["out/*"], {"a": "out/a", "b": "out/b"}),
        (["**/b", "./mo?e/[a-c]"], {"b": "out/b", "a": "./more/a"}),
        (["first=out/a", "second = more/a"], {"first": "out/a", "second": "more/a"}),
        (["hub=org/model@main"], {"hub": "org/model@main"}),
        (["lr=1e-5"], {"lr=1e-5": "lr=1e-5"}),
        (["odd.txt"], {"odd.txt": "odd.txt"}),
    ],
)
def test_models_and_the_names_of_their_runs(given: list[str], models: dict[str, str]) -> None:
    found = read_models(given)
    assert list(found) == list(models)
    assert {name: Path(model) for name, model in found.items()} == {n: Path(m) for n, m in models.items()}


def test_a_list_has_comments_blank_lines_names_and_globs(here: Path) -> None:
    lines = ["# the first two", "", "out/*  # by glob", "  third = more/a"]
    (here / "models.list").write_text("\n".join(lines), encoding="utf-8")
    assert read_models(["models.list", "org/one"]) == {
        "a": "out/a",
        "b": "out/b",
        "third": "more/a",
        "one": "org/one",
    }


def test_a_list_may_lie_elsewhere_its_folders_are_relative_to_the_working_directory(here: Path) -> None:
    (here / "more" / "list.txt").write_text("out/a\n", encoding="utf-8")
    assert read_models(["more/list.txt"]) == {"a": "out/a"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["nothing/*"], "no folder matches nothing/*"),
        (["out/*.md"], "no folder matches out/*.md"),
        (["gone.txt"], "list of models gone.txt does not exist"),
        (["empty.txt"], "empty.txt names no model"),
        (["wrong.txt"], "wrong.txt:2: model folder ./gone does not exist"),
        (["binary"], "list of models binary cannot be read"),
        (["./gone"], "model folder ./gone does not exist"),
        (["name=./gone"], "model folder ./gone does not exist"),
        (["a b"], "'a b' is neither a folder nor a hub id"),
        ([""], "'' is neither a folder nor a hub id"),
        (["name="], "write it as NAME=MODEL"),
        (["=out/a"], "write it as NAME=MODEL"),
        (["out/a", "./out/a"], "the model ./out/a is given twice"),
        (["x=out/a", "out/*"], "the model out/a is given twice"),
        (["org/m", "n=org/m"], "the model org/m is given twice"),
        (["*/a"], "more/a and out/a would both be called 'a'; write NAME=MODEL"),
        (["org/m@v1", "org/m@v2"], "org/m@v1 and org/m@v2 would both be called 'm'; write NAME=MODEL"),
    ],
)
def test_what_names_no_models_is_refused(here: Path, given: list[str], told: str) -> None:
    (here / "empty.txt").write_text("# nothing yet\n\n", encoding="utf-8")
    (here / "wrong.txt").write_text("out/a\n./gone\n", encoding="utf-8")
    (here / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError) as caught:
        read_models(given)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_called_as_a_run_calls_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "latest").symlink_to("out/b")
    assert model_name("latest") == "b"
    monkeypatch.chdir(here / "out" / "a")
    assert model_name(".") == "a"


# ── what is checked first ────────────────────────────────────────────────────────────────────────
def config(model: str, **changes: object) -> RunConfig:
    values = {"task": "village.yaml", "data_dir": "data", **changes}
    return RunConfig.model_validate({"model": model, **values})


@pytest.mark.usefixtures("here")
def test_each_job_has_name_and_folder() -> None:
    jobs = check([config("out/a"), config("more/a", name="other")])
    assert [(job.name, job.config.name, str(job.folder)) for job in jobs] == [
        ("a", "a", "results/runs/village/a"),
        ("other", "other", "results/runs/village/other"),
    ]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("configs", "told"),
    [
        ([], "a sweep needs a model"),
        ([config("out/a"), config("more/a")], "out/a and more/a would both be called 'a'"),
        ([config("out/a", engine="server")], "engine server answers for one model"),
        ([config("out/a", base_url="http://localhost")], "engine server answers for one model"),
        ([config("out/a"), config("./gone")], "model folder ./gone does not exist"),
        ([config("out/a", retrain="./gone")], "model folder ./gone does not exist"),
        ([config("out/a", name="a/b")], "cannot name a folder"),
        ([config("out/a", task=None)], "cannot tell the task of out/a"),
        ([config("out/a"), config("out/b", settings={"privleak.q": 1})], "no parameter 'q'"),
        ([config("out/a"), config("out/b", data_dir="gone")], "gone"),
        ([config("out/a", results="village.yaml/results")], "cannot write results"),
    ],
)
def test_what_cannot_be_swept_is_refused(configs: list[RunConfig], told: str) -> None:
    with pytest.raises(UserError) as caught:
        sweep(configs)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("results").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"jobs": 0}, "--jobs must be 1 or more"),
        ({"gpus_per_model": -1}, "--gpus-per-model 0 or more"),
        ({"on": "cloud"}, "no place 'cloud'"),
    ],
)
def test_options_out_of_bounds_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        sweep([config("out/a")], **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("here")
def test_a_missing_ray_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install '\.\[ray\]'"):
        sweep([config("out/a")], on="ray")


@pytest.mark.usefixtures("here")
def test_a_cluster_that_does_not_answer_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        # Bound, but nobody listens.
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
        with pytest.raises(UserError, match=f"no Ray cluster answers at RAY_ADDRESS={address} "):
            sweep([config("out/a")], on="ray")


# ── GPUs and cores ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("gpus", "jobs", "each", "dealt"),
    [
        ([], 3, None, [None] * 3),
        (["0", "1", "2"], 2, None, ["0", "1"]),
        (["0", "1"], 2, 0, [None, None]),
        (["4", "5", "6", "7"], 2, 2, ["4,5", "6,7"]),
        (["GPU-1a", "GPU-2b"], 1, 2, ["GPU-1a,GPU-2b"]),
    ],
)
def test_each_job_has_gpus_of_its_own(
    gpus: list[str], jobs: int, each: int | None, dealt: list[str | None]
) -> None:
    assert deal(gpus, jobs, each) == dealt


@pytest.mark.parametrize(("gpus", "jobs", "each"), [(["0"], 2, None), (["0", "1", "2"], 2, 2), ([], 1, 1)])
def test_too_few_gpus_are_refused(gpus: list[str], jobs: int, each: int | None) -> None:
    with pytest.raises(UserError, match=f"needs {jobs * (each or 1)} GPUs, and {len(gpus)} can be seen"):
        deal(gpus, jobs, each)


@pytest.mark.parametrize(
    ("variable", "count", "seen"),
    [
        (None, 2, ["0", "1"]),
        ("3,5", 2, ["3", "5"]),
        ("GPU-1a, GPU-2b", 2, ["GPU-1a", "GPU-2b"]),
        ("0", 0, []),
    ],
)
def test_gpus_are_those_that_this_process_may_use(
    variable: str | None, count: int, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert sweeping.visible_gpus() == seen


def test_jobs_share_the_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "visible_gpus", list)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert sweeping._environments(1, None) == [{}]
    assert sweeping._environments(3, None) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert sweeping._environments(9, None) == [{"OMP_NUM_THREADS": "1"}] * 9
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert sweeping._environments(3, None) == [{}] * 3


def test_one_job_sees_what_this_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "visible_gpus", lambda: ["0", "1"])
    assert sweeping._environments(1, None) == [{}]
    assert sweeping._environments(1, 1) == [{"CUDA_VISIBLE_DEVICES": "0"}]
