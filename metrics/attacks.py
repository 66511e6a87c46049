"""Membership-inference attacks: what each makes of a text's token log-probabilities."""

import zlib

import numpy as np

from muse_eval.types import TokenLogprobs

KS = (0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60)
"""Shares of least likely tokens kept beside the headline's."""
REFERENCE, GRADIENT = "reference", "gradnorm"
"""Attacks that are made on request: by the retrain model's loss, by the norm of the loss's gradient."""


def attack(k: float) -> str:
    """Name the Min-K% attack of share ``k``: ``Min-40%``."""
    return f"Min-{100 * k:g}%"


def min_k(values: np.ndarray, k: float) -> float | None:
    """Return −mean of the lowest int(k·n) of n values (Shi et al., eq. 1), or None where undefined.

    Higher means less likely to be a member. Undefined where int(k·n) is 0 or a value is not finite.
    """
    kept = int(k * len(values))
    if kept == 0 or not np.isfinite(values).all():
        return None
    return -float(np.mean(np.sort(values.astype(np.float64))[:kept]))


def _loss(answer: TokenLogprobs) -> float | None:
    """Return the mean negative log-likelihood in nats; None of no token."""
    return -float(np.mean(answer.logprobs.astype(np.float64))) if len(answer.logprobs) else None


def statistics(
    text: str,
    answer: TokenLogprobs,
    lower: TokenLogprobs | None,
    k: float,
    *,
    retrain: TokenLogprobs | None = None,
    norm: float | None = None,
) -> dict[str, float | None]:
    """Score one text under every attack; higher means less likely to be a member.

    PPL is the mean negative log-likelihood (MUSE's code calls it so), PPL/zlib is divided by the bytes of
    the compressed text and PPL/lower by the lower-cased text's own; of ``REFERENCE`` the retrain model's is
    taken away. ``GRADIENT`` is the norm of its gradient. None where an attack is undefined: a text too short
    for Min-k%, or log-probabilities that are not finite.
    """
    logprobs = answer.logprobs.astype(np.float64)
    loss = _loss(answer)
    scores: dict[str, float | None] = {"PPL": loss}
    if lower is not None:
        below = -float(np.mean(lower.logprobs.astype(np.float64)))
        scores["PPL/lower"] = None if loss is None or below == 0 else loss / below
    if retrain is not None:
        theirs = _loss(retrain)
        scores[REFERENCE] = None if loss is None or theirs is None else loss - theirs
    if norm is not None:
        scores[GRADIENT] = norm
    scores["PPL/zlib"] = None if loss is None else loss / len(zlib.compress(text.encode()))
    for share in sorted({*KS, k}):
        scores[attack(share)] = min_k(logprobs, share)
    if answer.mean is not None and answer.std is not None:
        normal = (logprobs - answer.mean) / np.maximum(answer.std, np.finfo(np.float32).tiny)
        for share in sorted({*KS, k}):
            scores[f"{attack(share)}++"] = min_k(normal, share)
    return {name: s if s is None or np.isfinite(s) else None for name, s in scores.items()}
