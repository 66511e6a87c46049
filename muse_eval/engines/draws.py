"""What decides the draws of a sampled continuation, and which of them can be had."""

import hashlib
import json
import math
from collections.abc import Sequence

from muse_eval.errors import UserError
from muse_eval.types import Generate

VLLM_COLDEST = 0.01
"""vLLM takes this for every temperature between 0 and it."""


def draw_seed(prompt: Sequence[int], ask: Generate) -> int:
    """Return 63 bits of the SHA-256 of what decides a draw: the prompt's token ids, seed and sample.

    Temperature and nucleus are left out, so that draws at two temperatures differ by these alone.
    """
    content = json.dumps([list(prompt), ask.seed, ask.sample]).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def require_drawable(ask: Generate) -> None:
    """Check that there is a distribution to draw from.

    Raises:
        UserError: the temperature is below 0 or not finite, or the nucleus is not above 0 and at most 1.
    """
    if not (ask.temperature >= 0 and math.isfinite(ask.temperature)):
        raise UserError(f"{ask.name}: temperature is {ask.temperature:g}; give 0 (greedy) or more")
    if not 0 < ask.top_p <= 1:
        raise UserError(f"{ask.name}: top_p is {ask.top_p:g}; give more than 0 and at most 1")


def require_warm(asks: Sequence[Generate]) -> None:
    """Check that vLLM draws at the temperatures that are asked for.

    Raises:
        UserError: one lies between 0 and the least that it has.
    """
    for ask in asks:
        if 0 < ask.temperature < VLLM_COLDEST:
            raise UserError(
                f"{ask.name}: temperature is {ask.temperature:g}, and vLLM draws at {VLLM_COLDEST} at the "
                "least; give 0 (greedy) or more, or score the model with --engine hf"
            )
