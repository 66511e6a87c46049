"""What makes two runs the same: what was asked of which model. All else in their settings is a note."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muse_eval import provenance
from muse_eval.config import RunConfig, filled, fingerprint, joined, stated
from muse_eval.config.differences import differences
from muse_eval.errors import UserError
from muse_eval.own_code import code_digest
from muse_eval.results import Lineage, params_kind, part, reselected, runs
from muse_eval.results.utility import METRIC
from muse_eval.results.whole import fault
from muse_eval.scoring.plan import Plan
from muse_eval.types import Engine, Warn, ignore

UNSCORED = {"base", "unlearn", "finetune", "forget_sets", "models", "fingerprints"}
"""Fields of a task that change no score."""


def asked(config: RunConfig, planned: Plan, engine: Engine, retrain: Engine | None) -> dict[str, Any]:
    """Describe what is asked of whom, for a run's settings."""

    def model(one: Engine) -> dict[str, Any]:
        known = {key: one.provenance[key] for key in ("engine", "weights", "tokenizer", "dtype")}
        quantized = one.provenance.get("quantization")
        return known if quantized is None else {**known, "quantization": quantized}

    task = planned.task.model_dump(mode="json", exclude=UNSCORED)
    task["columns"] |= {column.name: column.heading for column in planned.utility}
    asked_of_lm_eval = {column.name: column.params for column in planned.utility}
    return {
        "task": task,
        "data": planned.data.describe(),
        "model": model(engine),
        "retrain": None if retrain is None else model(retrain),
        "columns": {column.name: stated(column.params) for column in planned.columns} | asked_of_lm_eval,
        "limit": config.limit,
        "seed": config.seed,
    }


def settings(asked: Mapping[str, Any], lineage: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings: what is asked, how the model was made where that is known, a fingerprint."""
    whole = {**asked, **({"made": dict(lineage)} if lineage else {})}
    return {**whole, "fingerprint": fingerprint(whole)}


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two runs of one name must agree in: everything that can change a score, and no more.

    How the model was made, titles and sources, where the data lay and columns that are not scored are
    notes. Published AUCs count where there is no retrain model.
    """
    task, columns = part(settings, "task"), part(settings, "columns")
    specs = {name: part(part(task, "columns"), name) for name in columns}
    known = {
        "model": settings.get("model"),
        "retrain": settings.get("retrain"),
        "columns": {name: _column(specs[name], part(columns, name)) for name in columns},
        "limit": settings.get("limit"),
        "seed": settings.get("seed"),
        "task": task.get("name"),
        "data": part(part(settings, "data"), "sha256"),
    }
    published = {} if known["retrain"] else {"retrain_auc": task.get("retrain_auc")}
    return {**known, **published}


def _column(spec: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a column's parameters, those that are not stored too, and what they are applied to."""
    kind = params_kind(str(spec.get("metric", "")))
    whole = dict(params) if kind is None else filled(kind, params)
    return {**whole, **{key: spec.get(key) for key in ("metric", "splits")}}


def same(there: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether the same was asked of the same model; utility columns may have come to it since."""
    known, specs = part(there, "columns"), part(part(now, "task"), "columns")
    kept = {
        name: params
        for name, params in part(now, "columns").items()
        if name in known or part(specs, name).get("metric") != METRIC
    }
    return fingerprint(identity(there)) == fingerprint(identity({**now, "columns": kept}))


def extends(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether the same is asked of the same model as then, or that and more columns besides."""
    old, new = identity(then), identity(now)
    for key in ("columns", "data"):
        new[key] = {name: one for name, one in new[key].items() if name in old[key]}
    return fingerprint(old) == fingerprint(new)


def stored(folder: Path, warn: Warn) -> runs.StoredResult | None:
    """Return the result that a run's folder holds; a damaged one is told, and counts for none.

    One that is not whole is told too; it is scored again, and still says what the folder is of.
    """
    try:
        there = runs.load(folder)
    except runs.CorruptResult as error:
        warn(f"{error}; it is replaced")
        return None
    if there and (problem := fault(there)):
        warn(f"the result in {folder} is not whole ({problem}): the run is scored again")
    return there


def settle(
    folder: Path,
    there: runs.StoredResult | None,
    asked: Mapping[str, Any],
    lineage: Lineage | None,
    overwrite: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings and the notes of a run that may be written to a folder.

    The same run keeps what was noted of how its model was made, also where it is asked for more columns.
    Another checkpoint of the same unlearning may take the place of the one selected before.

    Raises:
        UserError: the folder holds another run, and ``overwrite`` is not given.
    """
    known, notes = (lineage.settings(), lineage.notes()) if lineage else ({}, {})
    if there is None:
        return settings(asked, known), notes
    if extends(there.config, asked):
        if lineage is None:
            known, notes = dict(part(there.config, "made")), dict(part(there.extras, "notes"))
        return settings(asked, known), notes
    wanted = settings(asked, known)
    if not overwrite and not (lineage and reselected(there.config, wanted, lineage.recipe)):
        raise _other(folder, there, wanted)
    return wanted, notes


def check_unchanged(
    folder: Path, before: runs.StoredResult | None, asked: Mapping[str, Any], lineage: Lineage | None
) -> None:
    """Refuse to write to a folder to which another run was written since this one began.

    Args:
        folder: the run's folder.
        before: what it held as this run began.
        asked: what this run asked; the very same may take its own place.
        lineage: as for ``settle``.

    Raises:
        UserError: another run was.
    """
    now = stored(folder, ignore)
    if now == before:
        return
    try:
        settle(folder, now, asked, lineage, overwrite=False)
    except UserError as error:
        raise UserError(f"{error}; it was stored while this one was scored, whose result is not") from None


def _other(folder: Path, there: runs.StoredResult, wanted: Mapping[str, Any]) -> UserError:
    """Return the refusal of a run's folder that holds another run: what differs, then and now."""
    changed = _changes(identity(there.config), identity(wanted))
    hint = ""
    former = part(there.provenance, "retrain").get("path")
    if former and any(change.startswith(("retrain ", "retrain.weights")) for change in changed):
        hint += f"; it was scored with --retrain {former}"
    former = part(there.provenance, "engine").get("path")
    if former and any(change.startswith("model.weights") for change in changed):
        hint += f"; it is of {former}"
    return UserError(
        f"{folder} holds a run with other settings ({joined(changed)}){hint}; "
        "give --name for a new one (in a sweep NAME=MODEL), or --overwrite"
    )


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what differs between two identities, but nothing that only follows from something else."""
    engines = [part(one, "model").get("engine") for one in (then, now)]
    if engines[0] != engines[1]:
        # Another engine has digests of its own for the same model.
        return [f"engine {engines[0]}, now {engines[1]}"]
    old, new = dict(then), dict(now)
    if not (old["retrain"] and new["retrain"]):
        for one in (old, new):
            one["retrain"] = part(one, "retrain").get("weights")
    elif part(old, "model").get("dtype") != part(new, "model").get("dtype"):
        for one in (old, new):
            one["retrain"] = {key: value for key, value in one["retrain"].items() if key != "dtype"}
    # The splits that are read follow from the columns.
    for key in ("columns", "data"):
        old[key], new[key] = (
            {name: one[key][name] for name in one[key] if name in other[key]}
            for one, other in ((then, now), (now, then))
        )
    shared = {key: old[key] for key in new if key in old}
    gone = [name for name in then["columns"] if name not in now["columns"]]
    more = [name for name in now["columns"] if name not in then["columns"]]
    return [
        *differences(shared, {key: new[key] for key in shared}),
        *([f"{', '.join(gone)} scored, now left out"] if gone else []),
        *([f"{', '.join(more)} left out, now scored"] if more else []),
    ]


# ── where the numbers came from ──────────────────────────────────────────────────────────────────
def origin(engine: Engine, retrain: Engine | None, *packages: str) -> dict[str, Any]:
    """Describe what made the numbers: models, versions (of more ``packages`` too), code."""
    return {
        "engine": dict(engine.provenance),
        "retrain": None if retrain is None else dict(retrain.provenance),
        "versions": provenance.versions(*packages),
        "commit": provenance.git_commit(),
        "code": code_digest("scoring"),
    }


def holds(there: runs.StoredResult, settings: Mapping[str, Any], origin: Mapping[str, Any]) -> bool:
    """Tell whether a stored result is whole, and of these settings, models, versions and code.

    The commit may differ.
    """
    known = there.provenance
    models = origin.keys() - {"commit", "versions", "code"}
    return (
        there.config.get("fingerprint") == settings["fingerprint"]
        and all(known.get(key) == origin[key] for key in models)
        and computed_by(known) == computed_by(origin)
        and not fault(there)
    )


def computed_by(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what computed a run's numbers: the versions of others' packages, and the digest of our code."""
    versions = {name: one for name, one in part(origin, "versions").items() if name != "muse-eval"}
    return {"versions": versions, "code": origin.get("code")}
