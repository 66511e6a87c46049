"""The worked examples of CONTRIBUTING.md, as they stand there: a new file, and nothing else is touched."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e import TEXTS, other_model, write_data, write_task

ROOT = Path(__file__).parents[2]


def example(file: str) -> str:
    """Return the page's Python block that follows the mention of a file."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"`{re.escape(file)}`.*?```python\n(.*?)```", page, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package with the examples' files beside the other methods and probes."""
    package = tmp_path / "copy" / "muse_eval"
    shutil.copytree(ROOT / "muse_eval", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "unlearning" / "methods" / "bounded.py").write_text(example("bounded.py"), encoding="utf-8")
    (package / "probes" / "prune.py").write_text(example("prune.py"), encoding="utf-8")
    return package.parent


def muse(copy: Path, *arguments: object) -> str:
    command = [sys.executable, "-m", "muse_eval", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def forget_loss(folder: Path) -> float:
    """Mean negative log-likelihood of the forget texts, by transformers' own loss."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    losses = []
    with torch.no_grad():
        for text in TEXTS[:4]:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            losses.append(float(model(input_ids=ids, labels=ids).loss))
    return sum(losses) / len(losses)


def test_a_method_is_one_file(copy: Path, tiny_model: Path, tmp_path: Path) -> None:
    listed = {line["name"]: line["what"] for line in json.loads(muse(copy, "list", "methods", "--json"))}
    assert listed["bounded_gdr"].startswith("Bounded gradient ascent: gradient ascent that stops")
    task = write_task(tmp_path / "village.yaml")
    data = write_data(tmp_path / "data")
    told = muse(
        copy,
        "pipeline",
        "--task",
        task,
        "--data-dir",
        data,
        "--target",
        tiny_model,
        "--retrain",
        tiny_model,
        "--methods",
        "bounded,bounded_gdr",
        "--set",
        "bounded.kappa=50",
        "--epochs",
        5,
        "--lr",
        0.01,
        "--results",
        tmp_path / "results",
        "--quiet",
    )
    assert "bounded_gdr" in told
    for name in ("bounded", "bounded_gdr"):
        made = tmp_path / "results" / "models" / "village" / name
        card = json.loads((made / "unlearn.json").read_text(encoding="utf-8"))
        assert card["method"]["params"] == {"kappa": 50.0}
        # A random model's tokens are already less likely than the example's own κ asks; 50 nats are far off.
        assert forget_loss(made) > forget_loss(tiny_model) + 1
        assert (tmp_path / "results" / "runs" / "village" / name / "result.json").exists()


def test_a_probe_is_one_file(copy: Path, tiny_model: Path, tmp_path: Path) -> None:
    other_model(tiny_model, tmp_path / "other")
    told = muse(
        copy,
        "probe",
        "--task",
        write_task(tmp_path / "village.yaml"),
        "--data-dir",
        write_data(tmp_path / "data"),
        "--model",
        tmp_path / "other",
        "--retrain",
        tiny_model,
        "--target",
        "none",
        "--probes",
        "prune",
        "--set",
        "prune.shares=[0.5]",
        "--results",
        tmp_path / "results",
        "--json",
        "--quiet",
    )
    assert {(one["model"], one["probe"]) for one in json.loads(told)["courses"]} == {
        ("other", "prune"),
        ("retrain", "prune"),
    }
    made = list((tmp_path / "results" / "models" / "village" / "probes").glob("prune-0.5-*"))
    assert len(made) == 2
    for folder in made:
        layers = [
            weight
            for name, weight in AutoModelForCausalLM.from_pretrained(folder).named_parameters()
            if "_proj" in name
        ]
        assert all(float((layer == 0).float().mean()) == 0.5 for layer in layers)
    assert (tmp_path / "results" / "runs" / "village" / "other+prune:0.5" / "result.json").exists()
