"""How a model ranks the tokens of each truth when it reads prompt and truth as one text."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from muse_eval.metrics.beside import Example, Params, average, examples, has_questions
from muse_eval.types import Answer, Context, Logprobs, Request, Score, Splits, TokenLogprobs

OPENING, CLOSING = "([{<\"'“‘«£$€#@", ".,;:!?)]}>\"'”’»%…"
"""What no space follows, and what none goes before; straight quotation marks may be either."""


def whole(example: Example, questions: bool) -> str:
    """Return prompt and truth as one text: KnowMem's joined by the space behind ``Answer:``."""
    if questions:
        return f"{example.prompt.removesuffix(' ')} {example.truth}"
    return joined(example.prompt, example.truth)


def joined(prompt: str, truth: str) -> str:
    """Return VerbMem's prompt and truth as one text.

    The white space between them may be lost: where neither side has any, a space is put there unless signs
    or script speak against it.
    """
    if not prompt or not truth or prompt[-1].isspace() or truth[0].isspace():
        return prompt + truth
    wide = any(unicodedata.east_asian_width(sign) in "WF" for sign in (prompt[-1], truth[0]))
    close = prompt[-1] in OPENING or truth[0] in CLOSING
    return prompt + truth if wide or close else f"{prompt} {truth}"


def requests(splits: Splits, params: Params) -> list[Request]:
    """Ask for the ranks of each truth's tokens behind its prompt."""
    questions = has_questions(splits)
    return [
        Logprobs(whole(one, questions), ranks=True, after=one.prompt, truncate=params.truncate, name=one.name)
        for one in examples(splits, params)
    ]


def first_choices(answer: TokenLogprobs, most: int) -> np.ndarray | None:
    """Return for each of a truth's first ``most`` tokens whether it is the model's first choice: bool.

    None where the truth has no token of its own, or a token has no finite log-probability.
    """
    assert answer.ranks is not None
    ranks, logprobs = answer.ranks[:most], answer.logprobs[:most]
    if not len(ranks) or not np.isfinite(logprobs).all():
        return None
    return np.asarray(ranks == 1)


Measure = Callable[[np.ndarray], Mapping[str, float]]
"""Scores an example by ``first_choices``."""


def score(
    name: str,
    measure: Measure,
    splits: Splits,
    answers: Sequence[Answer],
    params: Params,
    context: Context,
) -> Score:
    """Measure each truth and average the score called ``name``, in percent."""
    records, truncated = [], False
    for example, answer in zip(examples(splits, params), answers, strict=True):
        assert isinstance(answer, TokenLogprobs)
        truncated |= answer.truncated
        chosen = first_choices(answer, params.max_tokens)
        records.append(example.record({name: None} if chosen is None else measure(chosen)))
    why = "the truth has no token of its own, or the model's logits are not finite,"
    return average(name, records, truncated, context, why)
