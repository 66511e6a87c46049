"""What a run's numbers are of: how many examples of which data, asked how, by which engine."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from muse_eval.config import Spec, fingerprint
from muse_eval.results.comparable import stored_params
from muse_eval.results.lineage import part
from muse_eval.results.rows import Goal, stored_headings, task_spec
from muse_eval.results.runs import CorruptResult, Number, StoredResult, load_records


class MeasuredColumn(Spec, strict=True):
    """What one column's value is of."""

    n: Annotated[int, Field(ge=0)]
    goal: Goal | None = None
    """Which way is better."""
    params: Annotated[dict[str, Any], Field(default_factory=dict)]
    """All parameters that can change the value."""
    data: Annotated[dict[str, str], Field(default_factory=dict)]
    """Split to digest of its rows."""
    examples: str | None = None
    """Digest of what was asked and of the truths, from the records; None where there are none."""
    reference: Number | None = None
    """The retrain model's AUC, where the column is relative to it."""


class Measured(Spec, strict=True):
    """What a run's values are of."""

    engine: Annotated[dict[str, Any], Field(default_factory=dict)]
    """``engine``, ``dtype`` and ``quantization`` of the model."""
    retrain: dict[str, Any] | None = None
    """The same of the retrain model."""
    limit: int | None = None
    seed: int | None = None
    weights: str | None = None
    """Digest of the weights; a model that was made again may have others, and is compared."""
    code: str | None = None
    """Digest of the scoring code; what other code makes of a model is what a gate compares."""
    columns: dict[str, MeasuredColumn]


def measured(result: StoredResult) -> Measured:
    """Return what a stored run's values are of, as far as it and its records tell."""
    config, examples = result.config, _examples(result)
    model, retrain = part(config, "model"), part(config, "retrain")
    weights, code = model.get("weights"), result.provenance.get("code")
    limit, seed = config.get("limit"), config.get("seed")
    return Measured(
        engine=_engine(model),
        retrain=_engine(retrain) if retrain else None,
        limit=limit if isinstance(limit, int) else None,
        seed=seed if isinstance(seed, int) else None,
        weights=weights if isinstance(weights, str) else None,
        code=code if isinstance(code, str) else None,
        columns={
            name: _column(result, name, examples.get(name))
            for name, column in result.columns.items()
            if column.value is not None
        },
    )


def _engine(model: Mapping[str, Any]) -> dict[str, Any]:
    return {key: model[key] for key in ("engine", "dtype", "quantization") if model.get(key) is not None}


def _column(result: StoredResult, name: str, examples: str | None) -> MeasuredColumn:
    spec = part(part(part(result.config, "task"), "columns"), name)
    digests, read = part(part(result.config, "data"), "sha256"), part(spec, "splits").values()
    auc = part(part(result.extras, name), "reference").get("auc")
    heading = stored_headings(result).get(name)
    return MeasuredColumn(
        n=result.columns[name].n,
        goal=heading.goal if heading else None,
        params=stored_params(result, name),
        data={str(split): str(digests[split]) for split in read if split in digests},
        examples=examples,
        reference=float(auc) if isinstance(auc, int | float) else None,
    )


def _examples(result: StoredResult) -> dict[str, str]:
    """Return, by column, the digest of what its records say was asked and was true."""
    if result.folder is None:
        return {}
    found: dict[str, list[list[Any]]] = {}
    try:
        for one in load_records(result.folder):
            known = [one.get(key) for key in ("split", "id", "prompt_sha256", "truth")]
            found.setdefault(str(one.get("column")), []).append(known)
    except CorruptResult:
        return {}
    return {name: fingerprint(sorted(asked, key=json.dumps)) for name, asked in found.items()}


# ── then and now ─────────────────────────────────────────────────────────────────────────────────
def otherwise(now: Measured, then: Measured, column: str, tolerance: float) -> str:
    """Say in what a column measures something else than in the baseline; empty where it does not.

    Args:
        now: what the run's values are of.
        then: the same of the baseline.
        column: the column, which both have.
        tolerance: points; how far a change of the retrain model's AUC may move the value.
    """
    here, there = now.columns[column], then.columns[column]
    for what in ("engine", "retrain", "limit", "seed"):
        if told := differs(what, getattr(now, what), getattr(then, what)):
            return told
    for what in ("n", "goal", "params"):
        if told := differs(what, getattr(here, what), getattr(there, what)):
            return told
    if other := sorted(
        name for name in {*here.data, *there.data} if here.data.get(name) != there.data.get(name)
    ):
        return f"the data of {', '.join(other)} are others than in the baseline"
    if here.examples != there.examples:
        return "its records are of other examples than in the baseline"
    return _reference(here.reference, there.reference, tolerance)


def _reference(now: float | None, then: float | None, tolerance: float) -> str:
    if now is None or then is None:
        return differs("the retrain AUC", now, then)
    if then and abs(now - then) / then * 100 > max(tolerance, 0.01):
        return f"the retrain AUC is {now:.4f} now, {then:.4f} in the baseline"
    return ""


def differs(what: str, now: Any, then: Any, absent: str = "none") -> str:
    """Say that something is another now than in the baseline, key by key; empty where it is not."""
    if now == then:
        return ""
    if isinstance(now, Mapping) and isinstance(then, Mapping):
        differing = (key for key in sorted({*now, *then}) if now.get(key) != then.get(key))
        return "; ".join(differs(key, now.get(key), then.get(key), absent) for key in differing)

    def word(value: Any) -> str:
        return absent if value is None else value if isinstance(value, str) else json.dumps(value)

    return f"{what} is {word(now)} now, {word(then)} in the baseline"


def installed_goal(task: str, column: str) -> Goal | None:
    """Return which way is better as the installed task has it; None where it is not installed."""
    spec = task_spec(task)
    known = spec.columns.get(column) if spec else None
    return known.goal if known else None
