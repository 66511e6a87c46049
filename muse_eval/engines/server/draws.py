"""Draws from a served model: what is sent for one, and whether the server heeds it."""

from collections.abc import Sequence
from typing import Any

from muse_eval.errors import UserError

SEEDS = (1, 1, 2, 3)
"""Drawn by to learn whether a seed decides: the first two must agree, and one of the others must not."""


def draw_fields(temperature: float, top_p: float, seed: int) -> dict[str, Any]:
    """Return what a request says of its draws; vLLM takes what is left out from the model's own files."""
    return {"temperature": temperature, "top_p": top_p, "seed": seed, "top_k": 0, "min_p": 0.0}


def require_vllm(url: str, vllm: bool) -> None:
    """Refuse a server whose rules of drawing are not known: others cut the tail unasked (top_k, min_p).

    Raises:
        UserError: it is not vLLM.
    """
    if not vllm:
        raise UserError(
            f"the server at {url} is not vLLM, and may draw by rules of its own; serve the model with "
            "vllm serve, or draw with --engine hf or vllm"
        )


def require_seeds(url: str, said: Sequence[str]) -> None:
    """Check the continuations that ``SEEDS`` gave.

    Raises:
        UserError: they are not decided by their seeds.
    """
    if said[0] != said[1] or len(set(said)) == 1:
        what = "draws otherwise each time" if said[0] != said[1] else "draws the same whatever the seed"
        raise UserError(f"the server at {url} {what}: it heeds no seed; draw with --engine hf or vllm")
