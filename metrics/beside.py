"""What optional metrics share: each stands beside a VerbMem or KnowMem column and is asked like it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from muse_eval.config import aside, departure
from muse_eval.metrics import knowmem, verbmem
from muse_eval.statistics import mean_interval
from muse_eval.types import Context, Record, Score, Splits

HOSTS = ("verbmem", "knowmem")
ROLES: Mapping[str, tuple[str, ...]] = {**verbmem.METRIC.roles, **knowmem.METRIC.roles}
FEW_SHOT = knowmem.METRIC.few_shot


@dataclass(frozen=True)
class Params:
    """Parameters; beside a column they are that column's own."""

    max_tokens: Annotated[int, Field(gt=0)] = 128
    """Tokens of a response, or of a truth, that count."""
    shots: Annotated[int, Field(ge=0)] = 10
    """In-context pairs in front of each question."""
    truncate: bool = aside(False)
    """Cut the beginning of what does not fit the context instead of refusing it."""
    answer_space: bool = departure(True)
    """End KnowMem's prompt in ``Answer:`` and a space, as MUSE's do."""


@dataclass(frozen=True)
class Example:
    """One example of a column."""

    role: str
    index: int
    prompt: str
    truth: str
    texts: Mapping[str, str]
    """What its record tells beside scores."""

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.role}[{self.index}]"

    def record(self, scores: Mapping[str, float | None], **texts: str) -> Record:
        """Return its evidence."""
        digest = hashlib.sha256(self.prompt.encode()).hexdigest()
        return Record(self.role, self.index, scores, {**self.texts, **texts}, digest)


def examples(splits: Splits, params: Params) -> list[Example]:
    """Return the prompts of VerbMem or KnowMem, whichever's splits these are, with their truths.

    Raises:
        UserError: there are fewer in-context pairs than ``shots``.
    """
    if not has_questions(splits):
        return [
            Example("forget", i, row["prompt"], row["gt"], {"truth": row["gt"]})
            for i, row in enumerate(splits["forget"])
        ]
    prompts = knowmem.prompts(splits, as_knowmem(params))
    return [
        Example("qa", i, prompt, row["answer"], {"question": row["question"], "truth": row["answer"]})
        for i, (row, prompt) in enumerate(zip(splits["qa"], prompts, strict=True))
    ]


def has_questions(splits: Splits) -> bool:
    """Tell whether the splits are KnowMem's."""
    return "qa" in splits


def as_knowmem(params: Params) -> knowmem.Params:
    """Return the parameters as KnowMem has them."""
    return knowmem.Params(params.max_tokens, params.shots, params.truncate, params.answer_space)


def average(name: str, records: Sequence[Record], truncated: bool, context: Context, why: str) -> Score:
    """Aggregate records to a column: 100 × the mean of a score with its interval, every mean as an extra.

    Args:
        name: the score that is the column's value.
        records: of all examples.
        truncated: whether something had to be cut for the context.
        context: of the metric.
        why: what a record without the score means; one such leaves the column undefined.
    """
    undefined = [record for record in records if record.scores[name] is None]
    if undefined:
        first = f"{undefined[0].split}[{undefined[0].index}]"
        reason = f"{why} in {len(undefined)} of {len(records)} examples (first: {first})"
        return Score(None, None, len(records), reason=reason, records=tuple(records))
    columns = {key: [float(record.scores[key] or 0.0) for record in records] for key in records[0].scores}
    low, high = mean_interval(columns[name], seed=context.seed, resamples=context.resamples)
    return Score(
        value=100 * float(np.mean(columns[name])),
        ci=(100 * low, 100 * high),
        n=len(records),
        flags=("truncated",) if truncated else (),
        extras={f"mean_{key}": float(np.mean(values)) for key, values in columns.items()},
        records=tuple(records),
    )
