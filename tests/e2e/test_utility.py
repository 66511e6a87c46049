"""Utility columns: lm-eval for real on a tiny model and a local task; the cache; what is refused."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

import muse_eval
from muse_eval.errors import UserError
from muse_eval.results import load, load_records
from muse_eval.results.whole import fault
from muse_eval.scoring import lm_tasks
from muse_eval.scoring.lm_tasks import find
from tests.e2e import muse, write_data, write_task

installed = importlib.util.find_spec("lm_eval") is not None
needed = pytest.mark.skipif(not installed, reason="lm-eval is not installed")
CHOICES = ("the keeper", "the owl of the mill", "a ship")
NAMES = ("Ada", "Bo", "Cy", "Dee", "Eli", "Fay", "Gus", "Hal")
ROWS = [{"who": name, "choices": CHOICES, "gold": at % 3} for at, name in enumerate(NAMES)]
COLUMN = ("--metrics", "verbmem_f")


def write_lm_task(folder: Path, rows: Sequence[Any] = ROWS, **changes: Any) -> Path:
    """Write a multiple-choice task of lm-eval and its data; return its YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "mill.json"
    data.write_text(json.dumps(list(rows)), encoding="utf-8")
    task = {
        "task": "mill",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: Who is {{who}}?\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 2.0},
    }
    path = folder / "mill.yaml"
    path.write_text(yaml.safe_dump({**task, **changes}), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the hub out, and what the data library makes of local files in the test's own folder."""
    if installed:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    write_data(Path("data"))
    write_task(Path("village.yaml"))


def score(model: Path, *options: object, name: str = "m") -> Any:
    asked = ("--task", "village.yaml", "--data-dir", "data", "--name", name, "--quiet")
    return muse("run", "--model", model, *asked, *COLUMN, *options)


def stored(name: str = "m") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"results/runs/village/{name}/result.json").read_text())
    return found


def by_hand(model: Path) -> list[float]:
    """Choose each answer by the highest sum of log p of its tokens; 1 where that is the true one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)

    def likelihood(prompt: str, answer: str) -> float:
        start = len(tokenizer(prompt).input_ids)
        ids = torch.tensor([tokenizer(f"{prompt} {answer}").input_ids])
        with torch.no_grad():
            logs = network(ids).logits[0].log_softmax(-1)
        picked = logs[:-1].gather(1, ids[0, 1:, None])[:, 0]
        return float(picked[start - 1 :].sum())

    scores = []
    for at, name in enumerate(NAMES):
        sums = [likelihood(f"Question: Who is {name}?\nAnswer:", one) for one in CHOICES]
        scores.append(float(int(np.argmax(sums)) == at % 3))
    return scores


# ── the numbers ──────────────────────────────────────────────────────────────────────────────────
@needed
def test_a_column_is_what_it_is_by_hand(tiny_model: Path) -> None:
    done = score(tiny_model, "--utility", write_lm_task(Path("lm")))
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    assert "mill ↑" in done.stdout
    expected = by_hand(tiny_model)
    assert 0 < sum(expected) < len(expected)
    cell = stored()["columns"]["mill"]
    mean, error = np.mean(expected), np.std(expected, ddof=1) / np.sqrt(len(expected))
    assert cell["value"] == pytest.approx(100 * mean)
    assert cell["ci"] == pytest.approx([100 * (mean - 1.96 * error), 100 * (mean + 1.96 * error)])
    assert (cell["n"], cell["flags"]) == (len(NAMES), [])
    folder = Path("results/runs/village/m")
    records = [one for one in load_records(folder) if one["column"] == "mill"]
    assert [one["scores"] for one in records] == [{"acc": one} for one in expected]
    assert records[1]["truth"] == "the owl of the mill"
    assert all((one["chosen"] == one["truth"]) == bool(one["scores"]["acc"]) for one in records)
    result = load(folder)
    assert result is not None
    assert fault(result, deep=True) == ""
    params, versions = stored()["config"]["columns"]["mill"], stored()["provenance"]["versions"]
    assert (params["version"], params["score"]) == ("2.0", "acc,none")
    assert params["lm_eval"] == versions["lm-eval"]


@needed
def test_the_value_is_that_of_simple_evaluate(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It starts git and pip, which is why it is not what muse-eval calls."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    task = write_lm_task(Path("lm"), num_fewshot=2, fewshot_split="test")
    assert score(tiny_model, "--utility", task).exit_code == 0
    with lm_tasks.quiet():
        model = HFLM(
            pretrained=AutoModelForCausalLM.from_pretrained(tiny_model),
            tokenizer=AutoTokenizer.from_pretrained(tiny_model),
            batch_size=8,
        )
        manager = TaskManager(include_path="lm", include_defaults=False)
        found = lm_eval.simple_evaluate(model=model, tasks=["mill"], task_manager=manager)["results"]["mill"]
    capfd.readouterr()
    cell = stored()["columns"]["mill"]
    assert cell["value"] == pytest.approx(100 * found["acc,none"])
    assert cell["ci"][1] - cell["value"] == pytest.approx(196 * found["acc_stderr,none"])


@needed
def test_no_seed_of_the_caller_is_touched() -> None:
    import torch

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = drawn()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    find([str(write_lm_task(Path("lm")))], None)
    assert drawn() == expected


# ── stored once ──────────────────────────────────────────────────────────────────────────────────
@needed
def test_it_comes_to_a_run_that_is_there_and_is_asked_once(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = write_lm_task(Path("lm"))
    assert score(tiny_model).exit_code == 0
    before = stored()["columns"]
    assert score(tiny_model, "--utility", task).exit_code == 0
    assert before.items() < stored()["columns"].items()
    (kept,) = Path("results/cache/utility").iterdir()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the model is asked again")

    import lm_eval

    whole = stored()["columns"]
    with monkeypatch.context() as patch:
        patch.setattr(lm_eval, "evaluate", refuse)
        # A folder stands for the tasks in it; where they lie is no part of what is asked.
        assert score(tiny_model, "--utility", task.parent).exit_code == 0
        assert score(tiny_model, "--utility", task, name="other").exit_code == 0
    assert stored()["columns"] == stored("other")["columns"] == whole
    kept.write_text(kept.read_text().replace('"value": 0', '"value": 1'))
    again = score(tiny_model, "--utility", task)
    assert f"{kept} is damaged; it is computed again" in again.stderr
    assert stored()["columns"] == whole


@needed
def test_another_version_or_other_data_never_take_a_columns_place(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = write_lm_task(Path("lm"))
    assert score(tiny_model, "--utility", task).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr("muse_eval.scoring.utility.version", lambda: "0.9.9")
        refused = score(tiny_model, "--utility", task)
        assert refused.exit_code == 2
        assert "columns.mill.lm_eval" in refused.stderr
        assert "now 0.9.9" in refused.stderr
    refused = score(tiny_model, "--utility", write_lm_task(Path("lm"), ROWS[:5]))
    assert (refused.exit_code, "columns.mill.asked" in refused.stderr) == (2, True)
    refused = score(tiny_model)
    assert (refused.exit_code, "mill scored, now left out" in refused.stderr) == (2, True)


@needed
def test_a_limited_column_is_flagged(tiny_model: Path) -> None:
    done = score(tiny_model, "--utility", write_lm_task(Path("lm")), "--limit", 3, "--no-cache")
    assert done.exit_code == 0, done.stderr
    assert (stored()["columns"]["mill"]["n"], stored()["columns"]["mill"]["flags"]) == (3, ["limited"])
    assert not Path("results/cache").exists()


@needed
def test_a_group_is_one_column(tiny_model: Path) -> None:
    write_lm_task(Path("lm"))
    one, two = (write_lm_task(Path(f"lm/{n}"), ROWS[:n], task=f"mill_{n}") for n in (3, 5))
    for path in (one, two):
        path.replace(Path("lm") / f"{path.parent.name}.yaml")
    group = Path("lm/group.yaml")
    metrics = [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]
    group.write_text(
        yaml.safe_dump({"group": "mills", "task": ["mill_3", "mill_5"], "aggregate_metric_list": metrics})
    )
    assert score(tiny_model, "--utility", group).exit_code == 0
    cell = stored()["columns"]["mills"]
    expected = by_hand(tiny_model)
    assert cell["n"] == 8
    assert cell["value"] == pytest.approx(100 * np.mean([*expected[:3], *expected[:5]]))


@needed
def test_a_loaded_model_has_utility_columns_too(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result = muse_eval.evaluate(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        "village.yaml",
        tokenizer=AutoTokenizer.from_pretrained(tiny_model),
        data_dir="data",
        metrics=["verbmem_f"],
        utility=[str(write_lm_task(Path("lm")))],
    )
    assert result.columns["mill"].value == pytest.approx(100 * np.mean(by_hand(tiny_model)))


def test_what_is_kept_is_of_the_code_that_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from muse_eval.scoring import utility

    known = {"weights": "w", "tokenizer": "t", "dtype": "float32", "device": "cpu"}
    engine: Any = SimpleNamespace(provenance=known)
    before = utility._asked_of(engine)
    monkeypatch.setattr(utility, "code_digest", lambda what: f"another {what}")
    assert before != utility._asked_of(engine) == {**before, "code": "another utility"}


@needed
def test_a_model_without_finite_logits_has_no_utility(tiny_model: Path) -> None:
    from safetensors.numpy import load_file, save_file

    broken = Path(shutil.copytree(tiny_model, "broken")) / "model.safetensors"
    weights = load_file(broken)
    weights["model.norm.weight"][:] = 3e38  # Finite, and overflows.
    save_file(weights, broken, metadata={"format": "pt"})
    done = score(broken.parent, "--utility", write_lm_task(Path("lm")))
    assert done.exit_code == 0, done.stderr
    cell = stored()["columns"]["mill"]
    assert (cell["value"], cell["ci"], cell["n"]) == (None, None, len(NAMES))
    assert cell["reason"] == "the model's logits are not finite in 8 of 8 questions (first: mill[0])"
    result = load(Path("results/runs/village/m"))
    assert result is not None
    assert fault(result, deep=True) == ""
    assert score(broken.parent, "--utility", "lm/mill.yaml", name="kept").exit_code == 0
    assert stored("kept")["columns"]["mill"] == cell


# ── refused ──────────────────────────────────────────────────────────────────────────────────────
@needed
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": False}]},
            "none of its scores is a mean over questions that is better higher",
        ),
        ({"dataset_kwargs": {"data_files": {"test": "gone.json"}}}, "cannot read it"),
        ({"dataset_path": "nobody/nothing", "dataset_kwargs": {}}, "cannot read it"),
        ({"task": "verbmem_f"}, "the task has a column of that name already"),
        (
            {"doc_to_text": "{{who.nobody()}}"},
            "cannot read it ('str object' has no attribute",
        ),
    ],
)
def test_what_a_task_lacks_is_one_line(tiny_model: Path, changes: dict[str, Any], told: str) -> None:
    done = score(tiny_model, "--utility", write_lm_task(Path("lm"), **changes))
    assert done.exit_code == 2
    assert done.stderr.startswith("muse-eval: error: --utility ")
    assert done.stderr.count("\n") == 1
    assert told in done.stderr
    assert not Path("results/runs").exists()


@needed
def test_a_question_that_cannot_be_asked_is_one_line_and_leaves_no_run(tiny_model: Path) -> None:
    rows = [*ROWS, {"who": "Ivy", "choices": [], "gold": 0}]
    done = score(tiny_model, "--utility", write_lm_task(Path("lm"), rows))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--utility mill: lm-eval cannot score the model (" in done.stderr
    assert not Path("results/runs").exists()


@needed
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("gone.yaml", "does not exist"),
        ("data", "the folder holds no task of lm-eval"),
        ("lm,lm/mill.yaml", "names mill twice"),
        (" , ", "names nothing"),
    ],
)
def test_a_name_that_will_not_do_is_one_line(tiny_model: Path, wanted: str, told: str) -> None:
    write_lm_task(Path("lm"))
    done = score(tiny_model, "--utility", wanted)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr


@needed
def test_a_name_is_looked_up_and_the_nearest_told(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small folder: lm-eval reads 14,000 files to know its own."""
    from lm_eval.tasks import TaskManager

    write_lm_task(Path("lm"))
    small = TaskManager(include_path="lm", include_defaults=False)
    monkeypatch.setattr(lm_tasks, "_lm_evals_own", lambda: small)
    assert score(tiny_model, "--utility", "mill").exit_code == 0
    done = score(tiny_model, "--utility", "mil")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "lm-eval has no such task; did you mean mill? " in done.stderr


def test_without_lm_eval_it_is_one_line(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_tasks, "PACKAGE", "lm_eval_that_is_nowhere")
    done = score(tiny_model, "--utility", "arc_easy")
    assert done.exit_code == 2
    assert "--utility needs lm-eval, not installed here: in the checkout, pip install" in done.stderr
    with pytest.raises(UserError, match="needs lm-eval"):
        lm_tasks.version()


@needed
def test_another_engine_is_refused() -> None:
    from muse_eval.scoring.utility import plan_utility

    with pytest.raises(UserError, match="--utility needs --engine hf"):
        plan_utility(["arc_easy"], [], "server", None)
