"""A sweep in real processes: what fails, is killed or is stopped, and what the same command then does."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from muse_eval.config.run import RunConfig
from muse_eval.sweeps import local as sweeping
from muse_eval.sweeps.sweep import sweep
from muse_eval.sweeps.worker import LOG
from tests.e2e import SCRIPT, files, muse, other_model, process, write_data, write_task

OPTIONS = ("--task", "village.yaml", "--data-dir", "data")
SHORT = (*OPTIONS, "--metrics", "verbmem_f")
RUNS = Path("results/runs/village")


@pytest.fixture
def here(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the small task, its data, and the models ``out/one`` and ``out/two``."""
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path / "village.yaml")
    write_data(tmp_path / "data")
    shutil.copytree(tiny_model, tmp_path / "out" / "one")
    other_model(tiny_model, tmp_path / "out" / "two")
    return tmp_path


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of code that every worker process runs before all else; no other process does."""
    folder = tmp_path / "site"
    folder.mkdir()
    guard = (
        "import os, signal, sys\n"
        "if 'muse_eval.sweeps.worker' in sys.orig_argv:\n    exec(open({!r}).read())\n"
    )
    code = folder / "first.txt"
    (folder / "sitecustomize.py").write_text(guard.format(str(code)), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return code


def stored(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RUNS / name / "result.json").read_text(encoding="utf-8"))
    return result


def state(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Return times and bytes of all files below a folder."""
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


# ── some fail ────────────────────────────────────────────────────────────────────────────────────
def test_a_failed_model_leaves_the_others_alone_and_is_all_that_is_done_again(here: Path) -> None:
    bad = (here / "out" / "one").rename(here / "out" / "bad")
    (bad / "model.safetensors").write_bytes(b"")
    first = muse("sweep", "out/*", *SHORT)

    assert first.exit_code == 1, first.output
    rows = [line.split()[1] for line in first.stdout.splitlines() if line.startswith("│")]
    assert rows == ["two"]
    assert "evidence: results/runs/village/NAME/result.json and records.jsonl" in first.stdout
    failed = [line for line in first.stderr.splitlines() if line.startswith("muse-eval: ")]
    assert failed[-2].startswith("muse-eval: failed: bad: out/bad/model.safetensors is truncated or corrupt")
    assert failed[-1] == "muse-eval: 1 of 2 models failed; the same command does only what is missing"
    assert [path.name for path in RUNS.iterdir()] == ["two"]

    before = state(here / "results")
    shutil.copy(here / "out" / "two" / "model.safetensors", bad)
    again = muse("sweep", "out/*", *SHORT, "--json", "--quiet")

    assert (again.exit_code, again.stderr) == (0, "")
    done = {name: str(RUNS / name) for name in ("bad", "two")}
    assert json.loads(again.stdout) == {"done": done, "failed": {}}
    after = state(here / "results")
    # What was there is untouched, and nothing was asked but for the mended model, whose weights are two's.
    assert {path: after[path] for path in before} == before
    assert {path.parent for path in after.keys() - before.keys()} == {here / "results/runs/village/bad"}
    assert stored("bad")["columns"] == stored("two")["columns"]


def test_two_at_a_time_score_as_one_alone(here: Path) -> None:
    done = muse("sweep", "first=out/one", "out/two", *OPTIONS, "--jobs", 2, "--retrain", "out/two")
    assert done.exit_code == 0, done.output
    for name, model in (("first", "out/one"), ("two", "out/two")):
        args = ["run", "--model", model, "--name", name, "--retrain", "out/two", "--results", "alone", "-q"]
        assert muse(*args, *OPTIONS).exit_code == 0
        alone = json.loads((here / "alone/runs/village" / name / "result.json").read_text(encoding="utf-8"))
        swept = stored(name)
        assert json.dumps(swept["columns"]) == json.dumps(alone["columns"])
        assert {k: swept[k] for k in swept if k != "seconds"} == {
            k: alone[k] for k in alone if k != "seconds"
        }


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("os.write(2, b'first\\nthe last words\\n\\n'); os._exit(3)", "exit code 3: the last words"),
        ("os.write(2, b'too much'); os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV: too much"),
        # One that leaves a child behind which holds its pipes.
        ("os.fork() or signal.pause(); os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.fork() and os.abort(); signal.pause()", "SIGABRT"),
        ("sys.stdin.close(); os._exit(0)", "exit code 0"),
    ],
)
def test_a_crash_is_reported_with_its_last_words_and_its_log(stand_in: Path, code: str, told: str) -> None:
    stand_in.write_text(code, encoding="utf-8")
    done = muse("sweep", "out/one", *SHORT, "--json")

    assert done.exit_code == 1
    failed = json.loads(done.stdout)["failed"]
    log = RUNS / "one" / LOG
    assert failed["one"].startswith("its process ended with ")
    assert told in failed["one"]
    assert failed["one"].endswith(f"; log: {log}")
    assert log.exists()


@pytest.mark.usefixtures("here")
def test_what_a_library_prints_is_no_answer_and_a_warning_is_passed_on(stand_in: Path) -> None:
    at_the_end = "threading.main_thread().join(), print('bye')"
    code = f"import threading; print('hello\\n1'); threading.Thread(target=lambda: ({at_the_end})).start()"
    stand_in.write_text(code, encoding="utf-8")
    RUNS.joinpath("one").mkdir(parents=True)
    RUNS.joinpath("one", "result.json").write_text("{}", encoding="utf-8")
    done = muse("sweep", "out/one", *SHORT, "--quiet")
    assert done.exit_code == 0
    assert done.stderr.startswith("muse-eval: warning: one: results/runs/village/one/result.json: its schema")
    assert len(done.stderr.splitlines()) == 1


def test_each_process_has_a_share_of_the_gpus(
    here: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "visible_gpus", lambda: ["3", "5", "6", "7"])
    stand_in.write_text("os.write(2, os.environ['CUDA_VISIBLE_DEVICES'].encode()); os._exit(1)")
    made = {"task": "village.yaml", "data_dir": here / "data"}
    configs = [RunConfig(model="out/one", name=f"run{i}", **made) for i in range(4)]  # type: ignore[arg-type]
    outcomes = sweep(configs, jobs=2, gpus_per_model=2)
    assert [outcome.name for outcome in outcomes] == ["run0", "run1", "run2", "run3"]
    shares = [outcome.reason.split("; log")[0].split(": ")[1] for outcome in outcomes]
    assert set(shares) == {"3,5", "6,7"}


# ── killed or stopped on the way ─────────────────────────────────────────────────────────────────
SLOW = ("--set", "engine.batch_tokens=1", "--engine", "hf")
"""One example a batch, a line of the cache each."""
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
"""What stops a command in good order, and its exit code then."""


@contextmanager
def under_way(here: Path) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """Sweep a hundred prompts, one after the other; yield sweep and worker when answers begin to come."""
    rows = [{"prompt": f"{number}: the owl said nothing to Ada", "gt": "x"} for number in range(100)]
    (here / "data/verbmem/forget.json").write_text(json.dumps(rows), encoding="utf-8")
    running = subprocess.Popen(
        [str(SCRIPT), "sweep", "out/*", *SHORT, *SLOW, "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background of a shell inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    try:
        deadline = time.monotonic() + 120
        while (
            len(answers(here / "results/cache")) < 5
            and running.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        (worker,) = psutil.Process(running.pid).children()
        assert "muse_eval.sweeps.worker" in worker.cmdline()
        yield running, worker
    finally:
        running.kill()
        running.communicate()


def answers(cache: Path) -> list[bytes]:
    """List the finished batches in a store."""
    whole = [path.read_bytes().split(b"\n")[:-1] for path in cache.rglob("*.jsonl")]
    return [line for lines in whole for line in lines]


def gone(worker: psutil.Process) -> bool:
    """Wait for the end of a process; where nobody waits for it, it stays behind as a zombie."""
    deadline = time.monotonic() + 60
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.02)
    return not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_killed_model_is_reported_and_goes_on_where_it_was(here: Path) -> None:
    with under_way(here) as (running, worker):
        worker.kill()
        out, err = running.communicate(timeout=120)
    assert running.returncode == 1
    assert [line.split()[1] for line in out.splitlines() if line.startswith("│")] == ["two"]
    reason = "its process ended with SIGKILL (as the system does when memory runs out)"
    assert err.splitlines() == [
        f"muse-eval: failed: one: {reason}; log: results/runs/village/one/worker.log",
        "muse-eval: 1 of 2 models failed; the same command does only what is missing",
    ]
    before = state(RUNS / "two")
    done = muse("sweep", "out/*", *SHORT, *SLOW, "--quiet")
    assert (done.exit_code, done.stderr) == (0, "")
    assert state(RUNS / "two") == before
    assert files(RUNS / "one") == ["records.jsonl", "result.json"]
    # 103 answers a model (a hundred continuations, one truth, two cuts that look for EOS), each asked once.
    for engine in (here / "results/cache").iterdir():
        lines = [line.partition(b" ")[2] for line in answers(engine)]
        keys = [key for line in lines for key in json.loads(line)["answers"]]
        assert len(keys) == len(set(keys)) == 103


@pytest.mark.parametrize(("sent", "code"), SIGNALS)
def test_a_signal_ends_the_processes_and_the_same_command_goes_on(
    here: Path, sent: signal.Signals, code: int
) -> None:
    with under_way(here) as (running, worker):
        running.send_signal(sent)
        out, err = running.communicate(timeout=60)
        assert gone(worker)
    assert (running.returncode, out) == (code, "")
    assert err == "muse-eval: stopped; the same command goes on from here\n"
    assert not (RUNS / "two").exists()
    assert 5 <= len(answers(here / "results/cache")) < 101


def test_a_killed_sweep_leaves_no_process_behind(here: Path) -> None:
    with under_way(here) as (running, worker):
        running.kill()
        assert gone(worker)


# ── what is refused before anything runs ─────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["nothing/*"], "no folder matches nothing/*"),
        (["gone.txt"], "list of models gone.txt does not exist"),
        (["empty.txt"], "empty.txt names no model"),
        (["out/one", "out/one"], "is given twice"),
        (["out/one", "./gone"], "model folder ./gone does not exist"),
        (["out/one", "one=out/two"], "would both be called 'one'; write NAME=MODEL"),
        (["out/one", "--engine", "server"], "engine server answers for one model"),
        (["out/one", "--engine", "vlm"], "no engine 'vlm'"),
        (["out/one", "--retrain", "./gone"], "model folder ./gone does not exist"),
        (["out/one", "--jobs", "0"], "--jobs must be 1 or more"),
        (["out/one", "--on", "rya"], "did you mean 'ray'"),
        (["out/one", "--metrics", "nope"], "no column 'nope'"),
        (["out/one", "--limit", "0"], "sweep: limit"),
        (["out/one", "--results", "village.yaml"], "cannot write results to village.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_nothing_runs(here: Path, args: list[str], told: str) -> None:
    (here / "empty.txt").write_text("# none\n", encoding="utf-8")
    done = muse("sweep", *args, *OPTIONS)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("muse-eval: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr
    assert not (here / "results").exists()


def test_help_has_an_example_and_no_model_is_no_sweep() -> None:
    assert "Example: muse-eval sweep " in " ".join(muse("sweep", "--help").stdout.split())
    assert muse("sweep").exit_code == 2


def test_without_a_task_each_model_says_its_own(here: Path) -> None:
    write_task(here / "mini.yaml", name="muse_mini", data={"source": "builtin"})
    args = ["--task", "mini.yaml", "--data-dir", "data", "--method", "ga", "--out", "out/ga", "-q"]
    assert muse("unlearn", "--model", "out/one", *args).exit_code == 0
    done = muse("sweep", "out/ga", "--data-dir", "data", "--metrics", "verbmem_f", "--json", "-q")
    assert json.loads(done.stdout) == {"done": {"ga": "results/runs/muse_mini/ga"}, "failed": {}}
    refused = muse("sweep", "out/*", "--data-dir", "data", "--metrics", "verbmem_f")
    assert refused.exit_code == 2
    assert "cannot tell the task of out/one" in refused.stderr


# ── on Ray ───────────────────────────────────────────────────────────────────────────────────────
ray = [
    pytest.mark.ray,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]


def marked(mark: str) -> list[psutil.Process]:
    """List the processes that inherited a mark in their environment, but for this one."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.pid != os.getpid() and one.environ().get("MUSE_EVAL_MARK") == mark:
                found.append(one)
        except psutil.Error:
            continue
    return found


class TestOnRay:
    """The ``ray`` command line option; each test starts a Ray of its own."""

    pytestmark = ray

    def test_it_scores_as_it_does_here_and_leaves_no_process(self, here: Path) -> None:
        bad = shutil.copytree(here / "out" / "one", here / "out" / "bad")
        (bad / "model.safetensors").write_bytes(b"")
        env = {"MUSE_EVAL_MARK": str(here)}
        done = process("sweep", "out/*", *OPTIONS, "--on", "ray", "--jobs", 2, "--quiet", "--json", env=env)

        assert (done.returncode, done.stderr) == (1, "")
        told = json.loads(done.stdout)
        assert told["done"] == {name: str(RUNS / name) for name in ("one", "two")}
        assert told["failed"]["bad"].startswith("out/bad/model.safetensors is truncated or corrupt")
        psutil.wait_procs(marked(str(here)), timeout=30)
        assert marked(str(here)) == []
        args = ["run", "--model", "out/one", "--results", "alone", "-q", *OPTIONS]
        assert muse(*args).exit_code == 0
        alone = json.loads((here / "alone/runs/village/one/result.json").read_text(encoding="utf-8"))
        assert json.dumps(stored("one")["columns"]) == json.dumps(alone["columns"])

    @pytest.mark.usefixtures("here")
    def test_a_crash_there_is_reported_too(self, stand_in: Path) -> None:
        stand_in.write_text("os.write(2, b'the last words'); os._exit(3)", encoding="utf-8")
        done = process("sweep", "out/one", *SHORT, "--on", "ray", "--quiet")
        assert (done.returncode, done.stdout) == (1, "")
        log = RUNS / "one" / LOG
        told = f"muse-eval: failed: one: its process ended with exit code 3: the last words; log: {log}"
        assert done.stderr.splitlines()[0] == told

    def test_more_gpus_than_any_node_has_are_refused(self, here: Path) -> None:
        done = process("sweep", "out/one", *SHORT, "--on", "ray", "--gpus-per-model", 1000, "--quiet")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--gpus-per-model 1000: the largest node of the Ray cluster has " in done.stderr
        assert not (here / "results").exists()

    @pytest.mark.parametrize(("sent", "code"), SIGNALS)
    def test_a_signal_ends_all_of_it(self, here: Path, sent: signal.Signals, code: int) -> None:
        rows = [{"prompt": f"{number}: the owl said nothing to Ada", "gt": "x"} for number in range(500)]
        (here / "data/verbmem/forget.json").write_text(json.dumps(rows), encoding="utf-8")
        running = subprocess.Popen(
            [str(SCRIPT), "sweep", "out/*", *SHORT, *SLOW, "--on", "ray", "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MUSE_EVAL_MARK": str(here)},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        )
        deadline = time.monotonic() + 120
        while (
            len(answers(here / "results/cache")) < 5
            and running.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        running.send_signal(sent)
        out, err = running.communicate(timeout=60)
        assert (running.returncode, out) == (code, "")
        assert err == "muse-eval: stopped; the same command goes on from here\n"
        psutil.wait_procs(marked(str(here)), timeout=30)
        assert marked(str(here)) == []
