"""What a run starts from: the packages it needs, its precision, the target and its tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from muse_eval.config import HubRef, Workload
from muse_eval.engines.checkpoint import Checkpoint, find_checkpoint
from muse_eval.engines.loading import LoadOptions, load_model, load_tokenizer, state_digest, tokenizer_digest
from muse_eval.types import Progress
from muse_eval.unlearning import rows
from muse_eval.unlearning.recipe import UnlearnConfig


def precision(dtype: str) -> str:
    """Return the precision that a config's dtype comes to on this machine."""
    if dtype != "auto":
        return dtype
    return "mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"


def count_rows(
    config: UnlearnConfig, texts: Sequence[str], fallbacks: Sequence[HubRef], progress: Progress | None
) -> int:
    """Return how many rows texts make; only windows need the target's tokenizer to be counted."""
    if config.rows == "document":
        return sum(bool(text.strip()) for text in texts)
    tokenizer = open_target(config, None, None, fallbacks, progress).tokenizer
    return len(rows.make(config.rows, "forget", texts, tokenizer, config.max_len))


def workload(config: UnlearnConfig, pairs: rows.Pairs, args: TrainingArguments) -> Workload:
    """Return what a trainer of these rows is about to do."""
    items = (pairs[index] for index in range(len(pairs)))
    tokens = sum(len(item.get(name, ())) for item in items for name in ("forget", "retain", "refusal"))
    several = f"{args.world_size} × " if args.world_size > 1 else ""
    return Workload(
        len(pairs), tokens, config.epochs, config.batch_size, config.lr, several + device_name(args)
    )


def device_name(args: TrainingArguments) -> str:
    """Return the name of a GPU, else the kind of device."""
    return torch.cuda.get_device_name() if args.device.type == "cuda" else args.device.type


@dataclass(frozen=True)
class Start:
    """What a run starts from: the target, as a checkpoint or loaded, and its tokenizer."""

    checkpoint: Checkpoint | None
    model: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase

    def identity(self) -> dict[str, str | None]:
        """Return what tells this target from any other: its revision and digests."""
        found = self.checkpoint
        return {
            "revision": found.revision if found else None,
            "weights": found.digest if found else state_digest(cast(PreTrainedModel, self.model)),
            "tokenizer": tokenizer_digest(self.tokenizer),
        }

    def load(self, config: UnlearnConfig, dtype: str) -> PreTrainedModel:
        """Return the target on the CPU, in the precision its weights are trained in."""
        if self.model is not None:
            # All of it is trained, whatever someone froze before.
            return self.model.requires_grad_(True)
        assert self.checkpoint is not None
        kept = "bfloat16" if dtype == "bfloat16" else "float32"
        options = LoadOptions(kept, "cpu", None, config.allow_pickle, config.trust_remote_code)
        return load_model(self.checkpoint, options)


def open_target(
    config: UnlearnConfig,
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    fallbacks: Sequence[HubRef],
    progress: Progress | None,
) -> Start:
    """Find the target and its tokenizer, those that are not loaded already."""
    code, checkpoint = config.trust_remote_code, None
    if model is None:
        checkpoint = find_checkpoint(
            config.model, allow_pickle=config.allow_pickle, trust_remote_code=code, progress=progress
        )
    return Start(
        checkpoint, model, tokenizer or load_tokenizer(checkpoint, config.tokenizer, fallbacks, code)
    )
