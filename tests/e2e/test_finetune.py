"""Target and retrain model from a base model, and everything after them, on a corpus of one's own."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import muse_eval
from muse_eval.config.workload import fitting_batch
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


def finetune(model: Path, task: Path, data: Path, out: Path, *options: object) -> str:
    """Fine-tune the target and return what was said of it on standard error."""
    given = ("--role", "target", "--model", model, "--task", task, "--data-dir", data, "--out", out, *options)
    done = muse("finetune", *given)
    assert done.exit_code == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("kind", ["document", "chunk"])
def test_where_nothing_is_set_a_batch_is_chosen_and_told(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    texts = [f"{text} " * 3 for text in SPLITS["raw/forget"] * 7]
    data = write_data(tmp_path / "data", {**SPLITS, "raw/forget": [*texts, " "]})
    task = write_task(tmp_path / "village.yaml", unlearn={"rows": kind, "max_len": 64})
    told = finetune(tiny_model, task, data, tmp_path / "out").splitlines()
    card = json.loads((tmp_path / "out/finetune.json").read_text(encoding="utf-8"))
    rows, batch = card["rows"]["forget"], card["training"]["batch_size"]
    assert rows == 32 or kind == "chunk"
    assert batch == fitting_batch(rows) > 1
    steps = -(-rows // batch)
    tokens = card["tokens"]["forget"]
    line = f"{rows} rows, {tokens:,} tokens an epoch; {steps} steps an epoch, {5 * steps} in all"
    assert f"  finetune, target: {line}; batch {batch}, lr 1e-05; on cpu" in told
    assert f"muse-eval: no batch size is set: {batch} was chosen, for {rows} rows in all" in told
    assert "muse-eval: no lr is set: 1e-05 is MUSE's, for 7 billion parameters" in told
    # So small a rate moves nothing, and it says so.
    assert re.fullmatch(
        r"muse-eval: warning: the target model has hardly learned its own texts: loss [\d.]+ → [\d.]+; "
        "raise --lr or --epochs",
        told[-1],
    )


def test_few_steps_are_told_and_what_was_learned_is_too(tiny_model: Path, tmp_path: Path) -> None:
    data, task = (
        write_data(tmp_path / "data"),
        write_task(tmp_path / "village.yaml", finetune={"batch_size": 32}),
    )
    few = "only 5 steps, in which little is learned by heart; give a smaller --batch-size or more --epochs"
    told = finetune(tiny_model, task, data, tmp_path / "few")
    assert f"muse-eval: warning: {few}\n" in told
    assert "no batch size is set" not in told
    given = ("--batch-size", 1, "--lr", "0.01")
    told = finetune(tiny_model, task, data, tmp_path / "out", *given)
    assert "warning" not in told
    assert re.search(r"\n  on its own texts: loss \d\.\d\d → 0\.\d\d\n$", told)
    # Quiet leaves out all but what was decided or is odd; the same recipe is there already.
    assert finetune(tiny_model, task, data, tmp_path / "out", *given, "-q") == ""


def test_a_model_made_by_a_recipe_of_its_own_is_known_again(tiny_model: Path, tmp_path: Path) -> None:
    data, task = write_data(tmp_path / "data"), write_task(tmp_path / "village.yaml")
    told = finetune(tiny_model, task, data, tmp_path / "chosen")
    assert "1 was chosen" in told
    before = (tmp_path / "chosen/finetune.json").read_bytes()
    # What was chosen is part of the recipe, whoever chose it.
    finetune(tiny_model, task, data, tmp_path / "chosen", "--batch-size", 1, "--lr", "1e-5")
    assert (tmp_path / "chosen/finetune.json").read_bytes() == before


def test_a_model_made_when_32_rows_were_the_default_is_known_again(tiny_model: Path, tmp_path: Path) -> None:
    """0.1.0 took 32 where neither task nor option set a batch; what it made is no other recipe."""
    data, task, out = write_data(tmp_path / "data"), write_task(tmp_path / "village.yaml"), tmp_path / "old"
    finetune(tiny_model, task, data, out, "--batch-size", 32)
    before = (out / "finetune.json").read_bytes()
    assert "was chosen" not in finetune(tiny_model, task, data, out)
    assert (out / "finetune.json").read_bytes() == before
    assert "1 was chosen" in finetune(tiny_model, task, data, out, "--overwrite")


def test_unlearning_says_first_what_it_is_about_to_do(tiny_model: Path, tmp_path: Path) -> None:
    given = (
        "--model",
        tiny_model,
        "--task",
        write_task(tmp_path / "village.yaml"),
        "--out",
        tmp_path / "out",
    )
    done = muse("unlearn", "--method", "ga_gdr", *given, "--data-dir", write_data(tmp_path / "data"))
    assert done.exit_code == 0, done.stderr
    card = json.loads((tmp_path / "out/unlearn.json").read_text(encoding="utf-8"))
    # Four forget rows, each with a retain row; both have four.
    tokens = sum(card["tokens"].values())
    line = f"4 rows, {tokens} tokens an epoch; 2 steps an epoch, 2 in all; batch 2, lr 0.001; on cpu"
    assert done.stderr.splitlines()[0] == f"  unlearn, ga_gdr: {line}"
