"""Fluency: whether responses read like language, whatever they say.

The n-gram entropy of ROME (arXiv 2202.05262) and RWKU (2406.10890): H = (⅔ H₂ + 4⁄3 H₃) / 2, with H₂ and H₃
the entropy in bits of a response's pairs and triples of words. As there, 100 × the mean is told. It asks
nothing new: the responses are VerbMem's or KnowMem's.
"""

import math
import re
from collections.abc import Sequence

from muse_eval.metrics import beside, knowmem, verbmem
from muse_eval.metrics.rouge import clean_up
from muse_eval.statistics import entropy
from muse_eval.types import Answer, Context, Generate, Generation, Metric, Request, Score, Splits

WORD = re.compile(r"\w+|[^\w\s]")
"""A word, or a sign that is none."""
REPEATED = 4
"""Words of an n-gram whose return counts as repetition."""


def requests(splits: Splits, params: beside.Params) -> list[Request]:
    """Ask what VerbMem or KnowMem ask to be continued."""
    if beside.has_questions(splits):
        return knowmem.requests(splits, beside.as_knowmem(params))
    asked = verbmem.requests(splits, verbmem.Params(params.max_tokens, params.truncate))
    return [ask for ask in asked if isinstance(ask, Generate)]


def measure(response: str) -> dict[str, float]:
    """Return a response's n-gram entropy in bits, its repetition, and whether it is empty.

    Repetition is the share of its ``REPEATED``-grams that were there before (1 − different / all); 0 where
    it is too short for one. What has no n-gram has entropy 0.
    """
    words = WORD.findall(response)
    grams = {n: list(zip(*(words[start:] for start in range(n)), strict=False)) for n in (2, 3, REPEATED)}
    two, three = (entropy(grams[n]) / math.log(2) for n in (2, 3))
    long = grams[REPEATED]
    return {
        "fluency": (2 / 3 * two + 4 / 3 * three) / 2,
        "bigram": two,
        "trigram": three,
        "repetition": 1 - len(set(long)) / len(long) if long else 0.0,
        "empty": float(not response.strip()),
    }


def score(splits: Splits, answers: Sequence[Answer], params: beside.Params, context: Context) -> Score:
    """Take each response's n-gram entropy and average, × 100; repetition and empty shares are extras."""
    records, truncated = [], False
    questions = beside.has_questions(splits)
    for example, answer in zip(beside.examples(splits, params), answers, strict=True):
        assert isinstance(answer, Generation)
        truncated |= answer.truncated
        text = clean_up(answer.text)
        response = knowmem.cut_answer(text) if questions else text
        scores = measure(response) if answer.defined else {"fluency": None}
        records.append(example.record(scores, response=response))
    return beside.average("fluency", records, truncated, context, "the model's logits are not finite")


METRIC = Metric(
    goal="higher",
    roles=beside.ROLES,
    params=beside.Params,
    requests=requests,
    score=score,
    few_shot=beside.FEW_SHOT,
    beside=beside.HOSTS,
)
