"""Whether a model's responses say anything: the flag ``degenerate``, of the responses themselves.

A model driven too far repeats itself ("the guild of the guild of …") or says nothing. On forget columns
either looks like success, and a retain term can keep the answers about the retain set whole beside it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from muse_eval.results.comparable import asked
from muse_eval.results.lineage import part
from muse_eval.results.runs import REFERENCES, CorruptResult, StoredResult, load_records
from muse_eval.statistics import entropy
from muse_eval.types import Result

FLAG = "degenerate"
BROKEN = ("collapsed", FLAG)
"""Flags of a ruined model: its numbers are not those of unlearning."""
KEY = "variety"
"""Among a column's extras: the mean variety of its responses."""
GRAM = 5
"""Characters of an n-gram: about a word, in scripts with and without spaces."""
SHARE = 0.5
"""Of the lower of target's and retrain's variety; a column below it is flagged."""
ALONE = {"verbmem": 0.3, "knowmem": 0.5}
"""The same where neither is there: half of what they have on the built-in world, by metric."""


def variety(response: str) -> float:
    """Return how varied a response is, from 0 (empty) to 1 (no n-gram twice).

    exp(H) / n, with H the entropy (nats) of its n 5-grams of characters: the number of equally frequent
    n-grams that would have this entropy, over how many there are. White space counts as one space; what is
    shorter than an n-gram has 1.
    """
    text = " ".join(response.split())
    grams = [text[start : start + GRAM] for start in range(len(text) - GRAM + 1)]
    if not grams:
        return 1.0 if text else 0.0
    return min(1.0, math.exp(entropy(grams)) / len(grams))


def mean_variety(responses: Iterable[str]) -> float | None:
    """Return the mean variety of responses; None where there is none."""
    found = [variety(response) for response in responses]
    return sum(found) / len(found) if found else None


def limit(references: Iterable[float | None], metric: str) -> float:
    """Return the variety below which a column is degenerate.

    Args:
        references: target's and retrain's in the same column; one that would be flagged itself gives none.
        metric: what is taken where there is none.
    """
    found = [one for one in references if one is not None and one >= fixed(metric)]
    return SHARE * min(found) if found else fixed(metric)


def fixed(metric: str) -> float:
    """Return the bound of a column whose target and retrain model are not at hand."""
    return ALONE.get(metric, min(ALONE.values()))


def _meaning(references: Mapping[str, float], metric: str) -> str:
    """Say by which bound a column is flagged; ``references`` by name."""
    sound = [f"{name}'s" for name in REFERENCES if references.get(name, 0.0) >= fixed(metric)]
    how = (
        f"less than half as varied as {' and '.join(sound)}"
        if sound
        else f"their variety is under {fixed(metric):g}, the bound where no sound target or retrain model is "
        "at hand"
    )
    return f"the responses repeat themselves or are empty: {how}"


def measured(result: Result, metrics: Mapping[str, str]) -> Result:
    """Add each column's variety to a result's extras, and flag what is degenerate with no other run at hand.

    Args:
        result: as scored.
        metrics: column to the name of its metric.
    """
    columns, extras = dict(result.columns), dict(result.extras)
    for name, score in result.columns.items():
        found = mean_variety(one.texts["response"] for one in score.records if "response" in one.texts)
        if found is not None:
            extras[name] = {**part(extras, name), KEY: found}
            flags = (FLAG,) if found < limit((), metrics[name]) else ()
            columns[name] = replace(score, flags=(*score.flags, *flags))
    return replace(result, columns=columns, extras=extras)


# ── stored results ───────────────────────────────────────────────────────────────────────────────
def judged(results: Iterable[StoredResult]) -> list[StoredResult]:
    """Return stored results with the flag ``degenerate`` as their tasks' target and retrain model have it.

    Of a result from before there was the flag, the responses in its records are measured.
    """
    found = list(results)
    varieties = [_varieties(result) for result in found]
    return [
        _judged(result, own, _references(result, found, varieties))
        for result, own in zip(found, varieties, strict=True)
    ]


def broken(flags: Iterable[str]) -> list[str]:
    """Return those of a run's flags that say that the model is ruined, each once."""
    given = set(flags)
    return [flag for flag in BROKEN if flag in given]


def _varieties(result: StoredResult) -> dict[str, float]:
    """Return each column's variety, as stored or from the records; empty where neither is to be had."""
    stored = {name: part(result.extras, name).get(KEY) for name in result.columns}
    known = {name: float(one) for name, one in stored.items() if isinstance(one, (int, float))}
    if known or result.folder is None:
        return known
    responses: dict[str, list[str]] = {}
    try:
        for record in load_records(result.folder):
            if isinstance(record.get("response"), str):
                responses.setdefault(str(record.get("column")), []).append(record["response"])
    except CorruptResult:
        # Who needs the records says what is wrong with them.
        return {}
    means = {name: mean_variety(some) for name, some in responses.items()}
    return {name: one for name, one in means.items() if one is not None}


def _references(
    result: StoredResult, results: Sequence[StoredResult], varieties: Sequence[Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Return, by column and name, the varieties of target and retrain model, asked in the same way."""
    own, found = asked(result), dict[str, dict[str, float]]()
    for other, its in zip(results, varieties, strict=True):
        if other.task == result.task and other.name in REFERENCES:
            params = asked(other)
            for name in its:
                if name in own and own[name] == params.get(name):
                    found.setdefault(name, {})[other.name] = its[name]
    return found


def _judged(
    result: StoredResult, varieties: Mapping[str, float], references: Mapping[str, Mapping[str, float]]
) -> StoredResult:
    columns = dict(result.columns)
    for name in columns.keys() & varieties.keys():
        flags, metric = [flag for flag in columns[name].flags if flag != FLAG], _metric(result, name)
        # A reference says what is usual; whether it is sound itself, it cannot say.
        known = {} if result.name in REFERENCES else references.get(name, {})
        if varieties[name] < limit(known.values(), metric):
            columns[name] = columns[name].flagged([*flags, FLAG], {FLAG: _meaning(known, metric)})
        elif FLAG in columns[name].flags:
            columns[name] = columns[name].flagged(flags, {})
    return result if columns == result.columns else result.model_copy(update={"columns": columns})


def _metric(result: StoredResult, column: str) -> str:
    spec = part(part(part(result.config, "task"), "columns"), column)
    return str(spec.get("metric", ""))
