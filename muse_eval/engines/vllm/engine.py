"""The vLLM engine: token ids in, answers as they finish; its device is freed when it closes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch
import transformers
from transformers import GenerationConfig, PreTrainedTokenizerBase

from muse_eval.engines.checkpoint import Checkpoint
from muse_eval.engines.draws import draw_seed, require_warm
from muse_eval.engines.loading import (
    LoadOptions,
    context_of,
    eos_ids,
    load_config,
    out_of_memory,
    tokenizer_digest,
)
from muse_eval.engines.settings import VllmSettings
from muse_eval.engines.tokens import Tokens, before_stop, has_stop
from muse_eval.engines.vllm.start import TWO_MODELS, Starter, vllm_version
from muse_eval.errors import UserError
from muse_eval.own_code import code_digest
from muse_eval.types import Batches, Generate, Generation, Logprobs, Request, TokenLogprobs, Truncate

T = TypeVar("T")

FLUSH_SECONDS = 1.0
"""How often finished answers are handed on, so that a kill loses no more than that."""


class VllmEngine:
    """Answers from vLLM in this process; the weights load at the first question."""

    def __init__(
        self,
        source: Checkpoint,
        tokenizer: PreTrainedTokenizerBase,
        options: LoadOptions,
        settings: VllmSettings,
        *,
        asks: Sequence[Request] = (),
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Take a checkpoint, and all that will be asked of it, by which the context is sized.

        Raises:
            UserError: it combines two models.
        """
        if source.composition is not None:
            raise UserError(f"{source.name} {TWO_MODELS}; score it with --engine hf")
        self._source, self._options, self._settings = source, options, settings
        self._asks, self._note = list(asks), note
        self._whole = _drawn(asks)
        self._config = load_config(source, options.trust_remote_code)
        self._tokens = Tokens(tokenizer, self._config.vocab_size, context_of(self._config))
        self._starter = Starter(source, options, settings, self._config, self._say)
        self._llm: Any = None
        self._length = 0
        self._batch_tokens: int | None = None
        """Tokens of a step, once they are known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    @cached_property
    def id(self) -> str:
        """Weights, tokenizer, dtype, kind of device, and versions and digest of the code that computes."""
        known = self.provenance
        return (
            f"vllm {known['weights']} {known['tokenizer']} {known['dtype']} {self._starter.device} "
            f"vllm-{known['vllm']} transformers-{transformers.__version__} torch-{torch.__version__} "
            f"{self._settings.quantization or 'unquantized'} "
            f"{code_digest('engines')[:16]}"
        )

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Model, revision, digests, dtype, device and vLLM's version."""
        source = self._source
        return {
            "engine": "vllm",
            "vllm": vllm_version(),
            "tokenizer": tokenizer_digest(self._tokens.tokenizer),
            "model": source.name,
            "path": source.name if source.revision else str(source.folder),
            "revision": source.revision,
            "weights": source.digest,
            "dtype": str(self._options.torch_dtype).removeprefix("torch."),
            "quantization": self._settings.quantization,
            "device": torch.cuda.get_device_name() if self._starter.device == "cuda" else "cpu",
        }

    # ── the three questions ─────────────────────────────────────────────────────────────────────
    def truncate(self, asks: Sequence[Truncate]) -> list[str]:
        """Cut each text with the model's own tokenizer."""
        return self._tokens.truncate(asks)

    def generate(self, asks: Sequence[Generate]) -> Batches[Generation]:
        """Continue prompts greedily or by draws; a prefix that prompts share is read from vLLM's cache.

        A drawn request has a random generator of its own, seeded by its prompt, seed and sample.
        """
        require_warm(asks)
        if _drawn(asks) and not self._whole:
            self._whole = True
            self._close()
        fitted = [self._tokens.fit_prompt(ask) for ask in asks]
        lengths = [len(ids) + ask.max_tokens for (ids, _), ask in zip(fitted, asks, strict=True)]
        eos = sorted(eos_ids(self._generation_config, self._config))

        def params(index: int) -> Any:
            from vllm import SamplingParams
            from vllm.sampling_params import RequestOutputKind as Kind

            ask = asks[index]
            # Only those with stop strings are looked at before they finish.
            kind = Kind.CUMULATIVE if ask.stop else Kind.FINAL_ONLY
            return SamplingParams(
                temperature=ask.temperature,
                top_p=ask.top_p,
                seed=draw_seed(fitted[index][0], ask) if ask.temperature else None,
                max_tokens=ask.max_tokens,
                ignore_eos=True,
                stop_token_ids=eos,
                detokenize=False,
                output_kind=kind,
            )

        def take(index: int, output: Any) -> Generation | None:
            stop = asks[index].stop
            text = self._tokens.decode(list(output.outputs[0].token_ids))
            if not output.finished and not has_stop(text, stop):
                return None
            return Generation(before_stop(text, stop), fitted[index][1])

        return self._answers([ids for ids, _ in fitted], lengths, params, take)

    def logprobs(self, asks: Sequence[Logprobs]) -> Batches[TokenLogprobs]:
        """Score texts; vLLM gives no moments, so an answer holds none."""
        fitted = [self._tokens.fit_text(ask) for ask in asks]
        behind = [slice(self._tokens.first_scored(ask) - 1, None) for ask in asks]

        def params(_index: int) -> Any:
            from vllm import SamplingParams
            from vllm.sampling_params import RequestOutputKind

            return SamplingParams(
                temperature=0,
                max_tokens=1,
                prompt_logprobs=0,
                flat_logprobs=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )

        def take(index: int, output: Any) -> TokenLogprobs:
            found, (ids, cut), at = output.prompt_logprobs, fitted[index], behind[index]
            assert list(found.token_ids) == ids[1:]
            ranks = np.array(found.ranks[at], np.int32) if asks[index].ranks else None
            return TokenLogprobs(np.array(found.logprobs[at], np.float32), truncated=cut, ranks=ranks)

        # vLLM must generate a token, and wants room for it.
        lengths = [len(ids) + 1 for ids, _ in fitted]
        return self._answers([ids for ids, _ in fitted], lengths, params, take)

    @cached_property
    def _generation_config(self) -> GenerationConfig | None:
        folder = self._source.folder
        if not (folder / "generation_config.json").is_file():
            return None
        found: GenerationConfig = GenerationConfig.from_pretrained(folder)  # nosec B615  # a folder on disk
        return found

    # ── asking ──────────────────────────────────────────────────────────────────────────────────
    def _answers(
        self,
        prompts: Sequence[list[int]],
        lengths: Sequence[int],
        params: Callable[[int], Any],
        take: Callable[[int, Any], T | None],
    ) -> Iterator[list[tuple[int, T]]]:
        """Put prompts to vLLM, longest first, and yield what finished, about every second.

        Where memory runs out, what is unanswered is asked once more in steps of half as many tokens.
        """
        waiting = sorted(range(len(prompts)), key=lambda index: (-lengths[index], index))
        retried = False
        while waiting:
            try:
                for batch in self._ask(waiting, prompts, max(lengths), params, take):
                    yield batch
                    done = {index for index, _ in batch}
                    waiting = [index for index in waiting if index not in done]
            except UserError:
                raise
            except Exception as error:
                # vLLM tells by all kinds of errors that it cannot go on.
                if not out_of_memory(error):
                    raise self._starter.refusal(error) from error
                if retried:
                    raise self._starter.no_memory(error) from None
                retried = True
            # Out here nothing of what failed is held any more.
            if waiting:
                self._halve()

    def _halve(self) -> None:
        """Close, to open again with steps of half as many tokens."""
        self._close()
        assert self._batch_tokens is not None
        self._batch_tokens = max(1, self._batch_tokens // 2)
        self._say(f"out of memory; once more with {self._batch_tokens:,} tokens a step")

    def _ask(
        self,
        waiting: Sequence[int],
        prompts: Sequence[list[int]],
        longest: int,
        params: Callable[[int], Any],
        take: Callable[[int, Any], T | None],
    ) -> Iterator[list[tuple[int, T]]]:
        llm = self._open(longest)
        open_ids = {}
        finished: list[tuple[int, T]] = []
        clock = time.monotonic()
        try:
            for index in waiting:
                name = str(index)
                llm.add_request(name, {"prompt_token_ids": prompts[index]}, params(index))
                open_ids[name] = index
            while open_ids:
                for output in llm.step():
                    # A request that was broken off may still have an output on its way.
                    if output.request_id not in open_ids:
                        continue
                    index = open_ids[output.request_id]
                    answer = take(index, output)
                    if answer is None:
                        continue
                    del open_ids[output.request_id]
                    if not output.finished:
                        llm.abort_request([output.request_id])
                    finished.append((index, answer))
                if finished and (not open_ids or time.monotonic() - clock > FLUSH_SECONDS):
                    yield finished
                    finished, clock = [], time.monotonic()
        except BaseException:
            # Whoever asked wants no more of it; the next question must not wait for it.
            with suppress(Exception):
                llm.abort_request(list(open_ids))
            raise

    # ── opening and closing ─────────────────────────────────────────────────────────────────────
    def _open(self, longest: int) -> Any:
        """Return vLLM with a context for the longest request, opening it again where it is too small."""
        if self._llm is not None and longest <= self._length:
            return self._llm
        self._close()
        if self._batch_tokens is None:
            self._batch_tokens = self._starter.batch_tokens()
        length = max([longest, *map(self._room, self._asks)])
        self._llm = self._starter.start(length, self._batch_tokens, self._whole)
        self._length = length
        return self._llm

    def _room(self, ask: Request) -> int:
        """Return how many tokens a request takes, answer included."""
        if isinstance(ask, Generate):
            return len(self._tokens.fit_prompt(ask)[0]) + ask.max_tokens
        return len(self._tokens.fit_text(ask)[0]) + 1 if isinstance(ask, Logprobs) else 0

    def _close(self) -> None:
        """Free the device."""
        if self._llm is not None:
            self._llm.engine_core.shutdown()
            self._llm = None
            self._starter.clean_up()

    def _say(self, line: str) -> None:
        if self._note is not None:
            self._note(f"engine vllm: {line}")


def _drawn(asks: Sequence[Request]) -> bool:
    return any(isinstance(ask, Generate) and ask.temperature for ask in asks)
