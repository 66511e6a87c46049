"""The command as typed, against a stand-in of the hub: only the environment says where the hub is."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from muse_eval.provenance import files_digest
from tests.e2e import QA, SCRIPT, TEXTS, files, other_model, several, write_data, write_task
from tests.support.hub import HubServer, write_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MODEL = "OPTML-Group/SimNPO-MUSE-Books-iclm-7b"
RETRAIN = "muse-bench/MUSE-Books_retrain"
DATA = "muse-bench/MUSE-Books"
GATED, OPEN = "meta-llama/Llama-2-7b-hf", "NousResearch/Llama-2-7b-hf"
PRIVATE = "secret/model"
PINNED = "051ba90319e920d410d87cfdbd61f25843c1b892"
"""The data's revision in tasks/muse_books.yaml."""
TEN = (QA * 2)[:10]
ROWS: dict[str, list[dict[str, str]]] = {
    "knowmem/forget_qa": QA[:3],
    "knowmem/forget_qa_icl": TEN,
    "knowmem/retain_qa": QA[3:],
    "knowmem/retain_qa_icl": TEN,
    "verbmem/forget": [{"prompt": text[:20], "gt": text[20:]} for text in TEXTS[:3]],
    "privleak/forget": [{"text": text} for text in TEXTS[:3]],
    "privleak/holdout": [{"text": text} for text in TEXTS[3:]],
    "privleak/retain": [{"text": text} for text in TEXTS[1:4]],
    "raw/forget": [{"text": text} for text in TEXTS],
    "raw/retain1": [{"text": text} for text in TEXTS],
}
TYPED = ["run", "--model", MODEL]


@pytest.fixture(scope="module")
def repos(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_tokenizer: "PreTrainedTokenizerFast"
) -> Path:
    """What the hub serves; no model carries a tokenizer, as none of MUSE's does."""
    repos = tmp_path_factory.mktemp("repos")
    shutil.copytree(tiny_model, repos / "model", ignore=shutil.ignore_patterns("tokenizer*"))
    (repos / "model" / "README.md").write_text(f"---\nlicense: mit\ndatasets:\n- {DATA}\n---\n\n# A model\n")
    other_model(repos / "model", repos / "retrain")
    tiny_tokenizer.save_pretrained(repos / "open")
    shutil.copy(tiny_model / "config.json", repos / "open")
    shutil.copytree(repos / "open", repos / "gated")
    write_dataset(repos / "data", ROWS)
    return repos


@pytest.fixture(scope="module")
def hub(repos: Path) -> Iterator[HubServer]:
    with HubServer(
        {MODEL: repos / "model", RETRAIN: repos / "retrain", GATED: repos / "gated", OPEN: repos / "open"},
        datasets={DATA: repos / "data"},
        private={PRIVATE},
        gated={GATED},
        revisions={DATA: [PINNED], MODEL: ["v1"]},
    ) as hub:
        yield hub


@pytest.fixture(scope="module")
def typed(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A working directory in which the command ran, with the hub's cache in ``hf``, and what was asked."""
    here = tmp_path_factory.mktemp("typed")
    done = type_in(here, TYPED, hub.env(here / "hf"))
    assert done.returncode == 0, done.stderr
    assert "VerbMem Df ↓" in done.stdout
    asked = list(hub.requests)
    hub.requests.clear()
    return here, asked


def type_in(here: Path, command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *command],
        cwd=here,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def stored(results: Path, name: str) -> dict[str, Any]:
    text = (results / "runs" / "muse_books" / name / "result.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_model_is_scored_as_typed(typed: tuple[Path, list[str]], hub: HubServer, repos: Path) -> None:
    here, asked = typed
    result = stored(here / "results", MODEL.split("/")[1])

    # The task was read off the card, and its data are those at the pinned revision.
    assert result["task"] == "muse_books"
    assert result["config"]["data"] | {"sha256": None} == {
        "source": "hub",
        "repo": DATA,
        "revision": PINNED,
        "sha256": None,
    }
    assert {name: column["n"] for name, column in result["columns"].items()} == {
        "verbmem_f": 3,
        "knowmem_f": 3,
        "privleak": 6,
        "knowmem_r": 3,
    }
    # Made-up rows are not what the published AUC was measured on.
    assert result["columns"]["privleak"]["flags"] == ["no-reference"]
    assert "is not the data that the task's AUC was published for" in result["columns"]["privleak"]["reason"]

    # The model is known by its commit and by the bytes of its weights, which the cache's names vouch for.
    assert result["model"]["id"] == MODEL
    assert result["model"]["revision"] == hub.commit(MODEL)
    parts = [
        repos / "model" / name for name in ("config.json", "generation_config.json", "model.safetensors")
    ]
    assert result["model"]["digest"] == files_digest([part for part in parts if part.exists()])

    # The weights came as safetensors, one file once; the gated tokenizer was tried before the open one.
    assert asked.count(f"GET /{MODEL}/resolve/{hub.commit(MODEL)}/model.safetensors") == 1
    gated = [place for place, line in enumerate(asked) if GATED in line]
    fetched = [place for place, line in enumerate(asked) if f"{OPEN}/resolve" in line]
    assert gated
    assert fetched
    assert max(gated) < min(fetched)
    assert not any(line.startswith("GET") and f"{GATED}/resolve" in line for line in asked)
    # Splits that no column scores are not fetched.
    assert not any("/raw/" in line and line.startswith("GET") for line in asked)


def test_the_same_command_offline_gives_the_same_bytes(
    typed: tuple[Path, list[str]], hub: HubServer, tiny_model: Path
) -> None:
    here, _ = typed
    folder = here / "results" / "runs" / "muse_books" / MODEL.split("/")[1]
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    hub.requests.clear()
    # From the stored answers, then from the hub's cache alone, and what lies here as files.
    task, data = str(write_task(here / "village.yaml")), str(write_data(here / "data"))
    local = ["run", "--model", str(tiny_model), "--task", task, "--data-dir", data, "--quiet"]
    commands = [TYPED, [*TYPED, "--results", "fresh", "--quiet"], local]
    told = several(here, commands, hub.env(here / "hf", offline=True))

    there = f"muse-eval: {MODEL.split('/')[1]}: all 18 answers are there already\n"
    assert [(code, err) for code, _, err in told] == [(0, there), (0, ""), (0, "")]
    assert hub.requests == []
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before
    fresh = stored(here / "fresh", folder.name)
    assert {**fresh, "seconds": 0} == {**json.loads(before["result.json"]), "seconds": 0}


def test_a_revision_pins_and_retrain_comes_from_the_hub(
    typed: tuple[Path, list[str]], hub: HubServer
) -> None:
    here, _ = typed
    pinned = ["run", "--model", f"{MODEL}@v1", "--name", "pinned", "--metrics", "privleak"]
    wrong = ["run", "--model", f"{MODEL}@v2", "--name", "wrong"]
    env = hub.env(here / "hf")
    (code, _, err), (refused, _, why) = several(here, [[*pinned, "--retrain", RETRAIN], wrong], env)

    assert code == 0, err
    result = stored(here / "results", "pinned")
    assert result["model"] == stored(here / "results", MODEL.split("/")[1])["model"]
    assert result["provenance"]["retrain"]["model"] == RETRAIN
    assert result["provenance"]["retrain"]["revision"] == hub.commit(RETRAIN)
    assert "reference-published" not in result["columns"]["privleak"]["flags"]
    assert refused == 2
    assert why == f"muse-eval: error: {MODEL} has no revision 'v2' on the hub; check it\n"


def test_what_the_hub_refuses_is_one_line(hub: HubServer, repos: Path, tmp_path: Path) -> None:
    local = str(repos / "model")
    elsewhere = write_task(
        tmp_path / "elsewhere.yaml", data={"source": "hub", "repo": "no/such", "revision": PINNED}
    )
    tokenless = write_task(tmp_path / "tokenless.yaml", tokenizers=[{"repo": GATED}, {"repo": "no/such"}])
    data = str(write_data(tmp_path / "data"))
    cases: list[tuple[list[str], tuple[str, ...]]] = [
        (["run", "--model", "no/such"], ("the hub has no model no/such", "check the name", "hf auth login")),
        (["run", "--model", PRIVATE, "--task", "muse_books"], (PRIVATE, "private", "hf auth login")),
        (["run", "--model", GATED, "--task", "muse_books"], (f"{GATED} is gated", "accept its terms")),
        (["run", "--model", OPEN, "--task", "muse_books"], (f"{OPEN} has no weights",)),
        (["run", "--model", OPEN], (f"cannot tell the task of {OPEN}", "--task")),
        (
            ["run", "--model", local, "--task", "muse_books", "--tokenizer", "no/such"],
            ("no/such", "check the name"),
        ),
        (["run", "--model", local, "--task", str(elsewhere)], ("no/such", "from the hub", "--data-dir")),
        (
            ["run", "--model", local, "--task", str(tokenless), "--data-dir", data],
            ("model carries no tokenizer", f"{GATED} is gated", "no model no/such", "--tokenizer"),
        ),
        (["unlearn", "--method", "ga", "--model", PRIVATE, "--task", "muse_books", "--out", "o"], (PRIVATE,)),
        (["data", "show", "--task", "muse_news"], ("muse-bench/MUSE-News@506bd5b150b9", "from the hub")),
    ]
    told = several(tmp_path, [command for command, _ in cases], hub.env(tmp_path / "hf"))

    for (command, fragments), (code, out, err) in zip(cases, told, strict=True):
        assert (code, out) == (2, ""), (command, out)
        assert len(err.splitlines()) == 1, err
        assert err.startswith("muse-eval: error: ")
        assert [part for part in fragments if part not in err] == [], err
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "o").exists()


def test_offline_with_nothing_cached_is_one_line(hub: HubServer, repos: Path, tmp_path: Path) -> None:
    local = str(repos / "model")
    commands = [
        TYPED,
        [*TYPED, "--task", "muse_books"],
        ["run", "--model", local, "--task", "muse_books"],
        ["data", "verify", "--task", "muse_books"],
        ["data", "show", "--task", "muse_books"],
    ]
    hub.requests.clear()
    told = several(tmp_path, commands, hub.env(tmp_path / "hf", offline=True))

    for command, (code, out, err) in zip(commands, told, strict=True):
        assert (code, out) == (2, ""), (command, out)
        assert len(err.splitlines()) == 1, err
        assert err.startswith("muse-eval: error: ")
    assert "the hub cannot be reached" in told[0][2]
    assert MODEL in told[0][2]
    assert "HF_HUB_OFFLINE" in told[0][2]
    for _, _, err in told[1:]:
        assert DATA in err
        assert "--data-dir" in err
    assert hub.requests == []
    assert not (tmp_path / "results").exists()


def test_another_revision_of_the_data_is_not_taken_for_the_pinned_one(hub: HubServer, tmp_path: Path) -> None:
    # Offline, datasets hands out whichever revision it has.
    newer = {"source": "hub", "repo": DATA, "revision": hub.commit(DATA, "datasets")}
    task = str(write_task(tmp_path / "newer.yaml", data=newer))
    split = ["--split", "verbmem/forget"]
    online = several(
        tmp_path, [["data", "show", "--task", task, *split]], hub.env(tmp_path / "hf", offline=False)
    )
    rows = [json.loads(line) for line in online[0][1].splitlines()]
    assert rows == ROWS["verbmem/forget"]

    commands = [["data", "show", "--task", name, *split] for name in (task, "muse_books")]
    same, other = several(tmp_path, commands, hub.env(tmp_path / "hf", offline=True))
    assert same == online[0]
    assert other[0] == 2
    assert other[1] == ""
    assert PINNED in other[2]
    assert "another revision" in other[2]
    assert len(other[2].splitlines()) == 1


def test_a_connection_that_breaks_is_one_line_and_the_next_try_goes_on(repos: Path, tmp_path: Path) -> None:
    served = [shutil.copytree(repos / name, tmp_path / name) for name in ("model", "data")]
    cut = [served[0] / "README.md", served[1] / "verbmem" / "forget-00000-of-00001.parquet"]
    show = ["data", "show", "--task", "muse_books", "--split", "verbmem/forget"]
    with HubServer({MODEL: served[0]}, datasets={DATA: served[1]}, revisions={DATA: [PINNED]}) as hub:
        whole = [path.read_bytes() for path in cut]
        # The hub announces the whole file and sends less.
        for path, content in zip(cut, whole, strict=True):
            path.write_bytes(content[: len(content) // 2])
        for code, out, err in several(tmp_path, [TYPED, show], hub.env(tmp_path / "hf")):
            assert (code, out) == (2, "")
            # The client's own lines on each new attempt may stand before.
            last = err.splitlines()[-1]
            assert last.startswith("muse-eval: error: cannot get ")
            assert "from the hub (peer closed connection" in last
            assert "Traceback" not in err
        assert not (tmp_path / "results").exists()

        for path, content in zip(cut, whole, strict=True):
            path.write_bytes(content)
        (again,) = several(tmp_path, [show], hub.env(tmp_path / "hf"))
        assert again[0] == 0, again
