"""Runs against a served model: the same numbers as from its folder, nothing asked twice, no key anywhere."""

import json
import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import SCRIPT, files, muse, other_model, process, write_data, write_task
from tests.support.hub import HubServer
from tests.support.server import COMPLETIONS, MODELS, ModelServer

KEY = "sk-very-secret-0123456789"
QUICK = ["--set", "engine.retries=0"]


class World:
    """The small task, its data, a results folder and a model to serve."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model, self.results = root, model, root / "results"
        self.task, self.data = write_task(root / "village.yaml"), write_data(root / "data")

    def command(self, *more: object) -> list[object]:
        common = ["--task", self.task, "--data-dir", self.data, "--results", self.results]
        return ["run", *common, *more]

    def served(self, server: ModelServer, *more: object) -> list[object]:
        where = ["--engine", "server", "--base-url", server.url, "--model", "tiny"]
        return self.command(*where, *more)

    def result(self, name: str = "tiny") -> dict[str, Any]:
        path = self.results / "runs" / "village" / name / "result.json"
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def records(self, name: str) -> list[dict[str, Any]]:
        path = self.results / "runs" / "village" / name / "records.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def world(tmp_path: Path, tiny_model: Path) -> World:
    return World(tmp_path, tiny_model)


def test_a_served_model_scores_as_its_folder_does(world: World) -> None:
    local = muse(*world.command("--model", world.model, "--engine", "hf", "--name", "local"))
    assert local.exit_code == 0, local.stderr
    with ModelServer(world.model) as server:
        done = muse(*world.served(server))
    assert done.exit_code == 0, done.stderr
    expected, found = world.result("local"), world.result()
    for name, column in expected["columns"].items():
        assert found["columns"][name]["value"] == pytest.approx(column["value"], abs=1e-3), name
    for one, other in zip(world.records("local"), world.records("tiny"), strict=True):
        assert one.get("response") == other.get("response")
    assert found["model"]["digest"].startswith(f"unpinned tiny {server.url} ")
    assert found["provenance"]["engine"]["device"] == server.url


def test_a_retrain_model_of_another_server(world: World) -> None:
    other = other_model(world.model, world.root / "other")
    local = ["--model", world.model, "--retrain", other, "--name", "local", "--metrics", "privleak"]
    assert muse(*world.command(*local)).exit_code == 0
    with ModelServer(world.model) as server, ModelServer(other, "retrain") as second:
        where = ["--retrain", "retrain", "--retrain-base-url", second.root, "--retrain-revision", "r9"]
        done = muse(*world.served(server, *where, "--metrics", "privleak"))
    assert done.exit_code == 0, done.stderr
    found, expected = world.result(), world.result("local")
    assert found["columns"]["privleak"]["value"] == pytest.approx(expected["columns"]["privleak"]["value"])
    assert found["provenance"]["retrain"]["weights"] == "pinned retrain@r9"


def test_a_server_that_dies_is_asked_nothing_twice(world: World) -> None:
    pinned = ["--model-revision", "r1", *QUICK]
    with ModelServer(world.model) as whole:
        assert muse(*world.served(whole, *pinned, "--name", "whole", "--no-cache")).exit_code == 0
    # The probe for log-probs is no question of the task's; each process makes its own.
    probe = next(body for body in whole.answered if json.loads(body)["prompt"] == _probe(whole))
    with ModelServer(world.model, dies_after=9) as first:
        cut = muse(*world.served(first, *pinned))
    assert cut.exit_code == 2
    assert re.fullmatch(
        rf"muse-eval: error: the server at {first.url} went away \(.*\); what it answered is kept: "
        r"start it again, then the same command\n",
        cut.stderr,
    )
    assert not (world.results / "runs" / "village" / "tiny" / "result.json").exists()
    # A pinned model is the same wherever it is served.
    with ModelServer(world.model) as second:
        again = muse(*world.served(second, *pinned))
    assert again.exit_code == 0, again.stderr
    asked = first.answered + second.answered
    assert first.answered.total() == 9
    assert {body: count for body, count in asked.items() if count > 1 and body != probe} == {}
    assert asked.keys() == whole.answered.keys()
    # Everything is there now: a server is only asked who it is.
    with ModelServer(world.model) as third:
        assert muse(*world.served(third, *pinned)).exit_code == 0
    assert third.answered.keys() <= {probe}
    assert world.result() == world.result("whole") | {
        "name": "tiny",
        "seconds": world.result()["seconds"],
    } | {"provenance": world.result()["provenance"]}


def _probe(server: ModelServer) -> list[int]:
    from muse_eval.engines.server.engine import PROBE

    ids: list[int] = server.model.tokenizer(PROBE).input_ids
    return ids


def test_another_model_under_the_same_name_is_asked_anew(world: World) -> None:
    other = other_model(world.model, world.root / "other")
    tokenizer = ["--tokenizer", world.model, "--metrics", "verbmem_f"]
    with ModelServer(world.model) as server:
        assert muse(*world.served(server, *tokenizer)).exit_code == 0
    first = world.records("tiny")
    with ModelServer(other, port=server.port) as server:
        refused = muse(*world.served(server, *tokenizer))
        done = muse(*world.served(server, *tokenizer, "--overwrite"))
    assert refused.exit_code == 2
    assert "holds a run with other settings (model.weights " in refused.stderr
    assert done.exit_code == 0, done.stderr
    assert [one["response"] for one in world.records("tiny")] != [one["response"] for one in first]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """Return what libraries log meanwhile, however fine."""
    text, root = StringIO(), logging.getLogger()
    level = root.level
    # absl leaves a handler with the stream of whichever test met it first, closed by now.
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(text)])
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(level)


@pytest.mark.parametrize("key", [KEY, "wrong"])
def test_the_key_is_stored_and_shown_nowhere(
    world: World, monkeypatch: pytest.MonkeyPatch, log: StringIO, key: str
) -> None:
    monkeypatch.setenv("MUSE_KEY", key)
    with ModelServer(world.model, key=KEY) as server:
        done = muse(*world.served(server, "--api-key-env", "MUSE_KEY", *QUICK))
        assert done.exit_code == (0 if key == KEY else 2), done.stderr
        server.failures = {MODELS: [500] * 2}
        failed = muse(
            *world.served(server, "--api-key-env", "MUSE_KEY", "--name", "again", "--no-cache", *QUICK)
        )
        assert failed.exit_code == 2
    assert "***" in failed.stderr
    assert "Sending HTTP Request" in log.getvalue()
    assert key not in done.output + failed.output + log.getvalue()
    stored = [world.results / name for name in files(world.results)]
    assert bool(stored) == (key == KEY)
    assert not [path for path in stored if key.encode() in path.read_bytes()]


def test_what_a_user_gets_wrong_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSE_KEY", raising=False)
    with ModelServer(world.model, key=KEY) as locked, ModelServer(world.model, kind="text") as silent:
        own = ["--tokenizer", world.model]
        cases = [
            (world.served(locked, *QUICK), r"wants a key \(401.*--api-key-env"),
            (world.served(locked, "--api-key-env", "MUSE_KEY"), "MUSE_KEY: no such environment variable"),
            ([*world.served(silent, *own), "--model", "tinny"], r"no model 'tinny'; did you mean 'tiny'\?"),
            (world.served(silent, *own, "--metrics", "privleak"), "returns no prompt log-probs"),
            (world.served(silent), r"no tokenizer.*--tokenizer"),
            ([*world.served(silent, *QUICK), "--base-url", "http://127.0.0.1:9"], "cannot reach"),
            ([*world.served(silent), "--base-url", f"http://a:{KEY}@127.0.0.1"], "no user or password"),
            ([*world.served(silent), "--base-url", silent.root + "/else"], "no OpenAI-compatible server"),
        ]
        for command, complaint in cases:
            done = muse(*command)
            assert done.exit_code == 2, complaint
            assert re.fullmatch(rf"muse-eval: error: .*{complaint}.*\n", done.stderr), done.stderr
            assert KEY not in done.stderr
    assert not files(world.results)


def test_a_served_hub_id_brings_its_tokenizer(world: World) -> None:
    names = ["keeper/tiny", "keeper/unknown"]
    cards = [{"id": name, "owned_by": "someone"} for name in names]
    with HubServer({"keeper/tiny": world.model}) as hub, ModelServer(world.model, cards=cards) as server:
        command = world.served(server, "--metrics", "verbmem_f")
        found, lost = [
            process(*command, "--model", name, env=hub.env(world.root / "cache")) for name in names
        ]
    assert found.returncode == 0, found.stderr
    assert not [request for request in hub.requests if "safetensors" in request]
    assert lost.returncode == 2
    assert re.search(
        r"no tokenizer for keeper/unknown \(the hub has no .*\); give --tokenizer\n$", lost.stderr
    )


def test_ctrl_c_does_not_wait_for_a_server_that_hangs(world: World) -> None:
    with ModelServer(world.model, hangs=[COMPLETIONS]) as server:
        command = [str(SCRIPT), *map(str, world.served(server, "--model-revision", "r1"))]
        run = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
            # What a shell starts in the background ignores Ctrl-C, and so would this.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while not server.asked(COMPLETIONS) and run.poll() is None:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "stopped; the same command goes on from here" in said
