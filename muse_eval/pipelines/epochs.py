"""Every epoch of an unlearning scored, one of them selected, the trajectory kept beside the selected run."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from muse_eval.errors import UserError
from muse_eval.folders import sweep
from muse_eval.results import (
    Epoch,
    Lineage,
    StoredResult,
    Trajectory,
    but_the_checkpoint,
    load,
    scores,
    select,
    selectable,
    write_files,
)
from muse_eval.results.degenerate import broken
from muse_eval.results.judged import judged
from muse_eval.results.trajectory import to_csv
from muse_eval.results.whole import fault
from muse_eval.scoring import computed_by
from muse_eval.unlearning import cards
from muse_eval.unlearning.training import output

EPOCHS = "epochs"
CSV, FIGURE = "trajectory.csv", "trajectory.png"

Score = Callable[[Path, str, Path, Lineage], None]
"""Scores a model, given its folder, the run's name and folder, and how the model was made."""


@dataclass(frozen=True)
class Choice:
    """How one of an unlearning's epochs is to be selected."""

    rule: str
    composite: str
    rank_flagged: bool
    """Whether ``best`` takes ruined models too."""
    keep_checkpoints: bool
    """Keep the weights of all epochs, not only of those that some rule selects."""


def models_by_epoch(out: Path) -> list[Path]:
    """Return the folder of each epoch's model; the last epoch's is ``out`` itself.

    A method that leaves no checkpoints has one epoch.

    Raises:
        UserError: some epoch left no checkpoint.
    """
    found = output.checkpoints(out)
    epochs = cards.read_card(out)["config"]["epochs"]
    if found and len(found) != epochs:
        raise UserError(
            f"{out} holds checkpoints of {len(found)} of its {epochs} epochs, as it was begun without "
            "keeping them; --overwrite makes it again"
        )
    return [*found[:-1], out]


def select_epoch(
    out: Path,
    run: Path,
    start: StoredResult,
    retrain: StoredResult,
    lineage: Lineage,
    choice: Choice,
    score: Score,
) -> Path:
    """Score every epoch, then the selected one under the method's name; return the selected model's folder.

    Args:
        out: the unlearned model's folder, with its checkpoints.
        run: the folder of the run named after the method; ``epochs/<n>``, the CSV and the figure go there.
        start: the scores of the model that was unlearned.
        retrain: the retrain model's scores.
        lineage: recipe and forget set.
        choice: the rule, and what becomes of the other epochs' weights.
        score: scores a model; it asks nothing that was answered before.

    Raises:
        UserError: the rule needs a score that is undefined, or weights that are gone.
    """
    models = models_by_epoch(out)
    folders = [run / EPOCHS / str(number) for number in range(1, len(models) + 1)]
    for number, (model, folder) in enumerate(zip(models, folders, strict=True), 1):
        if output.has_weights(model):
            name = f"{run.name}-epoch{number}"
            score(model, name, folder, replace(lineage, epoch=Epoch(number, len(models))))
    epochs = _load_epochs(models, folders)
    values, against = [scores(epoch) for epoch in epochs], scores(retrain)
    ruined = _ruined([start, retrain, *epochs], len(epochs))
    passed = () if choice.rank_flagged else ruined
    selection = select(choice.rule, values, against, choice.composite, passed)
    chosen = models[selection.epoch - 1]
    if not output.has_weights(chosen):
        raise _gone(chosen, selection.epoch)
    score(chosen, run.name, run, replace(lineage, selection=selection))
    title = str(start.config["task"]["title"])
    write(run, Trajectory(run.name, title, start, epochs, retrain, selection, choice.composite))
    if not choice.keep_checkpoints:
        _drop_weights(out, {models[epoch - 1] for epoch in selectable(values, against, ruined)})
    _drop_stale(run / EPOCHS, len(models))
    return chosen


def _ruined(results: Sequence[StoredResult], epochs: int) -> list[int]:
    """Return which of the epochs, the last of the results, are of ruined models; counted from 1."""
    last = judged(results)[-epochs:]
    return [
        number
        for number, one in enumerate(last, 1)
        if broken(flag for column in one.columns.values() for flag in column.flags)
    ]


def last_epoch(run: Path) -> Path:
    """Return the folder of the last epoch's scores beside a selected run."""
    return max(
        (run / EPOCHS).iterdir(), key=lambda folder: int(folder.name) if folder.name.isdecimal() else 0
    )


def drop_other(run: Path, recipe: str) -> None:
    """Remove the trajectory of another unlearning than the one whose result the run's folder holds.

    Args:
        run: the folder of the run named after the method.
        recipe: the fingerprint of the unlearning behind the result.
    """
    stored = load(run / EPOCHS / "1")
    if stored is not None and stored.config.get("made", {}).get("recipe") == recipe:
        return
    for name in (CSV, FIGURE):
        (run / name).unlink(missing_ok=True)
    if (run / EPOCHS).is_dir():
        shutil.rmtree(run / EPOCHS)


def _load_epochs(models: list[Path], folders: list[Path]) -> list[StoredResult]:
    """Read every epoch's scores; those whose weights are gone must be of the settings and code of now.

    Raises:
        UserError: they are not, or were never taken.
    """
    last = load(folders[-1])
    assert last is not None
    found = []
    for number, (model, folder) in enumerate(zip(models, folders, strict=True), 1):
        stored = load(folder)
        if stored is None or not (
            output.has_weights(model) or (_same_but_the_weights(stored, last) and not fault(stored))
        ):
            raise _gone(model, number)
        found.append(stored)
    return found


def _same_but_the_weights(one: StoredResult, other: StoredResult) -> bool:
    """Tell whether two epochs' scores are of one unlearning, asked and computed in the same way."""
    recipes = [result.config.get("made", {}).get("recipe") for result in (one, other)]
    alike = [computed_by(result.provenance) for result in (one, other)]
    same_settings = but_the_checkpoint(one.config) == but_the_checkpoint(other.config)
    return same_settings and recipes[0] == recipes[1] and alike[0] == alike[1]


def _gone(model: Path, epoch: int) -> UserError:
    return UserError(
        f"{model} no longer holds the weights of epoch {epoch}, which have to be scored again; --overwrite "
        "makes them again, and with --keep-checkpoints they stay"
    )


def write(folder: Path, trajectory: Trajectory) -> None:
    """Write the trajectory's CSV and figure, unless they are there already."""
    text = to_csv(trajectory)
    table, figure = folder / CSV, folder / FIGURE
    sweep(folder)
    if table.is_file() and figure.is_file() and table.read_text(encoding="utf-8") == text:
        return
    from muse_eval.results.drawing import converted, draw
    from muse_eval.results.figures import draw_trajectory

    write_files(folder, {FIGURE: converted(draw(draw_trajectory(trajectory)), "png"), CSV: text})


def _drop_weights(out: Path, selectable_models: set[Path]) -> None:
    """Remove the weights that no rule selects, so that another rule needs no unlearning."""
    for checkpoint in output.checkpoints(out):
        if checkpoint not in selectable_models:
            output.drop_weights(checkpoint)


def _drop_stale(folder: Path, epochs: int) -> None:
    """Remove the scores that a longer unlearning left."""
    known = {str(number) for number in range(1, epochs + 1)}
    for left in folder.iterdir():
        if left.name not in known and left.is_dir():
            shutil.rmtree(left)
