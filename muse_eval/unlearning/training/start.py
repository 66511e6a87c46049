"""What a run starts from: its precision, the target and its tokenizer, the rows, the weights to train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from muse_eval import plugins
from muse_eval.config import HubRef, Workload, parse_params
from muse_eval.engines.checkpoint import Checkpoint, find_checkpoint
from muse_eval.engines.loading import LoadOptions, load_model, load_tokenizer, state_digest, tokenizer_digest
from muse_eval.errors import UserError
from muse_eval.types import ActivationMethod, PreferenceMethod, Progress
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


def make_pairs(
    config: UnlearnConfig,
    forget: Sequence[str],
    retain: Sequence[str] | None,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> rows.Pairs:
    """Make the rows, forget rows alone where ``retain`` is None, and check that the model can read them.

    Raises:
        UserError: no data, or rows longer than the model's context or outside its vocabulary.
    """
    splits = {"forget": forget} if retain is None else {"forget": forget, "retain": retain}
    made = {
        split: rows.make(config.rows, split, texts, tokenizer, config.max_len)
        for split, texts in splits.items()
    }
    pairs = rows.Pairs(made["forget"], made.get("retain", ()))
    _, method, _ = plugins.method(config.method)
    if isinstance(method, PreferenceMethod):
        share = parse_params(method.params, config.params, f"method {config.method}").prompt
        pairs.refusal, pairs.prompts = rows.refusals(
            pairs.forget, method.refusals, share, tokenizer, config.max_len
        )
    everything = [*pairs.forget, *pairs.retain, *pairs.refusal]
    longest, context = max(map(len, everything)), getattr(model.config, "max_position_embeddings", None)
    if context and longest > context:
        raise UserError(f"rows of {longest} tokens exceed the model's context of {context}; lower --max-len")
    largest, vocabulary = (
        max(map(max, everything)),
        cast(nn.Embedding, model.get_input_embeddings()).num_embeddings,
    )
    if largest >= vocabulary:
        raise UserError(
            f"token {largest} is outside the model's vocabulary of {vocabulary}; name its own --tokenizer"
        )
    return pairs


def trained_weights(config: UnlearnConfig, model: PreTrainedModel, method: ActivationMethod) -> list[str]:
    """Return the names of the weights that the method trains.

    Raises:
        UserError: the model has no such layer, or none of these weights.
    """
    name = config.method
    params = parse_params(method.params, config.params, f"method {name}")
    layers = model.config.get_text_config().num_hidden_layers
    layer = method.layer(layers, params)
    # What transformers gives out as the last layer's states has gone through the final norm.
    if layer >= layers - 1:
        raise UserError(
            f"method {name}: layer {layer} is not below the last of the model's {layers} layers; "
            "--set layer=… takes one, from 0"
        )
    trained = [key for key, _ in model.named_parameters() if method.trains(key, layer)]
    if not trained:
        raise UserError(
            f"method {name} knows no weight of a {type(model).__name__} to train; use another method"
        )
    return trained


def choose_weights(config: UnlearnConfig, model: PreTrainedModel, method: ActivationMethod) -> None:
    """Leave gradients to the weights that the method trains.

    Raises:
        UserError: the model has no such layer, or none of these weights.
    """
    trained = trained_weights(config, model, method)
    for key, weight in model.named_parameters():
        weight.requires_grad_(key in trained)


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

    def configuration(self, trust_remote_code: bool) -> Any:
        """Return the configuration of a target that is not loaded, as transformers reads it."""
        assert self.checkpoint is not None
        return AutoConfig.from_pretrained(self.checkpoint.folder, trust_remote_code=trust_remote_code)  # nosec B615  # a folder on disk

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
