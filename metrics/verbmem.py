"""VerbMem, verbatim memorisation: how much of a forget text the model continues word for word.

MUSE (arXiv 2407.06460), section 3.1: mean ROUGE-L F1 between the greedy continuation of a prompt and the
true continuation, both at most 128 tokens long.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from muse_eval.config import aside
from muse_eval.metrics.rouge import clean_up, mean_rouge, rouge
from muse_eval.types import (
    Answer,
    Context,
    Generate,
    Generation,
    Metric,
    Record,
    Request,
    Score,
    Splits,
    Truncate,
)


@dataclass(frozen=True)
class Params:
    """Parameters of VerbMem."""

    max_tokens: Annotated[int, Field(gt=0)] = 128
    """New tokens of the continuation, and tokens (BOS counted, as in MUSE's code) of the truth."""
    truncate: bool = aside(False)
    """Keep the end of a prompt that does not fit the context instead of refusing it."""


def requests(splits: Splits, params: Params) -> list[Request]:
    """Ask for the continuation of each prompt, then for each truth cut to length."""
    rows = splits["forget"]
    return [
        *(
            Generate(row["prompt"], params.max_tokens, truncate=params.truncate, name=f"forget[{i}]")
            for i, row in enumerate(rows)
        ),
        *(Truncate(row["gt"], params.max_tokens, name=f"forget[{i}]") for i, row in enumerate(rows)),
    ]


def score(splits: Splits, answers: Sequence[Answer], _params: Params, context: Context) -> Score:
    """Compare each continuation with its truth by ROUGE-L F1 and average, in percent."""
    rows = splits["forget"]
    records, truncated = [], False
    for index, row in enumerate(rows):
        generation, cut = answers[index], answers[len(rows) + index]
        assert isinstance(generation, Generation)
        assert isinstance(cut, str)
        response, truth = clean_up(generation.text), clean_up(cut)
        truncated |= generation.truncated
        records.append(
            Record(
                split="forget",
                index=index,
                prompt_sha256=hashlib.sha256(row["prompt"].encode()).hexdigest(),
                texts={"response": response, "truth": truth},
                scores=rouge(response, truth, generation.defined),
            )
        )
    return mean_rouge(records, truncated, context)


METRIC = Metric(
    goal="lower",
    roles={"forget": ("prompt", "gt")},
    params=Params,
    requests=requests,
    score=score,
)
