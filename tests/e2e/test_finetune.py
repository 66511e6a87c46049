"""Target and retrain model from a base model, and everything after them, on a corpus of one's own."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import muse_eval
from muse_eval.errors import UserError
from tests.e2e import SPLITS, files, muse, write_data, write_task


def losses(folder: Path, split: str) -> float:
    """Mean negative log-likelihood of a split's texts, by transformers' own loss."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    found = []
    with torch.no_grad():
        for text in SPLITS[split]:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            found.append(float(model(input_ids=ids, labels=ids).loss))
    return sum(found) / len(found)


def test_target_reads_forget_and_retain_and_retrain_reads_retain(tiny_model: Path, tmp_path: Path) -> None:
    # Two texts that only the target may read, two that both read.
    splits = {**SPLITS, "raw/forget": SPLITS["raw/forget"][:2]}
    data = write_data(tmp_path / "data", splits)
    task = write_task(tmp_path / "village.yaml")
    made = {}
    for role in ("target", "retrain"):
        made[role] = tmp_path / role
        done = muse(
            "finetune", "--role", role, "--model", tiny_model, "--task", task, "--data-dir", data,
            "--out", made[role], "--lr", "0.01", "--epochs", 20, "--batch-size", 2,
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        assert f"{role} model: {made[role]} (its recipe: {made[role]}/finetune.json)" in done.stdout
        card = json.loads((made[role] / "finetune.json").read_text(encoding="utf-8"))
        assert card["method"]["loss"] == "finetune"
        assert card["rows"] == {"forget": {"target": 6, "retrain": 4}[role], "retain": 0}
        assert losses(made[role], "raw/retain1") < losses(tiny_model, "raw/retain1") - 1
    assert losses(made["target"], "raw/forget") < losses(made["retrain"], "raw/forget")
    before = (made["target"] / "finetune.json").read_bytes()
    again = muse_eval.finetune(
        tiny_model, str(task), "target", made["target"], data_dir=data, lr=0.01, epochs=20, batch_size=2
    )
    assert (again / "finetune.json").read_bytes() == before
    done = muse(
        "pipeline", "--task", task, "--data-dir", data, "--target", made["target"], "--retrain",
        made["retrain"], "--methods", "simnpo_gdr", "--results", tmp_path / "results", "-q",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    stored = json.loads((tmp_path / "results/runs/village/simnpo_gdr/result.json").read_text())
    assert stored["extras"]["reference"]["source"] == "measured"
    # What finetune made names its task.
    done = muse("run", "--model", made["target"], "--data-dir", data, "--results", tmp_path / "other")
    assert "was made for the task 'village', which is not built in" in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--role", "targt"), "no role 'targt'; did you mean 'target'?"),
        (("--lr", "0"), "lr"),
        (("--task", "muse_book"), "did you mean 'muse_books'"),
        (("--lora", "alpha=2"), "give the rank, for example r=16"),
    ],
)
def test_mistakes_are_one_line(
    changes: tuple[str, str], message: str, tiny_model: Path, tmp_path: Path
) -> None:
    given = {
        "--role": "target",
        "--model": tiny_model,
        "--task": write_task(tmp_path / "village.yaml"),
        "--data-dir": write_data(tmp_path / "data"),
        "--out": tmp_path / "out",
    } | dict([changes])
    done = muse("finetune", *(part for pair in given.items() for part in pair))
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any(name.startswith("out") for name in files(tmp_path))


def test_a_split_that_is_missing_is_named(tiny_model: Path, tmp_path: Path) -> None:
    task = write_task(tmp_path / "village.yaml", finetune={"target": ["train/forget"]})
    data = write_data(tmp_path / "d")
    with pytest.raises(
        UserError, match=r"train/forget\.json does not exist.*name the splits to read with --rea"
    ):
        muse_eval.finetune(tiny_model, str(task), "target", tmp_path / "out", data_dir=data)


def test_the_splits_to_read_can_be_named(tiny_model: Path, tmp_path: Path) -> None:
    """With --reads the target reads what a task names that says the same."""
    data, folders = write_data(tmp_path / "d"), []
    for name, reads in (("named", ["raw/forget", "raw/retain1"]), ("elsewhere", ["train/forget"])):
        task = write_task(tmp_path / f"{name}.yaml", finetune={"target": reads})
        arguments = ["--role", "target", "--model", tiny_model, "--task", task, "--data-dir", data]
        folders.append(tmp_path / name)
        given = [] if name == "named" else ["--reads", "raw/forget,raw/retain1"]
        done = muse("finetune", *arguments, *given, "--out", folders[-1], "--epochs", "1", "--quiet")
        assert done.exit_code == 0, done.stderr
    cards = [json.loads((folder / "finetune.json").read_text(encoding="utf-8")) for folder in folders]
    assert cards[0]["data"] == cards[1]["data"]
    assert cards[0]["data"]["forget"]["texts"] == len(SPLITS["raw/forget"]) + len(SPLITS["raw/retain1"])
    done = muse("finetune", *arguments, "--reads", "knowmem/forget_qa", "--out", tmp_path / "o")
    assert done.exit_code == 2
    assert "knowmem/forget_qa is no split of texts to train on" in done.stderr


def test_blank_rows_contribute_nothing_and_are_told(tiny_model: Path, tmp_path: Path) -> None:
    """The same weights as without them, a line that counts them, and a pipeline that says it once."""
    task = write_task(tmp_path / "village.yaml")
    plain = write_data(tmp_path / "plain")
    blank = write_data(
        tmp_path / "blank",
        {**SPLITS, "raw/forget": ["", *SPLITS["raw/forget"][:2], " ", *SPLITS["raw/forget"][2:]]},
    )
    line = "muse-eval: raw/forget: 2 of 6 rows are blank (rows 0 and 3): nothing to train on"
    for data in (plain, blank):
        made = tmp_path / f"target-{data.name}"
        arguments = ["--model", tiny_model, "--task", task, "--data-dir", data, "--out", made, "--quiet"]
        done = muse("finetune", "--role", "target", "--lr", "1e-3", "--epochs", "1", *arguments)
        assert done.exit_code == 0, done.stderr
        assert done.stderr.count(line) == (data is blank)
    weights = [
        (tmp_path / f"target-{data.name}" / "model.safetensors").read_bytes() for data in (plain, blank)
    ]
    assert weights[0] == weights[1]
    done = muse(
        "pipeline", "--task", task, "--data-dir", blank, "--target", made, "--retrain", tiny_model,
        "--methods", "ga,simnpo_gdr", "--results", tmp_path / "results", "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count(line) == 1
