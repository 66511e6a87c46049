"""Scores a model on a task: requests from the metrics, answers from the store, scores with evidence."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_eval import provenance, results
from muse_eval.config import RunConfig, fingerprint
from muse_eval.engines import ModelSource, open_engine
from muse_eval.errors import UserError
from muse_eval.plan import Plan, PlannedColumn, plan
from muse_eval.store import Store, Warn
from muse_eval.types import Context, Engine, Reference, Result, Score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it and its whole."""


def ignore(*_: object) -> None:
    """Take no notice of progress or of a warning."""


@dataclass(frozen=True)
class Outcome:
    """Where a run's result lies, and the result itself where it was scored now."""

    folder: Path
    result: Result | None


def run(
    config: RunConfig,
    *,
    loaded: "Loaded | None" = None,
    progress: Progress = ignore,
    warn: Warn = ignore,
    reuse: bool = False,
) -> Outcome:
    """Score a model on a task and write ``result.json`` and ``records.jsonl``.

    A run that was killed goes on from the answers it had. The same settings give the same bytes.

    Args:
        config: what to score, and how.
        loaded: a model and its tokenizer in memory, scored instead of loading ``config.model``.
        progress: told of every finished batch.
        warn: told, in one line, of what is odd but not fatal.
        reuse: keep a stored result of the very same settings and code instead of scoring again.

    Raises:
        UserError: something that the user can mend; nothing half-written is left.
    """
    _check_writable(config.results)
    planned = plan(config)
    with (
        _open(config, planned, config.model, progress, loaded) as engine,
        _open_retrain(config, planned, progress) as retrain,
    ):
        name = config.name or str(engine.provenance["model"]).rsplit("/", 1)[-1]
        folder = results.run_folder(config.results, planned.task.name, name)
        settings = _settings(config, planned, engine, retrain)
        stored = _stored(folder, settings, config.overwrite, warn)
        if reuse and stored and stored.provenance.get("code") == provenance.code_digest():
            return Outcome(folder, None)
        store = Store(config.results / "cache" if config.cache else None, warn)
        result = _score(config, planned, engine, retrain, store, progress)
    result = replace(result, name=name, config=settings)
    results.save(result, folder)
    return Outcome(folder, result)


def _check_writable(folder: Path) -> None:
    """Refuse a results folder that cannot be made or written, before any work is done."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"cannot write results to {folder}: {nearest} is no folder that can be written; "
            "give another --results"
        )


def _open(
    config: RunConfig, planned: Plan, model: str, progress: Progress, loaded: "Loaded | None" = None
) -> Engine:
    source = ModelSource(
        model=model,
        tokenizer=config.tokenizer,
        fallbacks=planned.task.tokenizers,
        dtype=config.dtype,
        allow_pickle=config.allow_pickle,
        trust_remote_code=config.trust_remote_code,
    )
    return open_engine(config.engine, source, planned.engine_settings, loaded=loaded, progress=progress)


def _open_retrain(
    config: RunConfig, planned: Plan, progress: Progress
) -> AbstractContextManager[Engine | None]:
    relative = any(column.metric.relative for column in planned.columns)
    return _open(config, planned, config.retrain, progress) if config.retrain and relative else nullcontext()


def _settings(config: RunConfig, planned: Plan, engine: Engine, retrain: Engine | None) -> dict[str, Any]:
    """Describe everything that can change a number; two runs of one name must agree in it."""
    settings = {
        "task": planned.task.model_dump(
            mode="json", by_alias=True, exclude={"unlearn", "models", "fingerprints"}
        ),
        "data": planned.data.describe(),
        "engine": engine.id,
        "retrain": None if retrain is None else retrain.id,
        "columns": {column.name: asdict(column.params) for column in planned.columns},
        "limit": config.limit,
        "seed": config.seed,
    }
    return {**settings, "fingerprint": fingerprint(settings)}


def _stored(
    folder: Path, settings: Mapping[str, Any], overwrite: bool, warn: Warn
) -> results.StoredResult | None:
    """Return what the run's folder holds already, refusing a result of other settings."""
    try:
        stored = results.load(folder)
    except results.CorruptResult as error:
        warn(f"{error}; it is replaced")
        return None
    if stored is None or overwrite:
        return None
    if stored.config.get("fingerprint") != settings["fingerprint"]:
        changed = [
            key for key in settings if stored.config.get(key) != settings[key] and key != "fingerprint"
        ]
        raise UserError(
            f"{folder} holds a run with other settings ({', '.join(changed) or 'unknown'}); "
            "give --name for a new one, or --overwrite"
        )
    return stored


def _score(
    config: RunConfig,
    planned: Plan,
    engine: Engine,
    retrain: Engine | None,
    store: Store,
    report: Progress,
) -> Result:
    columns: dict[str, Score] = {}
    extras: dict[str, Any] = {}
    seconds = 0.0
    for column in planned.columns:
        title = column.spec.title
        answers = store.ask(engine, column.requests, partial(report, title))
        seconds += answers.seconds
        reference = _reference(planned, column, retrain, store, report)
        score = column.metric.score(
            column.splits, answers.values, column.params, Context(config.seed, reference=reference)
        )
        columns[column.name] = _finished(score, column, config.limit)
        if column.metric.relative:
            extras |= score.extras
        else:
            extras[column.name] = score.extras
    model = engine.provenance
    return Result(
        task=planned.task.name,
        name="",
        model={"id": model["model"], "revision": model["revision"], "digest": model["weights"]},
        columns=columns,
        extras=extras,
        config={},
        provenance={
            "engine": dict(model),
            "retrain": None if retrain is None else dict(retrain.provenance),
            "versions": provenance.versions(),
            "commit": provenance.git_commit(),
            "code": provenance.code_digest(),
        },
        seconds=seconds,
    )


def _reference(
    planned: Plan, column: PlannedColumn, retrain: Engine | None, store: Store, report: Progress
) -> Reference | None:
    """Return what a relative column is relative to: retrain's own answers, else published numbers."""
    if not column.metric.relative:
        return None
    if retrain is not None:
        title = f"{column.spec.title}, retrain"
        answers = store.ask(retrain, column.requests, partial(report, title))
        return Reference("measured", str(retrain.provenance["model"]), answers=answers.values)
    if planned.task.retrain_auc and planned.data.describe()["source"] != "builtin":
        return Reference("published", planned.task.source, planned.task.retrain_auc)
    return None


def _finished(score: Score, column: PlannedColumn, limit: int | None) -> Score:
    """Name the splits in the records as the task does, and flag a limited run."""
    records = tuple(replace(r, split=column.spec.splits[r.split]) for r in score.records)
    flags = (*score.flags, "limited") if limit is not None else score.flags
    return replace(score, records=records, flags=flags)
