"""Scores a model on a task: requests from the metrics, answers from cache or engine, scores with evidence."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_eval.config import RunConfig
from muse_eval.engines import like, open_engine
from muse_eval.folders import in_turn, sweep
from muse_eval.results import Lineage, degenerate, given, runs
from muse_eval.scoring import identity, model_free, prompt_fit
from muse_eval.scoring.answers import Answers, Store
from muse_eval.scoring.opening import open_model, source
from muse_eval.scoring.plan import Plan, PlannedColumn, plan
from muse_eval.scoring.retrain import NONE, find, open_found
from muse_eval.scoring.utility import score_utility
from muse_eval.scoring.which_task import unlearning
from muse_eval.scoring.writable import check_writable
from muse_eval.types import Context, Engine, Note, Progress, Reference, Result, Score, Warn, ignore

if TYPE_CHECKING:
    from muse_eval.scoring.opening import Loaded


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
    note: Note = ignore,
    tell: Note = ignore,
    reuse: bool = False,
    folder: Path | None = None,
    lineage: Lineage | None = None,
    turn: Callable[[Plan], Plan] = lambda planned: planned,
) -> Outcome:
    """Score a model on a task and write ``result.json`` and ``records.jsonl``.

    A run that was killed goes on from the answers it had. The same settings give the same bytes.

    Args:
        config: what to score, and how.
        loaded: a model and its tokenizer in memory, scored instead of loading ``config.model``.
        progress: told of every finished batch.
        warn: told, in one line, of what is odd but not fatal.
        note: told, in one line, what the engine decided.
        tell: told, in one line, what is about to be asked, before the first answer.
        reuse: keep a stored result of the very same settings and code instead of scoring again.
        folder: where the result goes; None: ``runs/<task>/<name>`` in the results folder.
        lineage: how pipeline or probe made the model; part of the result's settings and notes.
        turn: makes of the plan what is asked instead, as ``lineage`` tells.

    Raises:
        UserError: something that the user can mend; nothing half-written is left.
    """
    check_writable(config.results)
    unlearned = lineage is not None or unlearning(config.model) is not None
    planned = turn(plan(config, loaded=loaded is not None))
    engine, name, folder, there = open_model(
        config, planned, folder, loaded=loaded, progress=progress, note=note, warn=warn
    )
    retrain = _retrain(config, planned, engine, None if config.overwrite else there, progress, note, warn)
    asked = identity.asked(config, planned, engine, retrain)
    settings, notes = identity.settle(folder, there, asked, lineage, config.overwrite)
    origin = identity.origin(engine, retrain, *(["lm-eval"] if planned.utility else []))
    if reuse and not config.overwrite and there and identity.holds(there, settings, origin):
        return Outcome(folder, None)
    store = Store(config.cache_folder, warn)
    _tell_outset(name, planned, engine, store, tell, note)
    # One after the other, so that two models are never in memory together.
    with engine:
        prompt_fit.require_open_end(store, engine)
        answers = {column.name: _ask(store, engine, column, progress) for column in planned.columns}
        fits = prompt_fit.look(store, engine, planned.columns, answers)
        utility = score_utility(planned.utility, engine, config.limit, config.cache_folder, progress, warn)
    with retrain or nullcontext():
        contexts = _context(config, planned, retrain, store, progress)
    result = prompt_fit.judged(_score(config, planned, answers, contexts), planned.columns, fits, unlearned)
    result = degenerate.measured(result, {column.name: column.spec.metric for column in planned.columns})
    result = model_free.told(result, planned.columns, config.cache_folder, warn)
    model, notes = engine.provenance, {**notes, **prompt_fit.notes(planned.columns)}
    result = replace(
        result,
        name=name,
        columns={**_pinned(result.columns, planned, engine, retrain), **utility},
        extras={**result.extras, **({"notes": notes} if notes else {})},
        model={"id": model["model"], "revision": model["revision"], "digest": model["weights"]},
        config=settings,
        provenance=origin,
    )
    with in_turn(folder):
        sweep(folder)
        identity.check_unchanged(folder, there, asked, lineage)
        runs.save(result, folder)
    return Outcome(folder, replace(result, folder=folder, engine=_chosen(planned, engine)))


def _retrain(
    config: RunConfig,
    planned: Plan,
    engine: Engine,
    there: runs.StoredResult | None,
    progress: Progress,
    note: Note,
    warn: Warn,
) -> Engine | None:
    """Open the retrain model that is given, else the one that belongs to the model.

    Where the same was scored without one before, it is not sought: a stored run stays what it is.
    """
    asks = planned.requests(relative=True)

    def opened(model: str) -> Engine:
        other = replace(
            source(config, planned),
            model=model,
            base_url=config.retrain_base_url or config.base_url,
            revision=config.retrain_revision,
        )
        told = partial(_of_retrain, note)
        choice = like(planned.engine, str(engine.provenance["engine"]))
        return open_engine(choice, other, asks=asks, progress=progress, note=told)

    if not asks or config.retrain == NONE:
        return None
    if config.retrain is not None:
        return opened(config.retrain)
    if planned.engine.name == "server":
        return None
    found = find(config, planned, str(engine.provenance["weights"]))
    if found is None:
        return None
    without = identity.asked(config, planned, engine, None)
    kept = there is not None and identity.same(there.config, without)
    return open_found(found, kept, opened, note, warn)


def _of_retrain(note: Note, line: str) -> None:
    note(f"retrain: {line}")


def _chosen(planned: Plan, engine: Engine) -> str:
    """Say which engine answers, and why it does."""
    used = str(engine.provenance["engine"])
    return f"{used} ({planned.engine.why if used == planned.engine.name else f'not {planned.engine.name}'})"


def _tell_outset(name: str, planned: Plan, engine: Engine, store: Store, tell: Note, note: Note) -> None:
    """Tell what the model is still to be asked and where it runs, and how many answers are there already."""
    missing = store.missing(engine, planned.apart())
    asked = [f"{column.spec.title} {n}" for column in planned.columns if (n := missing[column.name][0])]
    if asked:
        device = engine.provenance.get("device")
        tell(f"to answer: {', '.join(asked)}{f'; on {device}' if device else ''}")
    left, wanted = (sum(numbers) for numbers in zip(*missing.values(), strict=True))
    if left < wanted:
        share = f"{wanted - left} of {wanted}" if left else f"all {wanted}"
        note(f"{name}: {share} answers are there already")


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
    """Name the splits in the records as the task does, add what was given, and flag a limited run."""
    records = tuple(
        replace(r, split=column.spec.splits[r.split], texts={**given(column.splits[r.split], r), **r.texts})
        for r in score.records
    )
    flags = (*score.flags, "limited") if limit is not None else score.flags
    return replace(score, records=records, flags=flags)
