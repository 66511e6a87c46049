"""What ``--set engine.NAME=VALUE`` can change; none of it but quantization changes more than rounding."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


@dataclass(frozen=True)
class HfSettings:
    """Settings of the transformers engine."""

    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1`` or ``auto``."""
    device_map: str | None = None
    """accelerate's placement for a model larger than one device: ``auto``, ``balanced`` …"""
    batch_tokens: Count | None = None
    """Padded tokens of a batch; by default as many as memory allows."""


@dataclass(frozen=True)
class VllmSettings:
    """Settings of the vLLM engine; those not described here are vLLM's own, passed through."""

    batch_tokens: Count | None = None
    """Tokens of a step (vLLM's max_num_batched_tokens); by default what their log-probabilities allow."""
    max_num_seqs: Count | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    kv_cache_gib: Count | None = None
    """GiB for the key-value cache on a CPU; by default room for a few of the longest requests."""
    enforce_eager: bool | None = None
    """No CUDA graphs and no compilation: a quicker start, slower steps. Always so on a CPU."""
    tensor_parallel_size: Count | None = None
    pipeline_parallel_size: Count | None = None
    distributed_executor_backend: Literal["mp", "ray", "uni", "external_launcher"] | None = None
    quantization: str | None = None
    """How vLLM quantizes the weights; another model then, with results of its own."""


@dataclass(frozen=True)
class ServerSettings:
    """Settings of the server engine."""

    concurrency: Count = 16
    """Requests under way at once."""
    timeout: Seconds = 180.0
    """Seconds until the whole of one answer must be there."""
    retries: Annotated[int, Field(ge=0)] = 4
    """Tries after the first, with growing pauses, on 429, 5xx and lost connections."""
