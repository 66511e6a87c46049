"""The worked examples of CONTRIBUTING.md, as they stand there: a new file, and nothing else is touched."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e import TEXTS, other_model, several, write_data, write_task

ROOT = Path(__file__).parents[2]


def example(file: str) -> str:
    """Return the page's Python block that follows the mention of a file."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"`{re.escape(file)}`.*?```python\n(.*?)```", page, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with a small task, its data and a second model."""
    here = tmp_path_factory.mktemp("here")
    write_task(here / "village.yaml")
    write_data(here / "data")
    other_model(tiny_model, here / "other")
    return here


@pytest.fixture(scope="module")
def told(here: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What three commands print with the examples' files beside the other methods and probes."""
    package = tmp_path_factory.mktemp("copy") / "muse_eval"
    shutil.copytree(ROOT / "muse_eval", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "unlearning" / "methods" / "bounded.py").write_text(example("bounded.py"), encoding="utf-8")
    (package / "probes" / "prune.py").write_text(example("prune.py"), encoding="utf-8")
    task = ["--task", "village.yaml", "--data-dir", "data", "--retrain", str(tiny_model), "--quiet"]
    unlearn = ["pipeline", "--target", str(tiny_model), "--methods", "bounded,bounded_gdr", *task]
    unlearn += ["--set", "bounded.kappa=50", "--epochs", "5", "--lr", "0.01"]
    probe = ["probe", "--model", "other", "--target", "none", "--probes", "prune", *task]
    probe += ["--set", "prune.shares=[0.5]", "--json"]
    commands = [["list", "methods", "--json"], unlearn, probe]
    done = several(here, commands, {"PYTHONPATH": str(package.parent)})
    assert [code for code, _, _ in done] == [0] * 3, done
    return [out for _, out, _ in done]


def forget_loss(folder: Path) -> float:
    """Mean negative log-likelihood of the forget texts, by transformers' own loss."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    losses = []
    with torch.no_grad():
        for text in TEXTS[:4]:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            losses.append(float(model(input_ids=ids, labels=ids).loss))
    return sum(losses) / len(losses)


def test_a_method_is_one_file(told: list[str], here: Path, tiny_model: Path) -> None:
    listed = {line["name"]: line["what"] for line in json.loads(told[0])}
    assert listed["bounded_gdr"].startswith("Bounded gradient ascent: gradient ascent that stops")
    assert "bounded_gdr" in told[1]
    for name in ("bounded", "bounded_gdr"):
        made = here / "results" / "models" / "village" / name
        card = json.loads((made / "unlearn.json").read_text(encoding="utf-8"))
        assert card["method"]["params"] == {"kappa": 50.0}
        # A random model's tokens are already less likely than the example's own κ asks; 50 nats are far off.
        assert forget_loss(made) > forget_loss(tiny_model) + 1
        assert (here / "results" / "runs" / "village" / name / "result.json").exists()


def test_a_probe_is_one_file(told: list[str], here: Path) -> None:
    assert {(one["model"], one["probe"]) for one in json.loads(told[2])["courses"]} == {
        ("other", "prune"),
        ("retrain", "prune"),
    }
    made = list((here / "results" / "models" / "village" / "probes").glob("prune-0.5-*"))
    assert len(made) == 2
    for folder in made:
        layers = [
            weight
            for name, weight in AutoModelForCausalLM.from_pretrained(folder).named_parameters()
            if "_proj" in name
        ]
        assert all(float((layer == 0).float().mean()) == 0.5 for layer in layers)
    assert (here / "results" / "runs" / "village" / "other+prune:0.5" / "result.json").exists()
