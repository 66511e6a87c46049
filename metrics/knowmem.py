"""KnowMem, knowledge memorisation: how well the model answers questions about a corpus.

MUSE (arXiv 2407.06460), section 3.1 (on the forget set) and 3.4 (utility, on the retain set): mean ROUGE-L
F1 between the greedy few-shot answer and the true one. One metric, two columns.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field

from muse_eval.config import aside, departure
from muse_eval.errors import UserError
from muse_eval.metrics.rouge import clean_up, mean_rouge, rouge
from muse_eval.types import Answer, Context, Generate, Generation, Metric, Record, Request, Score, Splits

STOP = ("\n\n", "\nQuestion", "Question:")
"""Where an answer ends, cut in this order."""


@dataclass(frozen=True)
class Params:
    """Parameters of KnowMem."""

    max_tokens: Annotated[int, Field(gt=0)] = 32
    """New tokens of an answer."""
    shots: Annotated[int, Field(ge=0)] = 10
    """In-context pairs in front of each question."""
    truncate: bool = aside(False)
    """Keep the end of a prompt that does not fit the context instead of refusing it."""
    answer_space: bool = departure(True)
    """End the prompt in ``Answer:`` and a space, as MUSE's do; without it the answer brings its own."""


def prompts(splits: Splits, params: Params) -> list[str]:
    """Build the few-shot prompts; each ends in ``Answer:``, and in a space as MUSE's do (``answer_space``).

    Raises:
        UserError: there are fewer in-context pairs than ``shots``.
    """
    pairs = splits["icl"]
    if len(pairs) < params.shots:
        raise UserError(
            f"KnowMem needs {params.shots} in-context pairs, the split has {len(pairs)}; "
            f"add some, or set the column's parameter shots: {len(pairs)}"
        )
    shots = "".join(
        f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in pairs[: params.shots]
    )
    return [f"{shots}Question: {row['question']}\n{ending(params)}" for row in splits["qa"]]


def ending(params: Params) -> str:
    """Return what each prompt ends in."""
    return "Answer: " if params.answer_space else "Answer:"


def cut_answer(text: str) -> str:
    """Return the text before the first of each stop string, applied one after the other."""
    for stop in STOP:
        text = text.split(stop, 1)[0]
    return text


def requests(splits: Splits, params: Params) -> list[Request]:
    """Ask each question behind the in-context pairs."""
    return [
        Generate(prompt, params.max_tokens, STOP, truncate=params.truncate, name=f"qa[{i}]")
        for i, prompt in enumerate(prompts(splits, params))
    ]


def score(splits: Splits, answers: Sequence[Answer], params: Params, context: Context) -> Score:
    """Compare each answer with the truth by ROUGE-L F1 and average, in percent.

    Where rows carry a ``source`` (retain1, retain2), the mean of each source is among the extras.
    """
    records, truncated = [], False
    by_source: dict[str, list[float]] = defaultdict(list)
    for index, (row, prompt) in enumerate(zip(splits["qa"], prompts(splits, params), strict=True)):
        generation = answers[index]
        assert isinstance(generation, Generation)
        response = cut_answer(clean_up(generation.text))
        truncated |= generation.truncated
        scores = rouge(response, row["answer"], generation.defined)
        records.append(
            Record(
                split="qa",
                index=index,
                prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(),
                texts={"question": row["question"], "response": response, "truth": row["answer"]},
                scores=scores,
            )
        )
        if "source" in row:
            by_source[row["source"]].append(float(scores["rougeL"] or 0.0))
    result = mean_rouge(records, truncated, context)
    if result.value is None:
        return result
    sources = {f"mean_rougeL_{name}": float(np.mean(values)) for name, values in by_source.items()}
    return replace(result, extras={**result.extras, **sources})


METRIC = Metric(
    goal="lower",
    roles={"qa": ("question", "answer"), "icl": ("question", "answer")},
    params=Params,
    requests=requests,
    score=score,
    few_shot=("icl",),
)
