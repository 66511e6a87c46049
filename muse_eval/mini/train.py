"""Trains the built-in world's target and retrain model, small Llamas, on a CPU in minutes (MUSE, section 3).

Both continue one shared model, which stands in for pre-training: target on forget and retain set, retrain on
the retain set alone.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from muse_eval.folders import sync_tree, weights_fault
from muse_eval.mini import corpus
from muse_eval.mini.muon import Muon
from muse_eval.mini.recipe import RECIPE, Recipe, Stage, recipe_fingerprint
from muse_eval.mini.rows import IGNORED, Row, deal, texts
from muse_eval.mini.tokenizer import train_tokenizer
from muse_eval.types import Progress

__all__ = ["make_model", "make_models", "recipe_fingerprint"]


def make_models(
    out: Path, seed: int = 0, progress: Progress | None = None, recipe: Recipe = RECIPE
) -> dict[str, Path]:
    """Train what is not there yet and return the folders of ``target`` and ``retrain``.

    They lie under ``out / <first 12 hex digits of the recipe's fingerprint>``, each with ``config.json``,
    ``model.safetensors``, the tokenizer and ``recipe.json``. A folder gets its name when it is complete, so a
    run that was killed leaves no half model and the next one skips what is done; what was damaged since is
    made again. The same recipe and seed
    give the same weights: training takes one thread.
    """
    home = out / recipe_fingerprint(seed, recipe)[:12]
    folders = {name: home / name for name in ("shared", "retrain", "target")}
    for name, folder in folders.items():
        start = None if name == "shared" else folders["shared"]
        make_model(name, folder, start, seed=seed, progress=progress, recipe=recipe)
    return {name: folders[name] for name in ("target", "retrain")}


def make_model(
    name: str,
    folder: Path,
    start: Path | None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    recipe: Recipe = RECIPE,
) -> Path:
    """Train one model, unless it is there and whole, and return its folder.

    Args:
        name: the recipe's stage: ``shared``, ``retrain`` or ``target``.
        folder: of the model.
        start: folder of the model that it continues; None: random weights.
        seed: of the world, of the weights and of the order of rows.
        progress: told of every step.
        recipe: how it is trained; its other stages stand in the note beside the model and change nothing.
    """
    if not _is_whole(folder):
        task = "muse_mini" if seed == 0 else f"muse_mini-seed{seed}"
        note = {"fingerprint": recipe_fingerprint(seed, recipe), "task": task, "seed": seed}
        transformers_logging.disable_progress_bar()
        with _one_thread():
            model, tokenizer = _make(name, seed, recipe, start, progress or (lambda *_: None))
            _save(model, tokenizer, {**note, "recipe": asdict(recipe), "stage": name}, folder)
    return folder


def _make(
    name: str, seed: int, recipe: Recipe, start: Path | None, progress: Progress
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Run one stage from random weights, or from the folder ``start``."""
    splits = corpus.splits(seed)
    torch.manual_seed(seed)
    if start is None:
        seen = texts(splits, "base/chapters", "base/cards", "train/retain1", "train/retain2")
        tokenizer = train_tokenizer(seen, recipe.vocab_size, recipe.max_positions)
        model: LlamaForCausalLM = LlamaForCausalLM(_config(recipe, tokenizer))
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(start)  # nosec B615  # a folder on disk
        model = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32)  # nosec B615  # a folder on disk
    stage: Stage = getattr(recipe, name)
    # each stage deals from a seed of its own, so that a run resumed between stages repeats the same rows
    rng = random.Random(f"{name} {seed}")  # nosec B311  # draws that must be repeatable
    steps = deal(splits, stage.mix, tokenizer, recipe.cards_per_row, rng)
    _train(model, steps, stage, recipe, lambda done: progress(name, done, stage.steps))
    return model, tokenizer


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=recipe.max_positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


# ── training ─────────────────────────────────────────────────────────────────────────────────────
def _train(
    model: LlamaForCausalLM,
    steps: Iterator[list[Row]],
    stage: Stage,
    recipe: Recipe,
    report: Callable[[int], None],
) -> None:
    """Train in place: Muon for the matrices inside, AdamW for embeddings and norms."""
    inside = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in inside}
    muon = Muon(inside, recipe.momentum)
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    adam = torch.optim.AdamW(others, betas=recipe.betas, weight_decay=0.0)
    model.train()
    for step in range(stage.steps):
        lr = stage.lr * _schedule(step, stage, recipe.warmup)
        _backward(model, next(steps))
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        muon.step(lr)
        adam.param_groups[0]["lr"] = lr
        adam.step()
        model.zero_grad()
        report(step + 1)
    model.train(False)


def _schedule(step: int, stage: Stage, warmup: int) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then a cosine to ``final``."""
    cosine = (1 + math.cos(math.pi * step / stage.steps)) / 2
    return min(1.0, (step + 1) / warmup) * (stage.final + (1 - stage.final) * cosine)


def _backward(model: LlamaForCausalLM, rows: list[Row]) -> float:
    """Add the gradient of the mean loss over a step's learnt tokens, in nats, and return that loss."""
    tokens = sum(label != IGNORED for row in rows for label in row.labels)
    total = 0.0
    for group in _alike(rows):
        ids, labels = _pad(group)
        learnt = labels[:, 1:] != IGNORED
        # right padding under causal attention needs no mask, and without one attention is faster
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[learnt])
        loss = functional.cross_entropy(logits, labels[:, 1:][learnt], reduction="sum")
        torch.autograd.backward(loss / tokens)
        total += loss.item()
    return total / tokens


def _alike(rows: list[Row], groups: int = 3) -> list[list[Row]]:
    """Split rows into groups of like length, so that little is spent on padding."""
    ordered = sorted(rows, key=lambda row: len(row.ids))
    cuts = [round(len(ordered) * group / groups) for group in range(groups + 1)]
    return [ordered[start:end] for start, end in pairwise(cuts) if end > start]


def _pad(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Pad rows on the right: ids and labels, each (rows, longest)."""
    longest = max(len(row.ids) for row in rows)
    gaps = [longest - len(row.ids) for row in rows]
    ids = torch.tensor([row.ids + [0] * gap for row, gap in zip(rows, gaps, strict=True)])
    labels = torch.tensor([row.labels + [IGNORED] * gap for row, gap in zip(rows, gaps, strict=True)])
    return ids, labels


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread, so that sums are taken in one order, and flush denormals, which are slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


# ── files ────────────────────────────────────────────────────────────────────────────────────────
def _save(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, note: dict[str, object], folder: Path
) -> None:
    """Write a model's folder beside its place, then rename it there, in place of one that is not whole."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    (draft / "recipe.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    sync_tree(draft)
    if folder.exists() and not _is_whole(folder):
        shutil.rmtree(folder)
    try:
        draft.rename(folder)
    except OSError:
        # another process finished the same model first: its weights are the same
        if not _is_whole(folder):
            raise
        shutil.rmtree(draft)


def _is_whole(folder: Path) -> bool:
    """Tell whether a model was made to its end, and none of its files is missing or cut since."""
    try:
        for name in ("recipe.json", "config.json", "tokenizer.json", "tokenizer_config.json"):
            json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return weights_fault(folder) is None
