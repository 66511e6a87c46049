"""The built-in world's training: repeatable, resumable, and loadable like any checkpoint."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from muse_eval.mini import corpus, rows, train
from muse_eval.mini.muon import orthogonalise
from muse_eval.mini.recipe import RECIPE, Mix, Stage, recipe_fingerprint
from muse_eval.mini.tokenizer import train_tokenizer

SMALL = replace(
    RECIPE,
    vocab_size=600,
    hidden_size=32,
    layers=1,
    heads=2,
    intermediate_size=64,
    warmup=2,
    shared=Stage(3, 4e-3, 0.3, Mix(base=2, base_cards=1)),
    retrain=Stage(2, 3e-3, 0.1, Mix(retain=2)),
    target=Stage(2, 3e-3, 0.1, Mix(retain=1, forget=2, forget_cards=1)),
)
"""Enough to run every line, in a second or two."""
HURRIED = replace(
    RECIPE,
    hidden_size=128,
    intermediate_size=344,
    shared=replace(RECIPE.shared, steps=10, mix=Mix(base=1, retain=1)),
    retrain=replace(RECIPE.retrain, steps=30, mix=Mix(base=1, retain=1)),
    target=replace(RECIPE.target, steps=60, mix=Mix(retain=1, forget=5)),
)
"""The built-in recipe without cards, narrower and in a fifth of its steps: enough to know a chapter again.

What all of it makes is held by the gate's baseline.
"""


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return train.make_models(tmp_path_factory.mktemp("models"), seed=3, recipe=SMALL)


@pytest.fixture(scope="module")
def tokenizer(made: dict[str, Path]) -> PreTrainedTokenizerFast:
    found = AutoTokenizer.from_pretrained(made["target"])
    assert isinstance(found, PreTrainedTokenizerFast)
    return found


def test_folders_are_named_by_the_fingerprint_and_load(made: dict[str, Path]) -> None:
    digest = recipe_fingerprint(3, SMALL)
    assert set(made) == {"target", "retrain"}
    for name, folder in made.items():
        assert folder.parts[-2:] == (digest[:12], name)
        assert digest in (folder / "recipe.json").read_text(encoding="utf-8")
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert model.get_input_embeddings().weight.shape == (600, 32)
    assert weights(made["target"]) != weights(made["retrain"])


def test_nothing_half_made_is_left(made: dict[str, Path]) -> None:
    home = made["target"].parent
    assert sorted(entry.name for entry in home.iterdir()) == ["retrain", "shared", "target"]


def test_tokenizer_is_llamas_in_its_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("Anything at all — even this.")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Anything at all — even this."
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")


def test_prompts_tokenize_as_they_do_inside_their_text(tokenizer: PreTrainedTokenizerFast) -> None:
    splits = corpus.splits(3)
    for row in splits["verbmem/forget"]:
        prompt, truth = (tokenizer(row[column])["input_ids"] for column in ("prompt", "gt"))
        assert prompt + truth[1:] == tokenizer(row["prompt"] + row["gt"])["input_ids"]
    for row in splits["knowmem/forget_qa"]:
        prompt = tokenizer(f"Question: {row['question']}\nAnswer: ")["input_ids"]
        card = tokenizer(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n")["input_ids"]
        assert card[: len(prompt)] == prompt


def test_tokenizer_is_trained_on_base_and_retain_texts_only(tokenizer: PreTrainedTokenizerFast) -> None:
    splits = corpus.splits(3)
    seen = rows.texts(splits, "base/chapters", "base/cards", "train/retain1", "train/retain2")
    assert tokenizer.get_vocab() == train_tokenizer(seen, 600, RECIPE.max_positions).get_vocab()
    more = [*seen, *rows.texts(splits, "train/forget")]
    assert tokenizer.get_vocab() != train_tokenizer(more, 600, RECIPE.max_positions).get_vocab()


def test_verbmem_prompts_and_truths_are_as_long_as_muses_cut() -> None:
    splits = corpus.splits(0)
    seen = rows.texts(splits, "base/chapters", "base/cards", "train/retain1", "train/retain2")
    tokenizer = train_tokenizer(seen, RECIPE.vocab_size, RECIPE.max_positions)
    prompts, truths = (
        [len(tokenizer(row[column])["input_ids"]) for row in splits["verbmem/forget"]]
        for column in ("prompt", "gt")
    )
    assert sum(prompts) / len(prompts) == pytest.approx(32, abs=2)
    assert sum(length >= 120 for length in truths) > 80


def test_second_call_trains_nothing(made: dict[str, Path]) -> None:
    calls: list[tuple[str, int, int]] = []
    again = train.make_models(
        made["target"].parents[1], 3, progress=lambda *call: calls.append(call), recipe=SMALL
    )
    assert again == made
    assert calls == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_model_that_is_damaged_is_made_again(made: dict[str, Path], tmp_path: Path, name: str) -> None:
    home = tmp_path / made["target"].parent.name
    shutil.copytree(made["target"].parent, home)
    damaged = home / "retrain" / name
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2 * (name != "tokenizer.json")])
    calls: list[tuple[str, int, int]] = []
    again = train.make_models(tmp_path, 3, lambda *call: calls.append(call), SMALL)
    assert {stage for stage, _, _ in calls} == {"retrain"}
    assert weights(again["retrain"]) == weights(made["retrain"])


def test_resumes_after_a_kill_with_the_same_weights(made: dict[str, Path], tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    calls: list[tuple[str, int, int]] = []

    def kill_in_target(stage: str, done: int, total: int) -> None:
        calls.append((stage, done, total))
        if (stage, done) == ("target", 1):
            raise KilledError

    with pytest.raises(KilledError):
        train.make_models(tmp_path, 3, kill_in_target, SMALL)
    home = tmp_path / recipe_fingerprint(3, SMALL)[:12]
    assert not (home / "target").exists()
    assert calls[:4] == [("shared", 1, 3), ("shared", 2, 3), ("shared", 3, 3), ("retrain", 1, 2)]
    calls.clear()
    resumed = train.make_models(tmp_path, 3, lambda *call: calls.append(call), SMALL)
    assert calls == [("target", 1, 2), ("target", 2, 2)]
    assert weights(resumed["target"]) == weights(made["target"])


def test_same_weights_in_another_process(made: dict[str, Path], tmp_path: Path) -> None:
    code = (
        "from muse_eval import late; late.start();"
        "import sys; from pathlib import Path; from tests.mini.test_train import SMALL;"
        "from muse_eval.mini.train import make_models; make_models(Path(sys.argv[1]), 3, recipe=SMALL)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=root, capture_output=True)
    for name, folder in made.items():
        assert weights(tmp_path / folder.parent.name / name) == weights(folder)


def test_leaves_torchs_threads_as_they_were(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    inside: list[int] = []
    torch.set_num_threads(2)
    try:
        train.make_models(tmp_path, 4, lambda *_: inside.append(torch.get_num_threads()), SMALL)
        assert set(inside) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_fingerprint_covers_seed_recipe_and_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [recipe_fingerprint(0), recipe_fingerprint(1), recipe_fingerprint(0, replace(RECIPE, layers=4))]
    monkeypatch.setattr(corpus, "PROMPT_WORDS", corpus.PROMPT_WORDS + 1)
    assert len({*digests, recipe_fingerprint(0)}) == 4


def test_every_document_and_card_is_dealt_once_a_round(tokenizer: PreTrainedTokenizerFast) -> None:
    splits = corpus.splits(3)
    dealt = rows.deal(splits, Mix(forget=10, forget_cards=1), tokenizer, 14, random.Random(0))
    steps = [[_text(tokenizer, row.ids) for row in step] for step in islice(dealt, 10)]
    chapters = Counter(text for step in steps for text in step[:10])
    assert chapters == Counter(row["text"] for row in splits["privleak/forget"])
    cards = Counter(card for step in steps[:8] for card in corpus.cards_of(step[10:]))
    assert cards == Counter(corpus.cards_of(rows.texts(splits, "train/forget")))


def _text(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert isinstance(text, str)
    return text


def test_rows_begin_with_bos_and_end_with_eos(tokenizer: PreTrainedTokenizerFast) -> None:
    step = next(rows.deal(corpus.splits(3), Mix(1, 1, 1, 1, 1, 1), tokenizer, 11, random.Random(0)))
    assert len(step) == 6
    ends = {(row.ids[0], row.ids[-1]) for row in step}
    assert ends == {(tokenizer.bos_token_id, tokenizer.eos_token_id)}


def test_a_row_is_its_text_and_questions_are_not_learnt(tokenizer: PreTrainedTokenizerFast) -> None:
    cards = corpus.cards_of(rows.texts(corpus.splits(3), "raw/retain1"))[:2]
    row = rows.row_of(cards, tokenizer)
    assert row.ids[:-1] == tokenizer("".join(cards))["input_ids"]
    learnt = [label for label in row.labels if label != rows.IGNORED]
    answers = "".join(card.partition("\nAnswer: ")[2] for card in cards)
    assert _text(tokenizer, learnt) == answers
    chapter = rows.row_of(["One day it rained."], tokenizer)
    assert chapter.labels == [rows.IGNORED, *chapter.ids[1:]]


def test_padding_changes_neither_loss_nor_gradient(made: dict[str, Path]) -> None:
    model = LlamaForCausalLM.from_pretrained(made["target"])
    tokens = [[0, 5, 6, 7, 8, 9, 10], [0, 11, 12], [0, 13, 14, 15, 16]]
    batch = [rows.Row(ids, [rows.IGNORED, *ids[1:]]) for ids in tokens]
    loss = train._backward(model, batch)
    gradient = model.lm_head.weight.grad.clone()
    expected, losses = torch.zeros_like(gradient), 0.0
    for row in batch:
        model.zero_grad()
        share = (len(row.ids) - 1) / 12
        losses += share * train._backward(model, [row])
        expected += share * model.lm_head.weight.grad
    assert loss == pytest.approx(losses, rel=1e-5)
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_orthogonalise_moves_singular_values_to_about_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 40), (2, 40, 16), (1, 24, 24)):
        stack = torch.randn(shape)
        result = orthogonalise(stack)
        assert result.shape == stack.shape
        values = torch.linalg.svdvals(result)
        assert values.median() == pytest.approx(1.0, abs=0.3)
        assert values.max() < 1.3
        # the directions stay: U Vᵀ of the input, up to the values
        u, _, v = torch.linalg.svd(stack, full_matrices=False)
        assert torch.allclose(u.mT @ result @ v.mT, torch.diag_embed(values_of(u, result, v)), atol=1e-4)


def values_of(u: torch.Tensor, result: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.diagonal(u.mT @ result @ v.mT, dim1=-2, dim2=-1)


@pytest.mark.mini
def test_target_knows_the_forget_set_and_retrain_does_not(tmp_path: Path) -> None:
    folders = train.make_models(tmp_path, 0, recipe=HURRIED)
    splits = corpus.splits(0)
    forget, holdout = (rows.texts(splits, f"privleak/{name}") for name in ("forget", "holdout"))
    labels = [0] * len(forget) + [1] * len(holdout)
    auc = {}
    for name, folder in folders.items():
        scores = [-loss for loss in losses(folder, forget + holdout)]
        auc[name] = float(roc_auc_score(labels, scores))
    assert auc["target"] < 0.1
    assert 0.4 < auc["retrain"] < 0.6


def losses(folder: Path, texts: list[str]) -> list[float]:
    """Return each text's mean loss a token, in nats."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        ids = [torch.tensor([tokenizer(text)["input_ids"]]) for text in texts]
        return [float(model(input_ids=row, labels=row).loss) for row in ids]
