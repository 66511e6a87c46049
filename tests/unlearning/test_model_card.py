"""An unlearned model's card: what it says, what the hub reads in it, and whose edits stay."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.results.runs import load
from muse_eval.scoring.which_task import task_of
from muse_eval.unlearning.model_card import README, add_scores, model_card
from tests.e2e import muse, other_model, write_data, write_task
from tests.results.test_tables import column, stored, with_cell

HOSTILE = "x|`<script>&\n---\nlicense: evil\x1b[31m"
CARD: dict[str, Any] = {
    "schema_version": 1,
    "fingerprint": "f" * 64,
    "method": {"loss": "simnpo", "params": {"beta": 0.7, "gamma": 0.0}, "retain": "nll", "lambda": 1.0},
    "target": {"revision": "c0ffee", "weights": "a" * 64, "tokenizer": "b" * 64},
    "data": {"forget": {"texts": 4, "sha256": "c" * 64}, "retain": {"texts": 2, "sha256": "d" * 64}},
    "lora": None,
    "optimizer": {"name": "AdamW"},
    "training": {"lr": 1e-05, "epochs": 10, "batch_size": 32, "max_len": 2048, "seed": 0, "dtype": "mixed"},
    "config": {
        "method": "simnpo_gdr",
        "model": "muse-bench/MUSE-Books_target",
        "task": "muse_books",
        "optim": "adamw",
        "tokenizer": None,
        "epochs": 10,
    },
}
DATA = {
    "source": "hub",
    "repo": "muse-bench/MUSE-Books",
    "revision": "abc",
    "sha256": {"raw/forget": "e" * 64},
}
COLUMNS = {"verbmem_f": {"title": "VerbMem Df", "metric": "verbmem"}}
RUN = with_cell(
    with_cell(
        stored("simnpo_gdr", 1.5, config={"data": DATA, "task": {"columns": COLUMNS}}),
        "privleak",
        column(-100.0, "saturated"),
    ),
    "knowmem_r",
    column(None, reason=HOSTILE),
)


def read(text: str, home: Path) -> tuple[dict[str, Any], list[EvalResult]]:
    """Return a card's metadata and its results, as the hub's own classes read them."""
    path = home / README
    path.write_text(text, encoding="utf-8")
    found = metadata_load(path)
    assert found is not None
    card = ModelCard.load(path)
    if "model-index" not in found:
        assert card.data.eval_results is None
        return found, []
    name, results = model_index_to_eval_results(found["model-index"])
    assert card.data.eval_results == results
    assert card.data.model_name == name
    return found, results


def test_the_hubs_classes_read_the_scores(tmp_path: Path) -> None:
    found, results = read(model_card("simnpo", CARD, RUN), tmp_path)
    assert found["base_model"] == "muse-bench/MUSE-Books_target"
    assert found["datasets"] == ["muse-bench/MUSE-Books"]
    assert (found["library_name"], found["pipeline_tag"]) == ("transformers", "text-generation")
    by_column = {result.metric_config: result for result in results}
    # What is undefined is no result.
    assert sorted(map(str, by_column)) == ["privleak", "verbmem_f"]
    verbmem = by_column["verbmem_f"]
    assert (verbmem.metric_type, verbmem.metric_name, verbmem.metric_value) == ("verbmem", "VerbMem Df", 1.5)
    assert verbmem.metric_args == {"unit": "percent", "ci95": [0.5, 2.5], "n": 100, "flags": []}
    assert (verbmem.dataset_type, verbmem.dataset_name) == ("muse-bench/MUSE-Books", "MUSE-Books")
    assert verbmem.dataset_revision == "abc"
    assert (by_column["privleak"].metric_args or {})["flags"] == ["saturated"]


def test_the_text_tells_how_it_was_made_and_what_the_flags_mean() -> None:
    text = model_card("simnpo", CARD, RUN)
    for said in (
        "| base model | muse-bench/MUSE-Books_target@c0ffee, weights SHA-256 aaa",
        "| method | simnpo_gdr: SimNPO (Fan et al., arXiv 2410.07163)",
        "| parameters | beta=0.7, gamma=0.0 |",
        f"| forget texts | 4, SHA-256 {'c' * 64} |",
        "| VerbMem Df | 1.50 | 0.50 to 2.50 | 100 |  |",
        "| PrivLeak | -100.00 | -101.00 to -99.00 | 100 | saturated |",
        "- saturated: PrivLeak is at its bound",
        "muse-eval unlearn --task muse_books --method simnpo_gdr --target muse-bench/MUSE-Books_target@c0",
        "--set beta=0.7",
    ):
        assert said in text, said


def test_without_scores_it_has_no_results(tmp_path: Path) -> None:
    text = model_card("simnpo", CARD, None)
    found, results = read(text, tmp_path)
    assert results == []
    assert "datasets" not in found
    assert "Not scored yet." in text
    # Texts of one's own have no command.
    assert "muse-eval unlearn" in text
    from_python = {**CARD, "config": {**CARD["config"], "task": None}}
    assert "```" not in model_card("simnpo", from_python, None)


def test_foreign_text_is_text(tmp_path: Path) -> None:
    card = {**CARD, "config": {**CARD["config"], "model": HOSTILE, "task": HOSTILE}}
    run = RUN.model_copy(update={"task": "t", "config": {"data": {**DATA, "repo": HOSTILE}}})
    text = model_card(HOSTILE, card, run)
    found, _ = read(text, tmp_path)
    assert "license" not in found
    assert "\x1b" not in text
    assert "<script" not in re.sub(r"^```\n.*?^```\n|^---\n.*?^---\n", "", text, flags=re.S | re.M).replace(
        "\\<", ""
    )
    assert len(re.findall(r"^```$", text, re.M)) == 2


def test_one_of_several_forget_sets_is_made_by_a_pipeline() -> None:
    made = {"fold": {"number": 2, "of": 3, "mode": "sequential"}}
    run = RUN.model_copy(update={"config": {**RUN.config, "made": made}})
    text = model_card("simnpo_gdr-2", CARD, run)
    assert (
        "muse-eval pipeline --task muse_books --methods simnpo_gdr --seeds 0 --training-dtype mixed" in text
    )
    assert "--set simnpo.beta=0.7" in text


def test_scores_go_in_and_an_edited_card_stays(tmp_path: Path) -> None:
    folder = tmp_path / "simnpo"
    folder.mkdir()
    (folder / "unlearn.json").write_text(json.dumps(CARD), encoding="utf-8")
    add_scores(folder, RUN)
    assert not (folder / README).exists()
    bare = model_card("simnpo", CARD, None)
    for before in (bare, model_card("simnpo", CARD, stored("simnpo_gdr", 2.0))):
        (folder / README).write_text(before, encoding="utf-8")
        add_scores(folder, RUN)
        assert (folder / README).read_text(encoding="utf-8") == model_card("simnpo", CARD, RUN)
    for edited in (bare.replace("---\n", "---\nlicense: mit\n", 1), f"{bare}More.\n", "# Mine\n"):
        (folder / README).write_text(edited, encoding="utf-8")
        add_scores(folder, RUN)
        assert (folder / README).read_text(encoding="utf-8") == edited


@pytest.mark.slow
def test_the_pipeline_scores_it_and_its_command_makes_it_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_task(Path("village.yaml"))
    write_data(Path("data"))
    other_model(tiny_model, tmp_path / "other")
    (tmp_path / tiny_model.name).symlink_to(tiny_model)
    call: tuple[str, ...] = (
        "pipeline",
        "--task",
        "village.yaml",
        "--data-dir",
        "data",
        "--methods",
        "simnpo_gdr",
        "-q",
    )
    call += ("--target", tiny_model.name, "--retrain", "other", "--lr", "1e-5", "--epochs", "2")
    done = muse(*call, "--select", "released", "--keep-checkpoints")
    assert done.exit_code == 0, done.output
    out = Path("results/models/village/simnpo_gdr")
    text = (out / README).read_text(encoding="utf-8")
    _, results = read(text, tmp_path)
    run = load(Path("results/runs/village/simnpo_gdr/epochs/2"))
    assert run is not None
    assert {one.metric_config: one.metric_value for one in results} == {
        name: column.value for name, column in run.columns.items() if column.value is not None
    }
    # The same again leaves it; the model's digest does not see it; its task is still found.
    before = find_checkpoint(str(out)).digest
    assert muse(*call, "--select", "released", "--keep-checkpoints").exit_code == 0
    assert (out / README).read_text(encoding="utf-8") == text
    with pytest.raises(Exception, match="made for the task 'village'"):
        task_of(str(out))
    (command,) = re.findall(r"^```\nmuse-eval (.*)\n```$", text, re.M)
    words = shlex.split(command)
    words[words.index("--out") + 1] = "again"
    done = muse(*words, "--data-dir", "data", "-q")
    assert done.exit_code == 0, done.output
    first, second = (json.loads((folder / "unlearn.json").read_text()) for folder in (out, Path("again")))
    assert first["fingerprint"] == second["fingerprint"]
    again = (Path("again") / README).read_text(encoding="utf-8")
    assert "Not scored yet." in again
    (out / README).unlink()
    assert find_checkpoint(str(out)).digest == before == find_checkpoint("again").digest
