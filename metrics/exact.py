"""Exact memorisation: the share of a truth's tokens that are the model's first choice.

EM = (1/n) Σ_t 1[y_t = argmax π(· | x, y_<t)] (arXiv 2506.12618, after Tirumala et al., 2205.10770): the truth
is read token by token, so one wrong guess does not lead the following ones astray.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from muse_eval.metrics import beside, truths
from muse_eval.types import Answer, Context, Metric, Score, Splits


def share(chosen: np.ndarray) -> Mapping[str, float]:
    """Return EM and n of a truth, from whether each of its n tokens is the model's first choice."""
    return {"exact": float(np.mean(chosen)), "tokens": len(chosen)}


def score(splits: Splits, answers: Sequence[Answer], params: beside.Params, context: Context) -> Score:
    """Take the exact memorisation of each truth and average, in percent."""
    return truths.score("exact", share, splits, answers, params, context)


METRIC = Metric(
    goal="lower",
    roles=beside.ROLES,
    params=beside.Params,
    requests=truths.requests,
    score=score,
    few_shot=beside.FEW_SHOT,
    beside=beside.HOSTS,
)
