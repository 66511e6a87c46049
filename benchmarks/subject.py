"""What is measured: a checkpoint with a task's data, or a random model on texts as long as MUSE's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.shapes import SHAPES, Shape
from muse_eval.config import RunConfig
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.engines.loading import LoadOptions, load_model, load_tokenizer
from muse_eval.mini import corpus
from muse_eval.mini.tokenizer import train_tokenizer
from muse_eval.scoring.plan import plan
from muse_eval.types import Row, Splits

PROMPT_TOKENS = 1_100
"""A MUSE-News prompt of VerbMem."""
TEXT_TOKENS = 2_200
"""A MUSE-News text of PrivLeak."""
CONTEXT = 4_096


@dataclass(frozen=True)
class Subject:
    """A model in memory and the splits of the four columns."""

    name: str
    model: Any
    tokenizer: Any
    splits: dict[str, Splits]
    """Column to its splits by role."""


def from_task(model: str, task: str, data_dir: Path | None, examples: int | None) -> Subject:
    """Load a checkpoint in float32 on the CPU, and the first examples of a task's data."""
    planned = plan(RunConfig(model=model, task=task, data_dir=data_dir, limit=examples))
    found = find_checkpoint(model)
    tokenizer = load_tokenizer(found, None, planned.task.tokenizers)
    loaded = load_model(found, LoadOptions(dtype="float32", device="cpu"))
    splits = {column.name: column.splits for column in planned.columns}
    return Subject(f"{found.name} on {planned.task.title}", loaded, tokenizer, splits)


def make_llama(sizes: Shape, device: torch.device, dtype: torch.dtype, **special: Any) -> Any:
    """Make a Llama of random weights where it will run; ``special`` are ``bos_token_id`` and its like."""
    config = LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.inner,
        max_position_embeddings=CONTEXT,
        **special,
    )
    with device:
        return LlamaForCausalLM._from_config(config, dtype=dtype)


def random_checkpoint(shape: str, folder: Path) -> Path:
    """Save a Llama of random weights, and a tokenizer of the built-in world, as a checkpoint."""
    torch.manual_seed(0)
    sizes = SHAPES[shape]
    chapters = [row["text"] for row in corpus.splits()["base/chapters"]]
    tokenizer = train_tokenizer(chapters, 2_048, CONTEXT)
    gpu = torch.cuda.is_available()
    model = make_llama(
        sizes,
        torch.device("cuda" if gpu else "cpu"),
        torch.bfloat16 if gpu else torch.float32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # What measures it next needs the memory.
    del model
    if gpu:
        torch.cuda.empty_cache()
    return folder


def random_model(examples: int) -> Subject:
    """Make a Llama of 1.1 million random weights, and texts of the built-in world joined to MUSE's lengths.

    It remembers nothing, so KnowMem's answers do not end early and its speed-up is the least there is.
    """
    torch.manual_seed(0)
    world = corpus.splits()
    tokenizer = train_tokenizer([row["text"] for row in world["base/chapters"]], 2_048, CONTEXT)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=344,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        # Far apart enough that rounding does not swap the two likeliest tokens.
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    chapters = {name: [row["text"] for row in world[f"raw/{name}"]] for name in ("forget", "holdout")}
    articles = [row["text"] for name in ("raw/retain1", "raw/retain2") for row in world[name]]
    long = Joiner(tokenizer, examples)
    prompts = long.join(chapters["forget"], PROMPT_TOKENS)
    truths = [row["gt"] for row in world["verbmem/forget"]]
    splits: dict[str, Splits] = {
        "verbmem_f": {
            "forget": [{"prompt": prompts[i], "gt": truths[i % len(truths)]} for i in range(examples)]
        },
        "privleak": {
            "forget": _texts(long.join(chapters["forget"], TEXT_TOKENS)),
            "holdout": _texts(long.join(chapters["holdout"], TEXT_TOKENS)),
            "retain": _texts(long.join(articles, TEXT_TOKENS)),
        },
    }
    for column, side in (("knowmem_f", "forget"), ("knowmem_r", "retain")):
        splits[column] = {
            "qa": world[f"knowmem/{side}_qa"][:examples],
            "icl": world[f"knowmem/{side}_qa_icl"],
        }
    model: Any = LlamaForCausalLM(config)
    return Subject("a random model on generated texts", model.eval(), tokenizer, splits)


class Joiner:
    """Joins short texts to long ones, going round where they run out."""

    def __init__(self, tokenizer: Any, count: int) -> None:
        self._tokenizer, self._count = tokenizer, count

    def join(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Return long texts of about so many tokens, of uneven length as real ones are."""
        made, place = [], 0
        for number in range(self._count):
            wanted = tokens * (8 + number % 5) // 10
            parts: list[str] = []
            length = 0
            while length < wanted:
                parts.append(texts[place % len(texts)])
                length += len(self._tokenizer(parts[-1]).input_ids)
                place += 1
            made.append(" ".join(parts))
        return made


def _texts(texts: Sequence[str]) -> list[Row]:
    return [{"text": text} for text in texts]
