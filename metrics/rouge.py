"""ROUGE as MUSE takes it: rouge-score without stemmer, on texts with the decoder's spaces cleaned up."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from muse_eval.statistics import mean_interval
from muse_eval.types import Context, Record, Score

CLEAN_UPS = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
"""What decoding with ``clean_up_tokenization_spaces=True`` replaces, in this order.

Newer transformers ignore the switch for some tokenizers, so the rule is applied here, to every engine's
answers alike.
"""


def clean_up(text: str) -> str:
    """Remove the spaces that MUSE's decoding removes: before punctuation and contractions."""
    for spaced, closed in CLEAN_UPS:
        text = text.replace(spaced, closed)
    return text


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rougeL"], use_stemmer=False)


ROUGES = ("rougeL", "rougeL_recall", "rouge1", "rouge1_recall")


def rouge(response: str, truth: str, defined: bool = True) -> dict[str, float | None]:
    """Score a response against the truth: F1 and recall of ROUGE-L and ROUGE-1, as fractions.

    Each is None where the model could not respond (``Generation.defined``).
    """
    if not defined:
        return dict.fromkeys(ROUGES)
    scores = _scorer().score(truth, response)
    both = [(scores[name].fmeasure, scores[name].recall) for name in ("rougeL", "rouge1")]
    return dict(zip(ROUGES, (value for pair in both for value in pair), strict=True))


def mean_rouge(records: Sequence[Record], truncated: bool, context: Context) -> Score:
    """Aggregate records to a column: 100 × mean ROUGE-L F1 with its interval, the rest as extras.

    Undefined where a record is: an answer that the model could not give counts neither as right nor as wrong.
    """
    undefined = [record for record in records if record.scores["rougeL"] is None]
    if undefined:
        where = f"{undefined[0].split}[{undefined[0].index}]"
        return Score(
            value=None,
            ci=None,
            n=len(records),
            reason=f"the model's logits are not finite in {len(undefined)} of {len(records)} answers "
            f"(first: {where})",
            records=tuple(records),
        )
    columns = {name: [float(record.scores[name] or 0.0) for record in records] for name in records[0].scores}
    values = columns["rougeL"]
    low, high = mean_interval(values, seed=context.seed, resamples=context.resamples)
    means = {f"mean_{name}": float(np.mean(each)) for name, each in columns.items()}
    return Score(
        value=100 * float(np.mean(values)),
        ci=(100 * low, 100 * high),
        n=len(records),
        flags=("truncated",) if truncated else (),
        extras=means,
        records=tuple(records),
    )
