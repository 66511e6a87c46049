"""The worked example of CONTRIBUTING.md, as it stands there: one new file, and nothing else is touched."""

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

from tests.e2e import TEXTS, write_data, write_task

ROOT = Path(__file__).parents[2]


def example(file: str) -> str:
    """Return the page's Python block that follows the mention of a file."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"`{re.escape(file)}`.*?```python\n(.*?)```", page, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package with the example's file beside the other methods."""
    package = tmp_path / "copy" / "muse_eval"
    shutil.copytree(ROOT / "muse_eval", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "unlearning" / "methods" / "bounded.py").write_text(example("bounded.py"), encoding="utf-8")
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
