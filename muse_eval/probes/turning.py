"""What probes that ask otherwise share: a metric over other rows, or behind other prompts."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from muse_eval.types import Answer, Context, Generate, Metric, Request, Score, Splits


def over_rows(metric: Metric, change: Callable[[Splits, Any], tuple[Splits, Any]], text: str = "") -> Metric:
    """Return a metric that asks and scores other rows, with other parameters, than it is given.

    Args:
        metric: the metric.
        change: (splits, its parameters) → those it gets instead, of as many rows.
        text: the column of a changed row that its record shows, for one that asks otherwise.
    """

    def requests(splits: Splits, params: Any) -> list[Request]:
        return metric.requests(*change(splits, params))

    def score(splits: Splits, answers: Sequence[Answer], params: Any, context: Context) -> Score:
        changed, others = change(splits, params)
        found = metric.score(changed, answers, others, context)
        if not text:
            return found
        records = tuple(
            replace(one, texts={**one.texts, text: changed[one.split][one.index][text]})
            for one in found.records
        )
        return replace(found, records=records)

    return replace(metric, requests=requests, score=score)


def behind_prompts(metric: Metric, prompts: Callable[[Splits, Any], Sequence[str]]) -> Metric:
    """Return a metric whose continuations are asked for behind other prompts, and scored as before.

    Args:
        metric: the metric; its i-th continuation is its i-th record's.
        prompts: (splits, its parameters) → a prompt for each continuation.
    """

    def requests(splits: Splits, params: Any) -> list[Request]:
        told = iter(prompts(splits, params))
        return [
            replace(ask, prompt=next(told)) if isinstance(ask, Generate) else ask
            for ask in metric.requests(splits, params)
        ]

    def score(splits: Splits, answers: Sequence[Answer], params: Any, context: Context) -> Score:
        found = metric.score(splits, answers, params, context)
        asked = prompts(splits, params)
        records = tuple(
            replace(
                one,
                texts={**one.texts, "prompt": prompt},
                prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(),
            )
            for one, prompt in zip(found.records, asked, strict=True)
        )
        return replace(found, records=records)

    return replace(metric, requests=requests, score=score)


def with_role(splits: Splits, **roles: Sequence[Mapping[str, str]]) -> Splits:
    """Return splits with other rows for some roles."""
    return {**{role: splits[role] for role in splits}, **roles}
