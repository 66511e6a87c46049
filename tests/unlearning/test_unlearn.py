"""Unlearning from end to end on a tiny random Llama: recipe, log, refusal, resume after kill -9."""

import copy
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from muse_eval import plugins
from muse_eval.config.spec import fingerprint, parse_params
from muse_eval.config.task import UnlearnSpec, parse_task
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.engines.loading import LoadOptions, load_model, tokenizer_digest
from muse_eval.errors import DivergedError, UserError
from muse_eval.types import ActivationMethod
from muse_eval.unlearning import cards, objectives, retain, rows
from muse_eval.unlearning.recipe import UnlearnConfig, configure
from muse_eval.unlearning.training import learner, output
from muse_eval.unlearning.training.assemble import check_weights
from muse_eval.unlearning.training.train import unlearn

WORDS = [f"w{index}" for index in range(40)]
FORGET = [" ".join(WORDS[(3 * row + step) % 20] for step in range(12)) for row in range(6)]
RECIPE = ("method", "target", "data", "lora", "dropped", "optimizer", "training", "code")
"""What of ``unlearn.json`` its fingerprint is taken over."""
RETAIN = [" ".join(WORDS[20 + (row + 7 * step) % 20] for step in range(9)) for row in range(4)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_target(folder: Path, tied: bool = False, width: int = 16) -> Path:
    """Save a random Llama (9 k parameters at width 16) with a word tokenizer that puts BOS in front."""
    vocabulary = {word: index for index, word in enumerate(["<s>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def knowing(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same Llama after it has learnt forget and retain texts by heart."""
    folder = tmp_path_factory.mktemp("knowing")
    tokenizer = AutoTokenizer.from_pretrained(target)
    model = LlamaForCausalLM.from_pretrained(target)
    batch = rows.pad([tokenizer(text)["input_ids"] for text in FORGET + RETAIN])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = retain.nll(objectives.logps(model, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert forget_logp(folder) > -4
    return folder


def config_for(target: Path, method: str = "simnpo", **changes: Any) -> UnlearnConfig:
    small = {"lr": 1e-2, "epochs": 3, "batch_size": 4, "max_len": 16, "rows": "document"}
    return configure(**{"method": method, "model": str(target), **small, **changes})


def forget_logp(folder: Path, tokenizer_folder: Path | None = None) -> float:
    """Mean log-probability of the forget texts, one at a time."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder or folder)
    model = load_model(find_checkpoint(str(folder), composed=True), LoadOptions())
    sums = []
    with torch.no_grad():
        for text in FORGET:
            batch = rows.pad([tokenizer(text)["input_ids"]])
            sums.append(float(objectives.logps(model, batch).total))
    return sum(sums) / len(sums)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in plugins.method_names() if "@released" not in name])
def test_forget_text_becomes_less_likely(knowing: Path, tmp_path: Path, method: str) -> None:
    config = config_for(knowing, method, **NEEDS.get(method, {}))
    out = unlearn(config, FORGET, RETAIN, tmp_path / "out")
    assert forget_logp(out) < forget_logp(knowing) - 0.5
    assert not output.partial(out).exists()
    assert not (out / "checkpoints").exists()


def test_card_holds_the_recipe(target: Path, tmp_path: Path) -> None:
    config = config_for(target, "simnpo_gdr", params={"beta": 0.5}, lambda_=2.0, task="some_task")
    out = unlearn(config, FORGET, RETAIN, tmp_path / "out")
    card = json.loads((out / "unlearn.json").read_text(encoding="utf-8"))
    assert card["method"] == {
        "loss": "simnpo",
        "params": {"beta": 0.5, "gamma": 0.0},
        "retain": "nll",
        "lambda": 2.0,
    }
    tokenizer = tokenizer_digest(AutoTokenizer.from_pretrained(target))
    weights = find_checkpoint(str(target)).digest
    assert card["target"] == {"revision": None, "weights": weights, "tokenizer": tokenizer}
    assert card["config"]["model"] == str(target)
    assert card["training"]["dtype"] == "float32"
    assert card["config"]["lr"] == 1e-2
    assert card["config"]["lambda"] == 2.0
    assert card["config"]["task"] == "some_task"
    assert card["steps"] == 6  # 3 epochs of 6 rows in batches of 4
    assert card["rows"] == {"forget": 6, "retain": 4}
    # 6 texts of 12 words and 4 of 9, each with BOS.
    assert card["tokens"] == {"forget": 78, "retain": 40}
    assert {"muse-eval", "torch", "transformers", "accelerate"} <= set(card["versions"])
    assert card["seconds"] > 0
    assert len(card["data"]["forget"]["sha256"]) == len(card["data"]["retain"]["sha256"]) == 64
    assert sorted(entry.name for entry in out.iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "log.jsonl",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "unlearn.json",
    ]


def test_log_has_a_line_a_step_and_progress_is_told(target: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    out = unlearn(
        config_for(target, "simnpo_gdr", lambda_=2.0),
        FORGET,
        RETAIN,
        tmp_path / "out",
        progress=lambda _, done, total: told.append((done, total)),
    )
    log = output.read_log(out / "log.jsonl")
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in log] == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3])
    assert told == [(step, 6) for step in range(1, 7)]
    for line in log:
        assert line["loss"] == pytest.approx(line["forget_loss"] + 2.0 * line["retain_loss"], rel=1e-5)
        assert line["lr"] == 1e-2
        assert line["seconds"] > 0
    # 4 forget rows of 12 targets, 4 retain rows of 9: BOS is none.
    assert log[0]["tokens_per_second"] * log[0]["seconds"] == pytest.approx(4 * 12 + 4 * 9)


def test_rerun_returns_at_once_and_another_recipe_is_refused(target: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unlearn(config_for(target, epochs=1), FORGET, [], out)
    before = (out / "unlearn.json").stat().st_mtime_ns
    assert unlearn(config_for(target, epochs=1), FORGET, RETAIN, out) == out  # retain text plays no part
    assert (out / "unlearn.json").stat().st_mtime_ns == before
    for changed, texts, told in (
        (config_for(target, epochs=2), FORGET, "epochs 1, now 2"),
        (config_for(target, epochs=1, lr=2e-5), FORGET, r"lr \S+, now 2e-5"),
        (config_for(target, epochs=1), FORGET[:3], rf"data\.forget\.texts {len(FORGET)}, now 3; data.*"),
    ):
        with pytest.raises(UserError, match=rf"another recipe \({told}\); choose another --out or --over"):
            unlearn(changed, texts, [], out)
    with pytest.raises(UserError, match="without its checkpoints"):
        unlearn(config_for(target, epochs=1), FORGET, [], out, keep_checkpoints=True)
    unlearn(config_for(target, epochs=2), FORGET, [], out, overwrite=True, keep_checkpoints=True)
    assert cards.read_json(out / "unlearn.json")["config"]["epochs"] == 2
    kept = sorted(entry.name for entry in (out / "checkpoints").iterdir())
    assert kept == ["checkpoint-2", "checkpoint-4"]
    assert same(weights(out / "checkpoints" / "checkpoint-4"), weights(out))
    assert forget_logp(out / "checkpoints" / "checkpoint-2") > forget_logp(out)


def test_a_model_of_older_code_is_kept_and_told(target: Path, tmp_path: Path) -> None:
    """An upgrade of muse-eval changes the recipe's code digest and nothing else."""
    out, told = tmp_path / "out", list[str]()
    unlearn(config_for(target, epochs=1), FORGET, [], out, note=told.append)
    assert told == []
    card = cards.read_json(out / "unlearn.json")
    older = {**card, "code": "0" * 64}
    older["fingerprint"] = fingerprint({key: older[key] for key in RECIPE})
    cards.write_json(out / "unlearn.json", older)
    assert unlearn(config_for(target, epochs=1), FORGET, [], out, note=told.append) == out
    assert told == [f"{out} was made by another version of muse-eval; --overwrite makes it again"]
    assert cards.read_json(out / "unlearn.json") == older
    with pytest.raises(UserError, match=r"another recipe \(epochs 1, now 2; muse-eval's code 0"):
        unlearn(config_for(target, epochs=2), FORGET, [], out)


def test_what_unlearn_did_not_make_is_never_overwritten(target: Path, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="not made by muse-eval"):
            unlearn(config_for(target), FORGET, [], out, overwrite=overwrite)
    with pytest.raises(UserError, match="is the model to start from"):
        unlearn(config_for(target), FORGET, [], target, overwrite=True)
    with pytest.raises(UserError, match="names no folder"):
        unlearn(config_for(target), FORGET, [], Path(".."))
    assert (out / "chapter").read_text() == "precious"


@pytest.mark.parametrize(("rows_in_all", "micro"), [(8, 2), (7, 2), (5, 4)])
def test_accumulation_equals_the_whole_batch(
    target: Path, tmp_path: Path, rows_in_all: int, micro: int
) -> None:
    """The mean is over the step's rows, whichever way they are split, uneven last micro-batches too."""
    texts = (FORGET + FORGET)[:rows_in_all]
    whole, parts = (
        unlearn(
            config_for(target, batch_size=8, micro_batch_size=size, epochs=2, lr=1e-3),
            texts,
            [],
            tmp_path / f"{size}",
        )
        for size in (8, micro)
    )
    for left, right in zip(
        output.read_log(whole / "log.jsonl"), output.read_log(parts / "log.jsonl"), strict=True
    ):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-5)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-4)


RUN = """
import os, signal, sys
from pathlib import Path
from muse_eval import late
late.start()
import torch
torch.set_num_threads(1)
from muse_eval.unlearning.training import output, seals
from muse_eval.unlearning.training.train import unlearn
import test_unlearn as t
target, out, method, kill = sys.argv[1:]
marked = seals.complete
def complete(checkpoint, drop_older):
    # Dies with its second checkpoint written but not marked as complete.
    if kill == "yes" and output.step_of(checkpoint) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    marked(checkpoint, drop_older)
seals.complete = complete
unlearn(t.config_for(Path(target), method), t.FORGET, t.RETAIN, Path(out))
"""


def run_elsewhere(target: Path, out: Path, method: str, kill: bool) -> int:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, str(target), str(out), method, "yes" if kill else "no"]
    return subprocess.run(command, env=environment, check=False, timeout=120).returncode


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npo_klr"])
def test_killed_run_resumes_to_the_same_weights(target: Path, tmp_path: Path, method: str) -> None:
    """kill -9, then the same call: equal to the bit, NPO's reference and KL's target being the start's."""
    whole = unlearn(config_for(target, method), FORGET, RETAIN, tmp_path / "whole")
    out = tmp_path / "killed"
    assert run_elsewhere(target, out, method, kill=True) == -9
    assert not out.exists()
    partial = output.partial(out)
    assert (partial / "checkpoints" / "checkpoint-2" / "complete").exists()
    assert not (partial / "checkpoints" / "checkpoint-4" / "complete").exists()
    assert len(output.read_log(partial / "log.jsonl")) == 4
    with pytest.raises(
        UserError, match=rf"begun with another recipe \(method {method.split('_')[0]}, now ga;"
    ):
        unlearn(config_for(target, "ga"), FORGET, [], out)
    steps: list[int] = []
    told: list[str] = []

    def progress(_: str, done: int, __: int) -> None:
        steps.append(done)

    unlearn(config_for(target, method), FORGET, RETAIN, out, progress=progress, note=told.append)
    assert steps == [3, 4, 5, 6]
    assert told == ["goes on from epoch 1 of 3, step 2 of 6"]
    assert same(weights(out), weights(whole))
    assert [line["step"] for line in output.read_log(out / "log.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert not partial.exists()


def test_run_killed_before_its_end_is_only_finished(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the last checkpoint, then again before the rename: no step is run twice."""
    whole = unlearn(config_for(target), FORGET, [], tmp_path / "whole")
    out, steps = tmp_path / "out", []

    def go() -> None:
        unlearn(config_for(target), FORGET, [], out, progress=lambda _, done, __: steps.append(done))

    for module, where in ((output, "finish"), (output, "appear")):
        with monkeypatch.context() as patch:

            def stop(*_: Any) -> None:
                raise KeyboardInterrupt

            patch.setattr(module, where, stop)
            with pytest.raises(KeyboardInterrupt):
                go()
    assert not out.exists()
    last = output.checkpoint(output.partial(out), 6)
    # No step follows that would need the optimiser's states.
    assert {path.name for path in last.iterdir()} >= {"model.safetensors", "complete", "trainer_state.json"}
    assert not [*last.glob("optimizer*"), *last.glob("rng_state*")]
    go()
    assert steps == [1, 2, 3, 4, 5, 6]
    assert same(weights(out), weights(whole))
    assert not (out / "recipe.json").exists()
    assert not (out / "checkpoints").exists()
    assert len(output.read_log(out / "log.jsonl")) == 6


def test_a_last_step_to_no_numbers_finishes_no_model(target: Path, tmp_path: Path) -> None:
    """No loss is taken after it: without a look at the weights the model would be done, and know nothing."""
    folder = tmp_path / "out.partial"
    shutil.copytree(target, folder)
    check_weights(folder)
    held = weights(folder)
    held["model.norm.weight"][2] = float("inf")
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        DivergedError, match="the last step left weights that are NaN or infinite; try a smaller"
    ):
        check_weights(folder)


def test_loss_that_is_no_number_stops_at_its_step(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = learner.Unlearner.compute_loss

    def broken(self: learner.Unlearner, *given: Any, **named: Any) -> Any:
        self.lambda_ = float("nan") if self.state.global_step == 2 else 1.0
        return real(self, *given, **named)

    monkeypatch.setattr(learner.Unlearner, "compute_loss", broken)
    out = tmp_path / "out"
    with pytest.raises(
        UserError, match=r"the loss is nan at step 3 \(forget rows \d, \d, \d, \d\); try a smaller --lr"
    ):
        unlearn(config_for(target, "ga_gdr"), FORGET, RETAIN, out)
    assert not out.exists()
    kept = output.partial(out) / "checkpoints" / "checkpoint-2"
    assert (kept / "complete").exists()
    assert all(bool(tensor.isfinite().all()) for tensor in weights(kept).values())


@pytest.mark.parametrize("kilobytes", [10, 60])
def test_full_disk_is_one_line_and_leaves_nothing_at_out(
    target: Path, tmp_path: Path, kilobytes: int
) -> None:
    """A limit on file sizes stands in for the disk: 10 kB stops the weights, 60 kB the optimizer's state."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "out"
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, hard))
    try:
        with pytest.raises(UserError, match="cannot write to") as caught:
            unlearn(config_for(target), FORGET, [], out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert not out.exists()
    unlearn(config_for(target), FORGET, [], out)
    assert (out / "unlearn.json").exists()


def test_out_that_cannot_be_made(target: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        unlearn(config_for(target), FORGET, [], tmp_path / "file" / "out")


def test_simnpo_never_has_a_reference(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 3: no second model and no reference pass; KL copies the target once, NPO passes over it once."""
    made: list[str] = []
    deepcopy, reference = copy.deepcopy, learner.Unlearner.reference

    def copying(thing: Any, *rest: Any) -> Any:
        if isinstance(thing, torch.nn.Module):
            made.append("copy")
        return deepcopy(thing, *rest)

    def referring(self: learner.Unlearner, *given: Any) -> list[float]:
        made.append("reference")
        return reference(self, *given)

    monkeypatch.setattr(copy, "deepcopy", copying)
    monkeypatch.setattr(learner.Unlearner, "reference", referring)
    for method, expected in (("simnpo_gdr", set()), ("npo", {"reference"}), ("ga_klr", {"copy"})):
        made.clear()
        unlearn(config_for(target, method, epochs=1), FORGET, RETAIN, tmp_path / method)
        assert set(made) == expected


@pytest.mark.slow
def test_a_model_made_of_two_is_not_unlearned_further(knowing: Path, tmp_path: Path) -> None:
    made = unlearn(config_for(knowing, "whp"), FORGET, [], tmp_path / "whp")
    parts = [forget_logp(made / part, knowing) for part in ("target", "reinforced")]
    assert parts[0] == pytest.approx(forget_logp(knowing))
    assert parts[1] > parts[0]
    with pytest.raises(UserError, match="so it can only be scored"):
        unlearn(config_for(made, "ga"), FORGET, [], tmp_path / "again")
    with pytest.raises(UserError, match="makes its model after the last epoch; leave --keep-checkpoints out"):
        unlearn(config_for(knowing, "whp"), FORGET, [], tmp_path / "kept", keep_checkpoints=True)


NEEDS: dict[str, dict[str, Any]] = {
    "rmu": {"params": {"layer": 0, "alpha": 0.0, "c": 500.0}, "epochs": 60, "lr": 0.1},
    "whp": {"params": {"alpha": 30.0}},
}
"""What a model this small asks for, where a method's own values are far from it."""


@pytest.mark.slow
def test_rmu_trains_nothing_but_its_matrices(knowing: Path, tmp_path: Path) -> None:
    out = unlearn(config_for(knowing, "rmu", params={"layer": 0}, epochs=1), FORGET, RETAIN, tmp_path / "out")
    before, after = weights(knowing), weights(out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"model.layers.0.mlp.down_proj.weight"}
    with pytest.raises(UserError, match="layer 1 is not below the last of the model's 2 layers"):
        unlearn(config_for(knowing, "rmu", params={"layer": 1}), FORGET, RETAIN, tmp_path / "beyond")


def test_activations_are_a_layers_output(knowing: Path) -> None:
    """The same tensor that a hook on the decoder's layer sees."""
    seen: list[torch.Tensor] = []
    model = LlamaForCausalLM.from_pretrained(knowing)
    model.model.layers[0].register_forward_hook(lambda _module, _inputs, made: seen.append(made))
    batch = rows.pad([[0, 5, 6, 7], [0, 8]])
    method = plugins.method("rmu")[1]
    assert isinstance(method, ActivationMethod)
    found = objectives.activations(model, batch, method, method.params(layer=0))
    assert torch.equal(found, seen[0])


@pytest.mark.slow
def test_the_released_npo_begins_at_its_reference(knowing: Path, tmp_path: Path) -> None:
    """Policy and target agree, so every logit gives −(2/β) log σ(0) = 20 · 0.693147 = 13.86294."""
    out = unlearn(config_for(knowing, "npo_gdr@released", epochs=1), FORGET, RETAIN, tmp_path / "out")
    first = output.read_log(out / "log.jsonl")[0]
    assert first["forget_loss"] == pytest.approx(13.86294, abs=1e-4)


def test_mixed_precision_runs_on_a_cpu_and_is_another_recipe(target: Path, tmp_path: Path) -> None:
    mixed = unlearn(config_for(target, epochs=1, dtype="mixed"), FORGET, [], tmp_path / "mixed")
    plain = unlearn(config_for(target, epochs=1), FORGET, [], tmp_path / "plain")
    assert cards.read_json(mixed / "unlearn.json")["training"]["dtype"] == "mixed"
    for name, tensor in weights(plain).items():
        assert torch.allclose(tensor, weights(mixed)[name], atol=0.03), name
    assert not same(weights(plain), weights(mixed))


def test_what_accelerate_was_told_does_not_change_the_precision(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = unlearn(config_for(target, epochs=1), FORGET, [], tmp_path / "plain")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    told = unlearn(config_for(target, epochs=1), FORGET, [], tmp_path / "told")
    assert same(weights(plain), weights(told))


@pytest.mark.slow
def test_a_model_frozen_before_is_trained_whole(knowing: Path, tmp_path: Path) -> None:
    model, tokenizer = LlamaForCausalLM.from_pretrained(knowing), AutoTokenizer.from_pretrained(knowing)
    model.requires_grad_(False)
    out = unlearn(config_for(knowing, "ga"), FORGET, [], tmp_path / "out", model=model, tokenizer=tokenizer)
    before, after = weights(knowing), weights(out)
    assert not any(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["task_vector", "whp"])
def test_what_is_put_together_survives_a_stop(
    knowing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Stopped after the model was put together and before its card: the same files in the end."""
    whole = unlearn(config_for(knowing, method), FORGET, [], tmp_path / "whole")
    real = cards.write_json

    def stop(path: Path, value: Any) -> None:
        if path.name == cards.CARD:
            raise KeyboardInterrupt
        real(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(output, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            unlearn(config_for(knowing, method), FORGET, [], tmp_path / "out")
    out = unlearn(config_for(knowing, method), FORGET, [], tmp_path / "out")
    found = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert found == sorted(path.relative_to(out) for path in out.rglob("*.safetensors"))
    for name in found:
        assert same(load_file(whole / name), load_file(out / name))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["task_vector", "whp"])
def test_a_loaded_target_is_put_together_as_a_named_one(knowing: Path, tmp_path: Path, method: str) -> None:
    """With adapters too, which are put on after the target is set aside."""
    named = unlearn(config_for(knowing, method, lora="r=2"), FORGET, [], tmp_path / "named")
    model, tokenizer = LlamaForCausalLM.from_pretrained(knowing), AutoTokenizer.from_pretrained(knowing)
    config = config_for(knowing, method, lora="r=2").model_copy(update={"model": "in memory"})
    given = unlearn(config, FORGET, [], tmp_path / "given", model=model, tokenizer=tokenizer)
    assert forget_logp(given) == pytest.approx(forget_logp(named), abs=1e-5)


def test_first_loss_is_npos_at_its_reference(target: Path, tmp_path: Path) -> None:
    """(2/β) log 2 = 20 · 0.693147 = 13.86294; and the target's KL to itself is 0."""
    out = unlearn(config_for(target, "npo_klr", epochs=1), FORGET, RETAIN, tmp_path / "out")
    first = output.read_log(out / "log.jsonl")[0]
    assert first["forget_loss"] == pytest.approx(13.86294, abs=1e-4)
    assert first["retain_loss"] == pytest.approx(0, abs=1e-6)


def test_retain_term_keeps_the_retain_text(target: Path, tmp_path: Path) -> None:
    losses = {}
    for weight in (0.0, 5.0):
        config = config_for(target, "simnpo_gdr", lambda_=weight, epochs=6)
        log = output.read_log(unlearn(config, FORGET, RETAIN, tmp_path / f"{weight}") / "log.jsonl")
        losses[weight] = log[-1]["retain_loss"]
    assert losses[5.0] < losses[0.0] - 0.2


def test_a_loaded_model_and_tokenizer_can_be_given(target: Path, tmp_path: Path) -> None:
    named = unlearn(config_for(target), FORGET, [], tmp_path / "named")
    config = config_for(target).model_copy(update={"model": "in memory"})
    model, tokenizer = LlamaForCausalLM.from_pretrained(target), AutoTokenizer.from_pretrained(target)
    given = unlearn(config, FORGET, [], tmp_path / "given", model=model, tokenizer=tokenizer)
    assert same(weights(named), weights(given))


def test_gradient_checkpointing_changes_nothing(target: Path, tmp_path: Path) -> None:
    plain = unlearn(config_for(target, epochs=1), FORGET, [], tmp_path / "plain")
    config = config_for(target, epochs=1, gradient_checkpointing=True)
    saving = unlearn(config, FORGET, [], tmp_path / "saving")
    for name, tensor in weights(plain).items():
        assert torch.allclose(tensor, weights(saving)[name], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0}, "unlearn: lr"),
        ({"lr": -1e-5}, "unlearn: lr"),
        ({"method": "simnpo_gdr", "lambda_": -0.1}, "unlearn: lambda"),
        ({"epochs": 0}, "unlearn: epochs"),
        ({"batch_size": 0}, "unlearn: batch_size"),
        ({"max_len": 1}, "unlearn: max_len"),
        ({"rows": "lines"}, "unlearn: rows"),
        ({"learning_rate": 1}, "unlearn: no key 'learning_rate'"),
        ({"params": {"beta": 0}}, "method simnpo: beta"),
        ({"params": {"bta": 1}}, "did you mean 'beta'"),
        ({"method": "simpno"}, "did you mean 'simnpo'"),
        ({"micro_batch_size": 3}, "--micro-batch-size 3 does not divide the 4 rows"),
        ({"max_len": 100, "rows": "chunk"}, "lower --max-len"),
        ({"model": "./nowhere", "tokenizer": "TARGET"}, "model folder ./nowhere does not exist"),
        ({"tokenizer": "./nowhere"}, "--tokenizer ./nowhere holds no tokenizer"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    target: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    changes = {key: str(target) if value == "TARGET" else value for key, value in changes.items()}
    with pytest.raises(UserError, match=message) as caught:
        unlearn(config_for(target, **changes), FORGET * 2, RETAIN, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_retain_term_without_retain_text_is_refused(target: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the retain data is empty"):
        unlearn(config_for(target, "simnpo_gdr"), FORGET, [], tmp_path / "out")


def test_tokenizer_of_another_model_is_refused(target: Path, tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=10, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model, tokenizer = LlamaForCausalLM(config), AutoTokenizer.from_pretrained(target)
    with pytest.raises(UserError, match="outside the model's vocabulary of 10; name its own --tokenizer"):
        unlearn(config_for(target), FORGET, [], tmp_path / "out", model=model, tokenizer=tokenizer)


def test_where_the_target_lies_and_how_memory_is_saved_are_no_part_of_the_recipe(
    target: Path, tmp_path: Path
) -> None:
    out = unlearn(config_for(target), FORGET, [], tmp_path / "out")
    before = (out / "unlearn.json").read_bytes()
    moved = tmp_path / "moved"
    shutil.copytree(target, moved)
    unlearn(config_for(moved, micro_batch_size=2, gradient_checkpointing=True), FORGET, [], out)
    assert (out / "unlearn.json").read_bytes() == before


def test_another_tokenizer_beside_the_same_weights_is_another_recipe(target: Path, tmp_path: Path) -> None:
    unlearn(config_for(target), FORGET, [], tmp_path / "out")
    other = tmp_path / "other"
    shutil.copytree(target, other)
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]})
    tokenizer.save_pretrained(other)
    with pytest.raises(
        UserError, match=r"another recipe \(target\.tokenizer [0-9a-f]{8}, now [0-9a-f]{8}\);"
    ):
        unlearn(config_for(other), FORGET, [], tmp_path / "out")


@pytest.mark.parametrize("method", ["ga_gdr", "ga_klr"])
def test_rows_of_unlike_length_do_not_see_the_micro_batch(target: Path, tmp_path: Path, method: str) -> None:
    forget = [text * (1 + index % 3) for index, text in enumerate(FORGET)]
    whole = unlearn(config_for(target, method, epochs=1), forget, RETAIN, tmp_path / "whole")
    parts = unlearn(
        config_for(target, method, epochs=1, micro_batch_size=1), forget, RETAIN, tmp_path / "parts"
    )
    for name, tensor in weights(whole).items():
        assert torch.allclose(tensor, weights(parts)[name], atol=2e-5), name


def test_another_model_in_memory_is_another_recipe(target: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(target)
    models = [LlamaForCausalLM.from_pretrained(target) for _ in range(2)]
    with torch.no_grad():
        models[1].model.embed_tokens.weight += 1e-3
    unlearn(config_for(target), FORGET, [], tmp_path / "out", model=models[0], tokenizer=tokenizer)
    with pytest.raises(UserError, match="another --out"):
        unlearn(config_for(target), FORGET, [], tmp_path / "out", model=models[1], tokenizer=tokenizer)


def test_broken_weights_are_refused_as_such(target: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(target, broken)
    (broken / "model.safetensors").write_bytes((target / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(UserError, match="truncated or corrupt"):
        unlearn(config_for(broken), FORGET, [], tmp_path / "out")


def test_defaults_are_the_cards() -> None:
    config = configure(method="simnpo_gdr", model="somebody/model")
    assert (config.lr, config.batch_size, config.lambda_, config.epochs) == (1e-5, 32, 1.0, 10)
    assert (config.max_len, config.rows, config.dtype) == (2048, "chunk", "auto")
    assert configure(method="ga_gdr", model="m", **{"lambda": 2}).lambda_ == 2


def test_a_tasks_values_stand_under_the_given_ones() -> None:
    spec = UnlearnSpec.model_validate(
        {"lr": 2e-4, "epochs": 2, "lambda": 3, "max_len": 512, "methods": {"simnpo": {"beta": 2, "gamma": 1}}}
    )
    config = configure(spec, method="simnpo_gdr", model="m", epochs=5, lr=None, params={"gamma": 0.5})
    assert (config.lr, config.epochs, config.lambda_, config.max_len) == (2e-4, 5, 3.0, 512)
    assert config.params == {"beta": 2, "gamma": 0.5}
    assert configure(spec, method="ga_gdr", model="m", **{"lambda": 0}).lambda_ == 0
    assert configure(spec, method="ga", model="m").params == {}


def test_what_a_task_says_of_one_method_stands_over_what_it_says_of_all() -> None:
    """The full name goes before the file's; options and presets go before both."""
    spec = UnlearnSpec.model_validate(
        {
            "lr": 2e-4,
            "epochs": 2,
            "lambda": 3,
            "methods": {
                "simnpo": {"beta": 2, "lr": 1e-4, "batch_size": 4},
                "simnpo_gdr": {"lr": 3e-4, "lambda": 0},
            },
        }
    )
    config = configure(spec, method="simnpo_gdr", model="m")
    assert (config.lr, config.epochs, config.batch_size, config.lambda_) == (3e-4, 2, 4, 0)
    assert config.params == {"beta": 2}
    assert configure(spec, method="simnpo_klr", model="m").lr == 1e-4
    assert configure(spec, method="ga_gdr", model="m").lr == 2e-4
    given = configure(spec, method="simnpo_gdr", model="m", lr=9e-4, lambda_=1)
    assert (given.lr, given.lambda_, given.batch_size) == (9e-4, 1, 4)
    assert configure(spec, method="simnpo_gdr", model="m", preset="card-books").lr == 1e-5


COLUMNS = "{c: {title: C, metric: verbmem, goal: lower, splits: {forget: verbmem/forget}}}"


@pytest.mark.parametrize("value", ["lr: 0", "epochs: 1.5", "batch_size: 0", "lambda: -1"])
def test_a_methods_own_settings_have_the_bounds_of_all(value: str) -> None:
    text = f"name: t\ntitle: T\nsource: s\ndata: {{source: builtin}}\ncolumns: {COLUMNS}\n"
    with pytest.raises(UserError, match=f"unlearn.methods.npo.{value.partition(':')[0]}"):
        parse_task(f"{text}unlearn: {{methods: {{npo: {{{value}}}}}}}", "t.yaml")


def test_a_preset_stands_over_the_task_and_under_what_is_given() -> None:
    spec = UnlearnSpec.model_validate(
        {"lr": 2e-4, "lambda": 3, "methods": {"simnpo": {"beta": 2, "gamma": 1}}}
    )
    config = configure(spec, method="simnpo_gdr", model="m", preset="card-books", lambda_=0.5)
    assert (config.lr, config.lambda_, config.preset) == (1e-5, 0.5, "card-books")
    assert config.params == {"beta": 0.7, "gamma": 0.0}
    assert configure(
        spec, method="simnpo_gdr", model="m", preset="card-books", params={"beta": 1}
    ).params == {
        "beta": 1,
        "gamma": 0.0,
    }
    paper = configure(method="npo_klr", model="m", preset="paper-muse")
    assert (paper.lr, paper.batch_size, paper.epochs, paper.max_len) == (1e-5, 32, 10, 2048)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "card-book"}, "did you mean 'card-books'"),
        (
            {"preset": "card-books", "method": "npo_gdr"},
            "preset card-books is for simnpo_gdr, not for npo_gdr",
        ),
        (
            {"method": "simnpo", "lambda": 2},
            "λ weighs a retain term, and simnpo takes none beside it; use simnpo_gdr",
        ),
        ({"method": "rmu", "lambda": 2}, "rmu takes none beside it"),
        ({"method": "rmu_gdr"}, "method rmu has no retain term to add; use rmu"),
    ],
)
def test_presets_and_weights_that_do_not_fit_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configure(**{"method": "simnpo_gdr", "model": "m", **values})


@pytest.mark.parametrize("name", plugins.presets())
def test_every_preset_fits_its_methods(name: str) -> None:
    preset = plugins.presets()[name]
    assert preset.source
    for method in preset.methods or plugins.method_names():
        config = configure(method=method, model="m", preset=name)
        stem, found, _ = plugins.method(method)
        assert config.params == preset.params.get(stem, {})
        parse_params(found.params, config.params, method)


def test_two_runs_do_not_share_a_folder(target: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        output.claimed(output.partial(out)),
        pytest.raises(UserError, match="is in use by another run"),
    ):
        unlearn(config_for(target), FORGET, [], out)
    assert unlearn(config_for(target), FORGET, [], out) == out


def test_overwrite_drops_what_another_recipe_began(target: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    partial = output.partial(out)
    (partial / "checkpoints" / "checkpoint-9").mkdir(parents=True)
    (partial / "checkpoints" / "checkpoint-9" / "complete").touch()
    (partial / "recipe.json").write_text('{"another": "recipe"}')
    with pytest.raises(UserError, match="begun with another recipe; choose another --out or --overwrite"):
        unlearn(config_for(target), FORGET, [], out)
    unlearn(config_for(target), FORGET, [], out, overwrite=True, keep_checkpoints=True)
    kept = sorted(entry.name for entry in (out / "checkpoints").iterdir())
    assert kept == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def test_stopped_while_it_replaces_another_result_it_is_only_finished(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old model is being removed: the new one is complete, and no third thing stands at ``out``."""
    out, steps, real = tmp_path / "out", [], shutil.rmtree
    unlearn(config_for(target, epochs=1), FORGET, [], out)

    def stop(path: Path) -> None:
        if path.name == "replaced":
            (path / "unlearn.json").unlink()
            raise KeyboardInterrupt
        real(path)

    def again(overwrite: bool) -> None:
        config = config_for(target, epochs=2)
        unlearn(config, FORGET, [], out, overwrite=overwrite, progress=lambda _, done, __: steps.append(done))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            again(overwrite=True)
    assert not out.exists()
    again(overwrite=False)
    assert steps == [1, 2, 3, 4]
    assert cards.read_json(out / "unlearn.json")["config"]["epochs"] == 2
    assert not (out / "replaced").exists()
