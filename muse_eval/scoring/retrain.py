"""The retrain model that a run compares with: the one given, else the one that belongs to its model.

A model is traced to the target that it was unlearned from by digests, never by names alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_eval.config import RunConfig
from muse_eval.engines.checkpoint import find_checkpoint, is_folder
from muse_eval.errors import UserError
from muse_eval.reading import typed_path
from muse_eval.results import part, runs
from muse_eval.scoring.plan import Plan
from muse_eval.scoring.which_task import unlearning
from muse_eval.types import Engine
from muse_eval.unlearning import cards

NONE = "none"
"""What ``--retrain`` is given where a run is to compare with no model."""
NAME = "retrain"
"""What the retrain model's run is called, and its folder beside the target's."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """A retrain model that belongs to a model, or may."""

    model: str
    """As ``--retrain`` takes it."""
    weights: str | None
    """The digest that it was scored with; None where its recipe alone is known."""
    certain: bool = True


@dataclass(frozen=True)
class _Start:
    """What a model was unlearned from: a folder that may be gone, and the digest of its weights."""

    folder: Path
    weights: str


def open_found(
    found: Found, kept: bool, open_model: Callable[[str], Engine], note: Say, warn: Say
) -> Engine | None:
    """Open a retrain model that certainly belongs to a run's model, and say so; else say why not.

    Args:
        found: what ``find`` returned.
        kept: whether the same run is there, scored without a retrain model; it then stays what it is.
        open_model: opens a model, given as ``--retrain`` takes it.
        note: told, in one line, of the decision.
        warn: told of a model that is known, but not there or not certain.
    """
    if not found.certain:
        warn(f"--retrain is not given; {found.model}, beside the target, may be the model to give")
        return None
    if kept:
        note(f"retrain: none, as in the run that is there; --overwrite compares with {found.model}")
        return None
    try:
        engine = open_model(found.model)
    except UserError as error:
        warn(f"the pipeline's retrain model cannot be opened ({error}); name it with --retrain")
        return None
    if found.weights not in (None, engine.provenance["weights"]):
        warn(
            f"{found.model} is no longer the retrain model that the pipeline scored; name one with --retrain"
        )
        return None
    note(f"retrain: {found.model} (the pipeline's; --retrain names another, or none)")
    return engine


def find(config: RunConfig, planned: Plan, weights: str) -> Found | None:
    """Return the retrain model that belongs to a run's model, or may; None where none is known.

    It is certain where the pipeline scored the model itself, or the one that it was unlearned from for
    this task, against it and on the same data; and where the built-in world made it together with the
    target. One that lies beside the target, and no more is known of it, may be its.

    Args:
        config: the run.
        planned: its task and data.
        weights: the digest of its model.
    """
    folder = typed_path(config.model) if is_folder(config.model) else None
    start = None if folder is None else _start(config.model, planned.task.name)
    digests = {weights, *([start.weights] if start else [])}
    for root in _roots(config.results, folder):
        found = _scored_against(root, planned, digests)
        if found is not None:
            return found
    if start is None and folder is not None and _recipe(folder).get("stage") in runs.REFERENCES:
        start = _Start(folder, weights)
    return None if start is None else _beside(start, planned)


def _start(model: str, task: str) -> _Start | None:
    """Return what a model was unlearned from for a task."""
    card = unlearning(model) or {}
    config, weights = part(card, "config"), part(card, "target").get("weights")
    if config.get("task") != task or not isinstance(weights, str):
        return None
    return _Start(typed_path(str(config.get("model"))), weights)


def _roots(chosen: Path, folder: Path | None) -> Iterator[Path]:
    """Yield the results folders to look in: the run's, and that which the model lies in."""
    yield chosen
    for home in folder.absolute().parents if folder else ():
        if home.name == "models" and home.parent.absolute() != chosen.absolute():
            yield home.parent


def _scored_against(root: Path, planned: Plan, digests: set[str]) -> Found | None:
    """Return what the pipeline scored one of some models against, on this task and these data."""
    home = root / "runs" / planned.task.name
    reference = _load(home / NAME)
    if reference is None:
        return None
    read = planned.data.describe()["sha256"]
    for path in sorted(home.glob(f"*/{runs.RESULT}")):
        run = _load(path)
        if (
            run is None
            or run.name != path.parent.name
            or not (run.name in runs.REFERENCES or part(run.config, "made"))
        ):
            continue
        before = part(part(run.config, "data"), "sha256")
        same_data = all(before.get(name, digest) == digest for name, digest in read.items())
        weights = part(run.config, "retrain").get("weights")
        by_pipeline = weights is not None and weights == reference.model.get("digest")
        if run.model.get("digest") in digests and by_pipeline and same_data:
            known = part(run.provenance, "retrain")
            revision = known.get("revision")
            return Found(f"{known.get('path')}" + (f"@{revision}" if revision else ""), str(weights))
    return None


def _load(folder: Path) -> runs.StoredResult | None:
    try:
        return runs.load(folder)
    except runs.CorruptResult:
        return None


def _beside(start: _Start, planned: Plan) -> Found | None:
    """Return the retrain model that lies beside a target; certain where one recipe made both."""
    path = start.folder.parent / NAME
    if not (start.folder.is_dir() and (path / "config.json").is_file()):
        return None
    recipe, other = _recipe(start.folder), _recipe(path)
    world = planned.task.base or planned.task.name
    together = (
        recipe.get("fingerprint") is not None
        and recipe["fingerprint"] == other.get("fingerprint")
        and other.get("stage") == NAME
        and other.get("task") == world
        and planned.data.describe()["source"] == "builtin"
    )
    return Found(str(path), None, together and find_checkpoint(str(start.folder)).digest == start.weights)


def _recipe(folder: Path) -> Mapping[str, Any]:
    found = cards.read_json(folder / cards.RECIPE)
    return found if isinstance(found, dict) else {}
