"""PrivLeak, privacy leakage: how well membership inference tells forget from holdout texts.

MUSE (arXiv 2407.06460), section 3.2: PrivLeak = (AUC − AUC_retrain) / AUC_retrain × 100, where the AUC is
that of the Min-K% attack (Shi et al., arXiv 2310.16789) on forget (label 0) against holdout (label 1).
AUC = P(a holdout text looks likelier than a forget text): 0 = fully memorised, about ½ = never seen.
0 is ideal; negative means under-unlearned, positive over-unlearned.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from muse_eval.config import aside
from muse_eval.metrics.attacks import REFERENCE, attack, statistics
from muse_eval.statistics import TwoClasses, auc, relative_auc_interval
from muse_eval.types import (
    Answer,
    Context,
    GradientNorm,
    Logprobs,
    Metric,
    Record,
    Request,
    Score,
    Splits,
    TokenLogprobs,
)

SATURATED = 0.01
"""An AUC within this distance of 0 or 1 is at its bound: fewer than 1 % of the pairs say otherwise."""
COLLAPSED = 1.5
"""A holdout mean Min-k% this many times retrain's marks a ruined model, whatever its PrivLeak."""


@dataclass(frozen=True)
class Params:
    """Parameters of PrivLeak."""

    k: Annotated[float, Field(gt=0, le=1)] = 0.40
    """Share of least likely tokens of the headline attack."""
    retain: bool = aside(False)
    """Also score the retain texts, for the AUC of every ordered pair of splits."""
    lower: bool = aside(False)
    """Also score the lower-cased texts, for the attack PPL/lower (twice the work)."""
    reference: bool = aside(False, later=True)
    """Also make the attack reference: the loss less that of the measured retrain model."""
    gradnorm: bool = aside(False, later=True)
    """Also ask for the norm of each text's gradient, for the attack gradnorm (engine hf only)."""
    moments: bool = aside(True)
    """Also take the moments of the model's distribution, for Min-K%++ (arXiv 2404.02936)."""
    truncate: bool = aside(False)
    """Score only the first context-full of a text that is longer, instead of refusing it."""


def _roles(params: Params) -> tuple[str, ...]:
    return ("forget", "holdout", "retain") if params.retain else ("forget", "holdout")


def requests(splits: Splits, params: Params) -> list[Request]:
    """Ask for the log-probabilities of every text, its lower-cased form's and its gradient where wanted."""
    texts = [(role, i, row["text"]) for role in _roles(params) for i, row in enumerate(splits[role])]
    asks: list[Request] = [
        Logprobs(text, params.moments, truncate=params.truncate, name=f"{role}[{i}]")
        for role, i, text in texts
    ]
    if params.lower:
        asks += [
            Logprobs(text.lower(), truncate=params.truncate, name=f"{role}[{i}], lower-cased")
            for role, i, text in texts
        ]
    if params.gradnorm:
        asks += [GradientNorm(text, params.truncate, name=f"{role}[{i}]") for role, i, text in texts]
    return asks


Statistics = Mapping[str, list[dict[str, float | None]]]
"""Role to the attacks' scores of each of its texts."""


def _all_statistics(
    splits: Splits, answers: Sequence[Answer], params: Params, retrain: Sequence[Answer] = ()
) -> Statistics:
    texts = [(role, row["text"]) for role in _roles(params) for row in splits[role]]
    result: dict[str, list[dict[str, float | None]]] = {role: [] for role in _roles(params)}
    for place, (role, text) in enumerate(texts):
        answer, theirs = answers[place], retrain[place] if retrain else None
        lower = answers[len(texts) + place] if params.lower else None
        norm = answers[place - len(texts)] if params.gradnorm else None
        assert isinstance(answer, TokenLogprobs)
        assert lower is None or isinstance(lower, TokenLogprobs)
        assert theirs is None or isinstance(theirs, TokenLogprobs)
        assert norm is None or isinstance(norm, float)
        result[role].append(statistics(text, answer, lower, params.k, retrain=theirs, norm=norm))
    return result


def _classes(stats: Statistics, negative: str, positive: str, name: str) -> TwoClasses | str:
    """Return two splits' scores under an attack, turned so that likelier is higher, or why not."""
    columns = []
    for role in (negative, positive):
        column = [one[name] for one in stats[role]]
        missing = [index for index, value in enumerate(column) if value is None]
        if missing:
            return (
                f"{name} is undefined for {role}[{missing[0]}]: too few tokens, or no finite log-probability"
            )
        columns.append([-value for value in column if value is not None])
    return TwoClasses(*columns)


def score(splits: Splits, answers: Sequence[Answer], params: Params, context: Context) -> Score:
    """Compare the attack's AUC with retrain's, in percent; every other attack is among the extras.

    Without a reference, or with one whose AUC is 0, the value is None and the reason says why.
    """
    measured = context.reference.answers if context.reference and params.reference else ()
    stats = _all_statistics(splits, answers, params, measured)
    aucs, undefined = _aucs(stats, params)
    if params.reference and not measured:
        undefined[REFERENCE] = f"{REFERENCE} needs a retrain model that is measured; give --retrain MODEL"
    headline = attack(params.k)
    flags: list[str] = []
    if any(isinstance(a, TokenLogprobs) and a.truncated for a in answers):
        flags.append("truncated")
    classes = _classes(stats, "forget", "holdout", headline)
    extras: dict[str, Any] = {"attack": headline, "auc": aucs}
    if undefined:
        extras["undefined"] = undefined
    value, ci, reason = None, None, None
    if isinstance(classes, str):
        reason = classes
    else:
        own = auc(classes.negatives, classes.positives)
        extras[f"mean_{headline}"] = _means(stats, headline)
        if min(own, 1 - own) < SATURATED:
            flags.append("saturated")
        base = _base(splits, params, context, headline)
        if isinstance(base, str):
            reason = base
            flags.append("no-reference")
        else:
            extras["reference"] = base.describe(headline)
            flags += base.flags(extras[f"mean_{headline}"]["holdout"])
            value = 100 * (own - base.auc) / base.auc
            interval = relative_auc_interval(
                classes, base.classes or base.auc, seed=context.seed, resamples=context.resamples
            )
            ci = (100 * interval[0], 100 * interval[1]) if interval else None
    return Score(
        value=value,
        ci=ci,
        n=sum(len(stats[role]) for role in ("forget", "holdout")),
        flags=tuple(flags),
        reason=reason,
        extras=extras,
        records=_records(splits, stats),
    )


@dataclass(frozen=True)
class _Base:
    """The retrain model's side of the ratio."""

    source: str
    model: str
    auc: float
    classes: TwoClasses | None = None
    """Its scores of the same texts, where it was measured."""

    @property
    def holdout(self) -> float | None:
        """Its mean Min-k% of the holdout texts, where it was measured."""
        return None if self.classes is None else -float(np.mean(self.classes.positives))

    def describe(self, headline: str) -> dict[str, Any]:
        """Say for the result what PrivLeak was divided by."""
        described = {"source": self.source, "model": self.model, "attack": headline, "auc": self.auc}
        return described if self.holdout is None else {**described, "mean_holdout": self.holdout}

    def flags(self, holdout: float) -> list[str]:
        """Flag a borrowed reference, or a model whose holdout texts are far less likely than retrain's."""
        if self.holdout is None:
            return ["reference-published"]
        return ["collapsed"] if holdout > COLLAPSED * self.holdout else []


def _base(splits: Splits, params: Params, context: Context, headline: str) -> _Base | str:
    """Return retrain's AUC under the headline attack, or why there is none."""
    reference = context.reference
    if reference is None:
        return f"{context.no_reference or 'no retrain model to compare with'}; give --retrain MODEL"
    if reference.source == "published":
        published = reference.auc.get(headline)
        if published is None:
            return f"no retrain AUC is published for {headline} on this task; give --retrain MODEL"
        base = _Base("published", reference.model, published)
    else:
        stats = _all_statistics(splits, reference.answers, params)
        classes = _classes(stats, "forget", "holdout", headline)
        if isinstance(classes, str):
            return f"on the retrain model {classes}"
        own = auc(classes.negatives, classes.positives)
        base = _Base("measured", reference.model, own, classes)
    if base.auc == 0:
        return f"the retrain model's AUC under {headline} is 0, so nothing can be relative to it"
    return base


def _aucs(stats: Statistics, params: Params) -> tuple[dict[str, float], dict[str, str]]:
    """Return the AUC of every attack for forget against holdout, or for every ordered pair of splits."""
    pairs = list(product(stats, stats)) if params.retain else [("forget", "holdout")]
    aucs, undefined = {}, {}
    for negative, positive in pairs:
        for name in stats["forget"][0]:
            key = f"{negative}_{positive}_{name}"
            classes = _classes(stats, negative, positive, name)
            if isinstance(classes, str):
                undefined[key] = classes
            else:
                aucs[key] = auc(classes.negatives, classes.positives)
    return aucs, undefined


def _means(stats: Statistics, headline: str) -> dict[str, float]:
    """Return the mean Min-k% of each split: a ruined model shows in the holdout's."""
    defined = {role: [s for one in ones if (s := one[headline]) is not None] for role, ones in stats.items()}
    return {role: float(np.mean(scores)) for role, scores in defined.items() if scores}


def _records(splits: Splits, stats: Statistics) -> tuple[Record, ...]:
    return tuple(
        Record(
            split=role,
            index=index,
            scores=scores,
            prompt_sha256=hashlib.sha256(splits[role][index]["text"].encode()).hexdigest(),
        )
        for role, ones in stats.items()
        for index, scores in enumerate(ones)
    )


METRIC = Metric(
    goal="zero",
    roles={"forget": ("text",), "holdout": ("text",), "retain": ("text",)},
    params=Params,
    requests=requests,
    score=score,
    relative=True,
)
