"""Scores a model on a task: requests from the metrics, answers from the store, scores with evidence."""

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_eval import prompt_fit, provenance, results
from muse_eval.config import RunConfig, fingerprint
from muse_eval.engines import ModelSource, open_engine
from muse_eval.errors import UserError
from muse_eval.made import Made, reselected
from muse_eval.params import stated
from muse_eval.plan import Plan, PlannedColumn, plan
from muse_eval.store import Answers, Store, Warn
from muse_eval.types import Context, Engine, Reference, Result, Score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]

SCORING_CODE = ("*.py", "metrics/*.py", "engines/*.py")
"""What a stored result must have been made by to be taken for a new one."""

UNSCORED = {"base", "unlearn", "finetune", "folds", "models", "fingerprints"}
"""Fields of a task that change no score."""

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it and its whole."""
Note = Callable[[str], None]
"""Called with a line that says what was decided."""


def ignore(*_: object) -> None:
    """Take no notice of progress or of a warning."""


@dataclass(frozen=True)
class Outcome:
    """Where a run's result lies, and the result itself where it was scored now."""

    folder: Path
    result: Result | None
    engine: str = ""
    """Which engine, and why this one."""


def run(
    config: RunConfig,
    *,
    loaded: "Loaded | None" = None,
    progress: Progress = ignore,
    warn: Warn = ignore,
    note: Note = ignore,
    reuse: bool = False,
    folder: Path | None = None,
    made: Made | None = None,
) -> Outcome:
    """Score a model on a task and write ``result.json`` and ``records.jsonl``.

    A run that was killed goes on from the answers it had. The same settings give the same bytes.

    Args:
        config: what to score, and how.
        loaded: a model and its tokenizer in memory, scored instead of loading ``config.model``.
        progress: told of every finished batch.
        warn: told, in one line, of what is odd but not fatal.
        note: told, in one line, what the engine decided.
        reuse: keep a stored result of the very same settings and code instead of scoring again.
        folder: where the result goes; None: ``runs/<task>/<name>`` in the results folder.
        made: how the pipeline made the model; part of the result's settings and notes.

    Raises:
        UserError: something that the user can mend; nothing half-written is left.
    """
    check_writable(config.results)
    planned = plan(config, loaded=loaded is not None)
    engine = open_engine(
        planned.engine,
        _source(config, planned),
        asks=planned.requests(),
        loaded=loaded,
        progress=progress,
        note=note,
    )
    retrain = _open_retrain(config, planned, progress, note)
    name = config.name or str(engine.provenance["model"]).rsplit("/", 1)[-1]
    folder = folder or results.run_folder(config.results, planned.task.name, name)
    used = str(engine.provenance["engine"])
    chosen = f"{used} ({planned.engine.why if used == planned.engine.name else 'vLLM will not do for it'})"
    settings = _settings(config, planned, engine, retrain, made)
    stored = _stored(folder, settings, config.overwrite, made, warn)
    origin = _origin(engine, retrain)
    if reuse and stored and _same_origin(stored.provenance, origin):
        return Outcome(folder, None, chosen)
    store = Store(config.results / "cache" if config.cache else None, warn)
    # One after the other, so that two models are never in memory together.
    with engine:
        prompt_fit.require_open_end(store, engine)
        if there := store.there(engine, planned.requests()):
            note(f"{name}: {there}")
        answers = {column.name: _ask(store, engine, column, progress) for column in planned.columns}
        fits = prompt_fit.look(store, engine, planned.columns, answers)
    with retrain or nullcontext():
        contexts = _context(config, planned, retrain, store, progress)
    unlearned = made is not None or prompt_fit.is_unlearned(config.model)
    result = prompt_fit.judged(_score(config, planned, answers, contexts), planned.columns, fits, unlearned)
    model, notes = engine.provenance, {**(made.notes() if made else {}), **prompt_fit.notes(planned.columns)}
    result = replace(
        result,
        name=name,
        columns=_pinned(result.columns, planned, engine, retrain),
        extras={**result.extras, **({"notes": notes} if notes else {})},
        model={"id": model["model"], "revision": model["revision"], "digest": model["weights"]},
        config=settings,
        provenance=origin,
    )
    results.save(result, folder)
    return Outcome(folder, result, chosen)


def check_writable(folder: Path) -> None:
    """Refuse a results folder that cannot be made or written, before any work is done."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"cannot write results to {folder}: {nearest} is no folder that can be written; "
            "give another --results"
        )


def _source(config: RunConfig, planned: Plan) -> ModelSource:
    return ModelSource(
        model=config.model,
        tokenizer=config.tokenizer,
        fallbacks=planned.task.tokenizers,
        dtype=config.dtype,
        allow_pickle=config.allow_pickle,
        trust_remote_code=config.trust_remote_code,
        base_url=config.base_url,
        api_key_env=config.api_key_env,
        revision=config.model_revision,
    )


def _open_retrain(config: RunConfig, planned: Plan, progress: Progress, note: Note) -> Engine | None:
    asks = planned.requests(relative=True)
    if not config.retrain or not asks:
        return None
    source = replace(
        _source(config, planned),
        model=config.retrain,
        base_url=config.retrain_base_url or config.base_url,
        revision=config.retrain_revision,
    )
    return open_engine(
        planned.engine,
        source,
        asks=asks,
        progress=progress,
        note=lambda line: note(f"retrain: {line}"),
    )


def _settings(
    config: RunConfig, planned: Plan, engine: Engine, retrain: Engine | None, made: Made | None
) -> dict[str, Any]:
    """Describe what was asked of whom; two runs of one name must agree in it."""

    def identity(one: Engine) -> dict[str, Any]:
        known = {key: one.provenance[key] for key in ("engine", "weights", "tokenizer", "dtype")}
        quantized = one.provenance.get("quantization")
        return known if quantized is None else {**known, "quantization": quantized}

    task = planned.task.model_dump(mode="json", exclude=UNSCORED)
    known = made.settings() if made else {}
    settings = {
        "task": task,
        "data": planned.data.describe(),
        "model": identity(engine),
        "retrain": None if retrain is None else identity(retrain),
        "columns": {column.name: stated(column.params) for column in planned.columns},
        "limit": config.limit,
        "seed": config.seed,
        **({"made": known} if known else {}),
    }
    return {**settings, "fingerprint": fingerprint(settings)}


def _origin(engine: Engine, retrain: Engine | None) -> dict[str, Any]:
    """Describe what made the numbers: models, versions, code."""
    return {
        "engine": dict(engine.provenance),
        "retrain": None if retrain is None else dict(retrain.provenance),
        "versions": provenance.versions(),
        "commit": provenance.git_commit(),
        "code": provenance.code_digest(*SCORING_CODE),
    }


def _same_origin(stored: Mapping[str, Any], origin: Mapping[str, Any]) -> bool:
    """Tell whether a stored result came from the same models, versions and code, whatever the commit."""
    return all(stored.get(key) == value for key, value in origin.items() if key != "commit")


def _stored(
    folder: Path, settings: Mapping[str, Any], overwrite: bool, made: Made | None, warn: Warn
) -> results.StoredResult | None:
    """Return what the run's folder holds already, refusing a result of other settings.

    Another checkpoint of the same unlearning may take the place of the one selected before.
    """
    try:
        stored = results.load(folder)
    except results.CorruptResult as error:
        warn(f"{error}; it is replaced")
        return None
    if stored is None or overwrite:
        return None
    if stored.config.get("fingerprint") == settings["fingerprint"]:
        return stored
    if made is not None and reselected(stored.config, settings, made.recipe):
        return None
    changed = [key for key in settings if stored.config.get(key) != settings[key] and key != "fingerprint"]
    engines = [(one.get("model") or {}).get("engine") for one in (stored.config, settings)]
    if engines[0] != engines[1]:
        changed = [f"engine {engines[0]}, now {engines[1]}"]
    former = (stored.provenance.get("retrain") or {}).get("path")
    hint = f"; it was scored with --retrain {former}" if former and "retrain" in changed else ""
    raise UserError(
        f"{folder} holds a run with other settings ({', '.join(changed) or 'unknown'}){hint}; "
        "give --name for a new one (in a sweep NAME=MODEL), or --overwrite"
    )


def _ask(store: Store, engine: Engine, column: PlannedColumn, progress: Progress, of: str = "") -> Answers:
    return store.ask(engine, column.requests, partial(progress, column.spec.title + of))


def _context(
    config: RunConfig, planned: Plan, retrain: Engine | None, store: Store, progress: Progress
) -> dict[str, Context]:
    """Return what each column is scored with: for a relative one, what it is relative to."""
    contexts = {}
    for column in planned.columns:
        reference, why = None, ""
        if column.metric.relative and retrain is not None:
            answers = _ask(store, retrain, column, progress, of=", retrain").values
            reference = Reference("measured", str(retrain.provenance["model"]), answers=answers)
        elif column.metric.relative and planned.task.retrain_auc:
            why = _unpublished(planned, column)
            if not why:
                reference = Reference("published", planned.task.source, planned.task.retrain_auc)
        contexts[column.name] = Context(config.seed, reference=reference, no_reference=why)
    return contexts


def _unpublished(planned: Plan, column: PlannedColumn) -> str:
    """Say why the published reference does not hold for the data at hand; empty where it does."""
    read = planned.data.describe()["sha256"]
    for name in column.spec.splits.values():
        if name in read and planned.data.split(name).fingerprint != planned.task.fingerprints.get(name):
            return f"{name} is not the data that the task's AUC was published for"
    return ""


def _score(
    config: RunConfig, planned: Plan, answers: Mapping[str, Answers], contexts: Mapping[str, Context]
) -> Result:
    columns: dict[str, Score] = {}
    extras: dict[str, Any] = {}
    for column in planned.columns:
        score = column.metric.score(
            column.splits, answers[column.name].values, column.params, contexts[column.name]
        )
        columns[column.name] = _finished(score, column, config.limit)
        extras[column.name] = score.extras
        if column.metric.relative:
            # The first relative column is the task's headline; its extras stand on their own as well.
            extras = {**score.extras, **extras}
    seconds = sum(one.seconds for one in answers.values())
    return Result(planned.task.name, "", {}, columns, extras, {}, {}, seconds)


def _pinned(
    columns: Mapping[str, Score], planned: Plan, engine: Engine, retrain: Engine | None
) -> dict[str, Score]:
    """Flag what a served model answered that nothing pins."""

    def loose(one: Engine | None) -> bool:
        return one is not None and one.provenance.get("pinned") is False

    relative = {column.name for column in planned.columns if column.metric.relative}
    return {
        name: replace(score, flags=(*score.flags, "unpinned"))
        if loose(engine) or (name in relative and loose(retrain))
        else score
        for name, score in columns.items()
    }


def _finished(score: Score, column: PlannedColumn, limit: int | None) -> Score:
    """Name the splits in the records as the task does, and flag a limited run."""
    records = tuple(replace(r, split=column.spec.splits[r.split]) for r in score.records)
    flags = (*score.flags, "limited") if limit is not None else score.flags
    return replace(score, records=records, flags=flags)
