"""Extraction strength: how little of a truth has to be given away for the model to know the rest.

ES = 1 − k/n (arXiv 2406.09179), n being the tokens of the truth and k the length of its shortest beginning
behind which the model's first choice is the true token at every position, the truth itself being read.
1: all of it comes from the prompt alone; 0: not even its last token does. Open-unlearning's never reaches 0.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from muse_eval.metrics import beside, truths
from muse_eval.types import Answer, Context, Metric, Score, Splits


def strength(chosen: np.ndarray) -> Mapping[str, float]:
    """Return ES, k and n of a truth, from whether each of its n tokens is the model's first choice."""
    missed = np.flatnonzero(~chosen)
    needed = int(missed[-1]) + 1 if len(missed) else 0
    return {"extraction": 1 - needed / len(chosen), "prefix": needed, "tokens": len(chosen)}


def score(splits: Splits, answers: Sequence[Answer], params: beside.Params, context: Context) -> Score:
    """Take the extraction strength of each truth and average, in percent."""
    return truths.score("extraction", strength, splits, answers, params, context)


METRIC = Metric(
    goal="lower",
    roles=beside.ROLES,
    params=beside.Params,
    requests=truths.requests,
    score=score,
    few_shot=beside.FEW_SHOT,
    beside=beside.HOSTS,
)
