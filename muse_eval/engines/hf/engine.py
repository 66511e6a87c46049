"""The transformers engine: exact answers in batches planned by length under a token budget."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from muse_eval.engines.checkpoint import Checkpoint
from muse_eval.engines.composed import parts_of
from muse_eval.engines.hf import caches, decoding, gradients, scoring
from muse_eval.engines.hf.choosing import UNDEFINED, Chooser
from muse_eval.engines.loading import (
    LoadOptions,
    cache_bytes,
    context_of,
    eos_ids,
    has_soft_caps,
    load_config,
    load_model,
    out_of_memory,
    state_digest,
    tokenizer_digest,
)
from muse_eval.engines.stops import StopRule
from muse_eval.engines.tokens import Tokens, before_stop
from muse_eval.engines.weights import require_finite
from muse_eval.errors import UserError
from muse_eval.own_code import code_digest
from muse_eval.types import Batches, Generate, Generation, GradientNorm, Logprobs, TokenLogprobs, Truncate

T = TypeVar("T")
SHARED_PREFIX = 32
"""Tokens from which a prefix that all prompts share is computed once."""
KV_SHARE = 0.5
"""Share of the free memory that a batch's key-value cache may take."""
CPU_TOKENS = 65_536
"""Tokens of a batch on a CPU at the most: more gain nothing."""
GPU_TOKENS = 131_072
MAX_SCORED_TOKENS = {"cpu": 1_024, "cuda": 65_536}
"""Tokens of a batch whose log-probabilities are taken; activations, not a cache, take the memory there.

On a CPU a longer text is alone in its batch: all cores are busy with it, and padding costs what it computes.
"""


class TransformersEngine:
    """Answers from a transformers model in this process; the weights load at the first question."""

    def __init__(
        self,
        source: Checkpoint | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        options: LoadOptions | None = None,
        *,
        batch_tokens: int | None = None,
    ) -> None:
        """Take a checkpoint to load, or a loaded model; ``batch_tokens`` bounds a batch by hand."""
        if not isinstance(source, Checkpoint):
            _require_soft_caps(source)
        self._source, self._tokenizer = source, tokenizer
        self._options = options or LoadOptions()
        self._batch_tokens = batch_tokens
        self._training = not isinstance(source, Checkpoint) and source.training
        self._loaded: PreTrainedModel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loaded = None
        if self._training and not isinstance(self._source, Checkpoint):
            self._source.train()
        self._release()

    @cached_property
    def id(self) -> str:
        """Weights, tokenizer, dtype, kind of device, and versions and digest of the code that computes."""
        known = self.provenance
        code = code_digest("engines")[:16]
        return (
            f"hf {known['weights']} {known['tokenizer']} {known['dtype']} {self._device.type} "
            f"transformers-{transformers.__version__} torch-{torch.__version__} {code}"
        )

    @property
    def _device(self) -> torch.device:
        source = self._source
        return self._options.torch_device if isinstance(source, Checkpoint) else source.device

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Model, revision, digests, dtype and device."""
        source = self._source
        common = {"engine": "hf", "tokenizer": tokenizer_digest(self._tokenizer)}
        if isinstance(source, Checkpoint):
            return {
                **common,
                "model": source.name,
                "path": source.name if source.revision else str(source.folder),
                "revision": source.revision,
                "weights": source.digest,
                "dtype": str(self._options.torch_dtype).removeprefix("torch."),
                "device": _device_name(self._device),
            }
        return {
            **common,
            "model": source.config.name_or_path or type(source).__name__,
            "path": None,
            "revision": None,
            "weights": state_digest(source),
            "dtype": str(source.dtype).removeprefix("torch."),
            "device": _device_name(self._device),
        }

    @property
    def _model(self) -> PreTrainedModel:
        if self._loaded is None:
            source = self._source
            if isinstance(source, Checkpoint):
                self._loaded = load_model(source, self._options)
            else:
                require_finite("the loaded model", source.named_parameters())
                self._loaded = source.eval()
        return self._loaded

    @cached_property
    def _config(self) -> Any:
        if isinstance(self._source, Checkpoint):
            return load_config(self._source, self._options.trust_remote_code)
        return self._source.config.get_text_config()

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens(self._tokenizer, self._config.vocab_size, context_of(self._config))

    @cached_property
    def _stops(self) -> StopRule:
        return StopRule(self._tokens)

    @property
    def handed(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The loaded model and its tokenizer, for what asks a model in a way of its own."""
        return self._model, self._tokenizer

    # ── the three questions ─────────────────────────────────────────────────────────────────────
    def truncate(self, asks: Sequence[Truncate]) -> list[str]:
        """Cut each text with the model's own tokenizer."""
        return self._tokens.truncate(asks)

    def generate(self, asks: Sequence[Generate]) -> Batches[Generation]:
        """Continue prompts greedily or by draws (``Chooser``); a shared few-shot prefix is computed once."""
        tokens = self._tokens
        fitted = [tokens.fit_prompt(ask) for ask in asks]
        prompts = [ids for ids, _ in fitted]
        model = self._model
        eos = eos_ids(model.generation_config, self._config)
        prefix = self._shared_prefix(prompts)

        def work(batch: list[int]) -> list[Generation]:
            def done(row: int, ids: list[int]) -> bool:
                ask = asks[batch[row]]
                return ids[-1] in eos or bool(ask.stop and self._stops.ended(ids, ask.stop))

            rows = [prompts[index] for index in batch]
            limits = [asks[index].max_tokens for index in batch]
            chooser = Chooser.of(rows, [asks[index] for index in batch])
            new = decoding.continued(model, rows, limits, chooser.choose, done, prefix, tokens.pad)
            return [
                Generation("", fitted[index][1], defined=False)
                if ids[-1] == UNDEFINED
                else Generation(before_stop(tokens.decode(ids), asks[index].stop), fitted[index][1])
                for index, ids in zip(batch, new, strict=True)
            ]

        sizes = [len(ids) + ask.max_tokens for ids, ask in zip(prompts, asks, strict=True)]
        return self._in_batches(asks, sizes, self._generate_budget(), work)

    def _shared_prefix(self, prompts: Sequence[list[int]]) -> decoding.Prefix:
        """Compute what all prompts begin with, where it is worth it and memory allows."""
        if len(prompts) > 1 and caches.attends_to_everything(self._model):
            shared = _common_prefix(prompts)
            if len(shared) >= SHARED_PREFIX:
                try:
                    return decoding.compute_prefix(self._model, shared)
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
        return decoding.Prefix()

    def logprobs(self, asks: Sequence[Logprobs]) -> Batches[TokenLogprobs]:
        """Score texts; each answer is as long as its text's tokens but the first, or those ``after``."""
        tokens = self._tokens
        fitted = [tokens.fit_text(ask) for ask in asks]
        firsts = [tokens.first_scored(ask) for ask in asks]
        texts = [ids for ids, _ in fitted]
        model = self._model

        def work(batch: list[int]) -> list[TokenLogprobs]:
            some = [asks[index] for index in batch]
            rows, first = [texts[index] for index in batch], [firsts[index] for index in batch]
            scored = scoring.score_texts(model, rows, some, tokens.pad, first)
            return [replace(s, truncated=fitted[index][1]) for index, s in zip(batch, scored, strict=True)]

        budget = self._batch_tokens or MAX_SCORED_TOKENS.get(model.device.type, MAX_SCORED_TOKENS["cuda"])
        return self._in_batches(asks, [len(ids) for ids in texts], budget, work)

    def gradient_norms(self, asks: Sequence[GradientNorm]) -> Batches[float]:
        """Take the gradient of one text after the other."""
        texts = [self._tokens.fit_text(ask)[0] for ask in asks]
        model = self._model

        def work(batch: list[int]) -> list[float]:
            return [gradients.gradient_norm(model, weights, texts[index]) for index in batch]

        with gradients.weights_of(model, self.provenance["model"]) as weights:
            # A budget of one token makes batches of one text.
            yield from self._in_batches(asks, [len(ids) for ids in texts], 1, work)

    # ── batches ─────────────────────────────────────────────────────────────────────────────────
    def _in_batches(
        self,
        asks: Sequence[Generate] | Sequence[Logprobs] | Sequence[GradientNorm],
        sizes: Sequence[int],
        budget: int,
        work: Callable[[list[int]], list[T]],
    ) -> Iterator[list[tuple[int, T]]]:
        """Work through requests, longest first, in batches of at most ``budget`` padded tokens.

        Where memory runs out the budget is halved and the batch tried again.
        """
        waiting = sorted(range(len(sizes)), key=lambda index: (-sizes[index], index))
        while waiting:
            batch = waiting[: max(1, budget // sizes[waiting[0]])]
            answers = None
            try:
                answers = work(batch)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            if answers is None:
                self._release()
                if len(batch) == 1:
                    raise UserError(
                        f"{asks[batch[0]].name} alone ({sizes[batch[0]]} tokens) does not fit in memory; "
                        "give --dtype bfloat16, --set engine.device_map=auto, or a larger device"
                    )
                budget = len(batch) * sizes[batch[0]] // 2
                continue
            waiting = waiting[len(batch) :]
            yield list(zip(batch, answers, strict=True))

    def _generate_budget(self) -> int:
        """Return how many tokens a batch's key-value cache may hold."""
        if self._batch_tokens:
            return self._batch_tokens
        model = self._model
        configs = [part.config.get_text_config() for part in parts_of(model)]
        per_token = max(1, sum(cache_bytes(config, model.dtype.itemsize) for config in configs))
        if model.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(model.device)
            return min(GPU_TOKENS, int(free * KV_SHARE) // per_token)
        return min(CPU_TOKENS, 2**30 // per_token)

    def _release(self) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """Return the longest beginning that all prompts share and that leaves each at least one token."""
    low, high = min(prompts), max(prompts)
    limit = min(map(len, prompts)) - 1
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), limit)
    return low[: min(same, limit)]


def _require_soft_caps(model: PreTrainedModel) -> None:
    for config in (part.config.get_text_config() for part in parts_of(model)):
        if has_soft_caps(config) and config._attn_implementation != "eager":
            raise UserError(
                "the loaded model caps its attention scores, which its attention leaves out; "
                "load it with attn_implementation='eager'"
            )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
