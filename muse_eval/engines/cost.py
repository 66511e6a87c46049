"""Whether vLLM's start pays: what ``auto`` reckons on a GPU, in seconds.

Both engines read the same weights and do the same arithmetic on prompts; they differ in what a decoding step
waits for and in how long they take to start. Transformers launches every kernel of a step from Python, vLLM
replays a recorded one, so that a step of either takes at least the time of reading all weights once, and one
of transformers at least ``hf_step``. vLLM pays where the steps of all the models together save more than its
starts cost.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Annotated

from pydantic import Field

from muse_eval.engines.settings import Count
from muse_eval.types import Generate, Request

Duration = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
BYTES_A_SECOND = 2e12
"""What a data-centre card reads of its memory; below it transformers waits for launches all the more."""
CHARACTERS = 4
"""Of a token, in English."""


@dataclass(frozen=True)
class AutoSettings:
    """What ``--engine auto`` reckons with where vLLM is installed and a GPU is here.

    The seconds are reckoned, not measured: ``make gpu-check`` measures those of a card.
    """

    models: Count = 1
    """Models to score one after the other; a sweep says it itself."""
    vllm_start: Duration = 60.0
    """Seconds that vLLM's first start takes beyond loading the weights; 0: take vLLM wherever it runs."""
    vllm_restart: Duration = 30.0
    """Seconds of each later one, which finds what the first compiled."""
    hf_step: Duration = 0.03
    """Seconds of a decoding step of transformers at the least."""


@dataclass(frozen=True)
class Device:
    """The model and the card, in bytes."""

    weights: int
    """Of the checkpoint's files."""
    token: int
    """Of a token's keys and values."""
    room: float
    """For the cache of a batch."""


def saved(asks: Sequence[Request], device: Device, settings: AutoSettings) -> float:
    """Return the seconds that vLLM's faster decoding steps save a model.

    Args:
        asks: all that the model is asked.
        device: sizes.
        settings: seconds of a step.
    """
    reading = device.weights / BYTES_A_SECOND
    return _steps(asks, device) * max(0.0, settings.hf_step - reading)


def _steps(asks: Sequence[Request], device: Device) -> int:
    """Return how many decoding steps transformers takes: those of the longest answer, batch by batch."""
    tokens: Counter[int] = Counter()
    for ask in asks:
        if isinstance(ask, Generate):
            tokens[ask.max_tokens] += len(ask.prompt) // CHARACTERS + ask.max_tokens
    return sum(new * ceil(tokens[new] * device.token / device.room) for new in tokens)


def reckon(asks: Sequence[Request], device: Device, settings: AutoSettings) -> tuple[bool, str]:
    """Tell whether vLLM pays, and why, in one line without a full stop.

    Args:
        asks: all that a model is asked.
        device: sizes.
        settings: seconds, and how many models.
    """
    gain = settings.models * saved(asks, device, settings)
    start = settings.vllm_start + (settings.models - 1) * settings.vllm_restart
    models = f"{settings.models} models" if settings.models > 1 else "this model"
    told = (
        f"its faster steps are reckoned to save {gain:.0f} s on {models}, its start to cost {start:.0f} s "
        "(--set engine.vllm_start=SECONDS)"
    )
    return gain >= start, told
