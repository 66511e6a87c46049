"""The stand-in of the hub serves the real clients as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.support.hub import HubServer, write_dataset

pytestmark = pytest.mark.slow

MODEL, DATA, GATED, PRIVATE = (
    "OPTML-Group/SimNPO-MUSE-Books-iclm-7b",
    "muse-bench/MUSE-Books",
    "meta-llama/Llama-2-7b-hf",
    "secret/model",
)
PINNED = "a" * 40
QA = [{"question": f"Who is {number}?", "answer": f"Number {number}."} for number in range(3)]
TEXTS = [{"text": f"Text {number}."} for number in range(3)]
SPLITS = {
    **{f"knowmem/{split}": QA for split in ("forget_qa", "forget_qa_icl", "retain_qa", "retain_qa_icl")},
    "verbmem/forget": [{"prompt": "The owl", "gt": "said"}],
    **{f"privleak/{split}": TEXTS for split in ("forget", "retain", "holdout")},
    **{f"raw/{split}": TEXTS for split in ("forget", "retain1", "retain2", "holdout")},
    **{f"train/{split}": TEXTS for split in ("forget", "retain1", "retain2")},
}
LOAD = """
from muse_eval import late
late.start()
import json, sys, torch
from datasets import load_dataset
from huggingface_hub import HfApi, ModelCard, constants, snapshot_download
from transformers import AutoModelForCausalLM, AutoTokenizer
model, data, commit, folder, splits = *sys.argv[1:5], json.loads(sys.argv[5])
tokens = AutoTokenizer.from_pretrained(model)("the owl said")["input_ids"]
ours = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).state_dict()
true = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
rows = {
    name: list(load_dataset(data, name.split("/")[0], split=name.split("/")[1], revision=commit))
    for name in splits
}
told = {"tokens": tokens, "same": all(torch.equal(ours[name], true[name]) for name in true), "rows": rows}
if not constants.HF_HUB_OFFLINE:
    api = HfApi()
    told |= {"card": ModelCard.load(model).data.datasets, "info": api.model_info(model).card_data.datasets}
    told |= {"commits": [api.model_info(model, revision=name).sha for name in ("v1", sys.argv[6])]}
    told |= {"data_commit": api.dataset_info(data).sha}
told["snapshot"] = snapshot_download(model)
print(json.dumps(told))
"""
FAIL = """
import json, sys
from datasets import load_dataset
from huggingface_hub import HfApi, hf_hub_download
model, data, gated, private = sys.argv[1:5]
tries = {
    "missing model": lambda: HfApi().model_info("no/such"),
    "missing data": lambda: load_dataset("no/such", "knowmem"),
    "private info": lambda: HfApi().model_info(private),
    "private file": lambda: hf_hub_download(private, "config.json"),
    "gated info": lambda: HfApi().model_info(gated),
    "gated file": lambda: hf_hub_download(gated, "config.json"),
    "missing revision": lambda: hf_hub_download(model, "config.json", revision="nope"),
    "missing data revision": lambda: load_dataset(data, "knowmem", revision="nope"),
    "missing file": lambda: hf_hub_download(model, "nope.json"),
}
told = {}
for name, attempt in tries.items():
    try:
        told[name] = attempt().gated
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        told[name] = [type(error).__name__, status]
print(json.dumps(told))
"""


def build(folder: Path) -> None:
    """Write a model of six words."""
    words = ["<unk>", "<s>", "</s>", "the", "owl", "said"]
    known = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=6, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repos")
    model = folder / "model"
    build(model)
    (model / "README.md").write_text(f"---\nlicense: mit\ndatasets:\n- {DATA}\n---\n\n# A made-up model\n")
    write_dataset(folder / "data", SPLITS)
    (folder / "gated").mkdir()
    (folder / "gated" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def hub(folder: Path) -> Iterator[HubServer]:
    with HubServer(
        {MODEL: folder / "model", GATED: folder / "gated"},
        datasets={DATA: folder / "data"},
        private={PRIVATE},
        gated={GATED},
        revisions={MODEL: ["v1", PINNED]},
    ) as hub:
        yield hub


def python(code: str, *arguments: str, env: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **env, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def ask(
    hub: HubServer, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", int(hub.url.rpartition(":")[2]), timeout=10)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_the_real_clients_load_by_id_online_and_then_offline(
    hub: HubServer, folder: Path, tmp_path: Path
) -> None:
    commit, data_commit = hub.commit(MODEL), hub.commit(DATA, "datasets")
    arguments = [MODEL, DATA, data_commit, str(folder / "model"), json.dumps(list(SPLITS)), PINNED]
    told = python(LOAD, *arguments, env=hub.env(tmp_path))

    assert told["tokens"] == [3, 4, 5]
    assert told["same"]
    assert told["rows"] == SPLITS
    assert told["card"] == told["info"] == [DATA]
    assert told["commits"] == [commit, PINNED]
    assert told["data_commit"] == data_commit
    assert f"GET /{MODEL}/resolve/{commit}/model.safetensors" in hub.requests
    assert f"GET /datasets/{DATA}/resolve/{data_commit}/verbmem/forget-00000-of-00001.parquet" in hub.requests

    # The cache names the blob of an LFS file by its sha256, which provenance reads.
    cached = Path(told["snapshot"]) / "model.safetensors"
    assert cached.parent.name == commit
    assert cached.resolve().name == hashlib.sha256(cached.read_bytes()).hexdigest()
    assert cached.read_bytes() == (folder / "model" / "model.safetensors").read_bytes()

    hub.requests.clear()
    again = python(LOAD, *arguments, env=hub.env(tmp_path, offline=True))
    assert hub.requests == []
    assert {name: told[name] for name in again} == again


def test_refusals_raise_what_the_hub_s_do(hub: HubServer, tmp_path: Path) -> None:
    assert python(FAIL, MODEL, DATA, GATED, PRIVATE, env=hub.env(tmp_path)) == {
        "missing model": ["RepositoryNotFoundError", 404],
        "missing data": ["DatasetNotFoundError", None],
        "private info": ["RepositoryNotFoundError", 401],
        "private file": ["RepositoryNotFoundError", 401],
        "gated info": "manual",
        "gated file": ["GatedRepoError", 401],
        "missing revision": ["RevisionNotFoundError", 404],
        "missing data revision": ["DatasetNotFoundError", None],
        "missing file": ["RemoteEntryNotFoundError", 404],
    }


def test_files_are_served_whole_and_in_ranges(hub: HubServer, folder: Path) -> None:
    path, weights = (
        f"/{MODEL}/resolve/main/model.safetensors",
        (folder / "model" / "model.safetensors").read_bytes(),
    )
    head, nothing = ask(hub, "HEAD", path)
    sha256 = hashlib.sha256(weights).hexdigest()
    assert (head.status, nothing) == (200, b"")
    assert head.headers["ETag"] == head.headers["X-Linked-Etag"] == f'"{sha256}"'
    assert head.headers["Content-Length"] == head.headers["X-Linked-Size"] == str(len(weights))
    assert head.headers["X-Repo-Commit"] == hub.commit(MODEL)

    assert ask(hub, "GET", path)[1] == weights
    for asked, wanted in (("bytes=0-9", weights[:10]), ("bytes=100-", weights[100:])):
        part, content = ask(hub, "GET", path, Range=asked)
        assert (part.status, content) == (206, wanted)
    past, _ = ask(hub, "GET", path, Range=f"bytes={len(weights)}-")
    assert (past.status, past.headers["Content-Range"]) == (416, f"bytes */{len(weights)}")

    config, content = ask(hub, "GET", f"/{MODEL}/resolve/main/config.json")
    assert "X-Linked-Etag" not in config.headers
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert config.headers["ETag"] == f'"{blob}"'


def test_listings_name_files_and_folders(hub: HubServer) -> None:
    def listed(path: str, body: str | None = None) -> list[str]:
        method = "GET" if body is None else "POST"
        return [
            entry["path"] for entry in json.loads(ask(hub, method, f"/api/datasets/{DATA}/{path}", body)[1])
        ]

    parquet = "verbmem/forget-00000-of-00001.parquet"
    assert listed("tree/main") == ["README.md", "knowmem", "privleak", "raw", "train", "verbmem"]
    assert listed("tree/main/verbmem") == [parquet]
    assert parquet in listed("tree/main?recursive=true")
    assert listed("paths-info/main", urlencode({"paths": [parquet, "raw", "nope"]}, doseq=True)) == [
        parquet,
        "raw",
    ]
    assert (
        ask(hub, "GET", f"/api/datasets/{DATA}/tree/main/nope")[0].headers["X-Error-Code"] == "EntryNotFound"
    )
    assert ask(hub, "GET", "/api/whoami-v2")[0].status == 404
