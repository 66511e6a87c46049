"""Unlearning and fine-tuning on a task: its texts, its values, what is told of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from muse_eval import plugins
from muse_eval.config import TaskSpec, Workload, columns_of, fitting_batch, learned
from muse_eval.data import Data, MissingSplit, open_data
from muse_eval.errors import UserError, unknown_name
from muse_eval.progress import shown
from muse_eval.results import part
from muse_eval.types import Log, Note, Progress, Warn, ignore

if TYPE_CHECKING:
    from muse_eval.unlearning.recipe import UnlearnConfig


def unlearn(
    model: str | Path,
    task: str,
    method: str,
    out: str | Path,
    *,
    forget: str | None = None,
    data_dir: str | Path | None = None,
    overwrite: bool = False,
    keep_checkpoints: bool = False,
    progress: Progress | None = None,
    log: Log = ignore,
    note: Note = ignore,
    tell: Note = ignore,
    **options: Any,
) -> Path:
    """Unlearn a task's forget set and return the folder of the unlearned model.

    Args:
        model: the target: a hub id or a folder.
        task: name of a task or a YAML file; its ``unlearn`` section holds the defaults.
        method: ``simnpo``, ``simnpo_gdr``, ``npo_klr`` … (``plugins.method_names()``).
        out: the folder to make; returned at once where the same recipe was carried out before.
        forget: the split to forget; None: the task's. A task with several forget sets needs one named.
        data_dir: the task's data in the layout of MUSE's own loader.
        overwrite: replace what another recipe left in ``out``.
        keep_checkpoints: leave each epoch's model in ``out/checkpoints``.
        progress: told of every optimiser step; None: bars on a terminal or in a notebook.
        log: told of every step's line of ``log.jsonl``.
        note: told, in one line, of what in the data contributes nothing, and where a stopped run goes on.
        tell: told, in one line, what is about to be done: rows, tokens, steps, device.
        options: any field of ``unlearning.recipe.UnlearnConfig``: ``lr``, ``epochs``, ``lambda_``,
            ``params={"beta": 0.7}`` …

    Raises:
        UserError: something that the caller can mend, in one line.

    Example:
        ``unlearn("muse-bench/MUSE-Books_target", "muse_books", "simnpo_gdr", "simnpo-books")``
    """
    from muse_eval.unlearning.objectives import uses_retain
    from muse_eval.unlearning.recipe import configure
    from muse_eval.unlearning.training.train import unlearn as train

    plugins.split_method(method)
    spec = plugins.task(task)
    if spec.forget_sets is not None and forget is None:
        raise UserError(
            f"task {spec.name} has {len(spec.forget_sets.forget)} forget sets; "
            "muse-eval pipeline unlearns them, or take a task with one"
        )
    config = configure(spec.unlearn, method=method, model=str(model), task=spec.name, **options)
    data = open_data(spec, None if data_dir is None else Path(data_dir))
    _, form, term = plugins.method(method)

    with shown(progress) as told:
        return train(
            config,
            _texts(data, forget or spec.unlearn.forget, note),
            _texts(data, spec.unlearn.retain, note) if uses_retain(form, term) else [],
            Path(out),
            fallbacks=spec.tokenizers,
            overwrite=overwrite,
            keep_checkpoints=keep_checkpoints,
            progress=told,
            log=log,
            note=note,
            begin_with=lambda work: tell(f"unlearn, {method}: {work}"),
        )


def finetune(
    model: str | Path,
    task: str,
    role: Literal["target", "retrain"],
    out: str | Path,
    *,
    reads: Sequence[str] = (),
    data_dir: str | Path | None = None,
    overwrite: bool = False,
    keep_checkpoints: bool = False,
    progress: Progress | None = None,
    log: Log = ignore,
    warn: Warn = ignore,
    note: Note = ignore,
    tell: Note = ignore,
    **options: Any,
) -> Path:
    """Make a task's target or retrain model from a base model, and return its folder.

    Args:
        model: the base model: a hub id or a folder.
        task: name of a task or a YAML file; its ``finetune`` section holds the defaults.
        role: ``target`` reads the forget and the retain texts, ``retrain`` the retain texts alone.
        out: the folder to make; returned at once where the same was made before.
        reads: the splits to read; empty: the task's for this role.
        data_dir: the task's data in the layout of MUSE's own loader.
        overwrite: replace what was made otherwise in ``out``.
        keep_checkpoints: leave each epoch's model in ``out/checkpoints``.
        progress: told of every optimiser step; None: bars on a terminal or in a notebook.
        log: told of every step's line of ``log.jsonl``.
        warn: told, in one line, where there are few steps, or hardly anything was learned.
        note: told, in one line each, of what in the data contributes nothing, what was chosen, and where a
            stopped run goes on.
        tell: told, in one line, what is about to be done, and at the end how the loss moved.
        options: any field of ``unlearning.recipe.UnlearnConfig`` but the method and its parameters.

    Raises:
        UserError: something that the caller can mend, in one line.

    Example:
        ``finetune("meta-llama/Llama-2-7b-hf", "muse_news", "target", "news-target")``
    """
    from muse_eval.unlearning.training.train import unlearn as train

    if role not in ("target", "retrain"):
        raise unknown_name("role", role, ("target", "retrain"))
    spec = plugins.task(task)
    data = open_data(spec, None if data_dir is None else Path(data_dir))
    # A text that stands alone is one split.
    reads = (reads,) if isinstance(reads, str) else reads
    texts = _reading(data, reads or spec.reads(role), role, note)
    # Both models are made alike: the target reads all that retrain does, so its rows count for both.
    whole = texts if reads or role == "target" else _whole(data, spec, texts)
    former = None if overwrite else _former_batch(Path(out))
    with shown(progress) as told:
        config, chosen = _finetuning(spec, str(model), whole, former, options, told)
        folder = train(
            config,
            texts,
            [],
            Path(out),
            fallbacks=spec.tokenizers,
            overwrite=overwrite,
            keep_checkpoints=keep_checkpoints,
            progress=told,
            log=log,
            note=note,
            begin_with=partial(_announce, role, chosen, warn, note, tell),
        )
    _tell_what_was_learned(folder, role, warn, tell)
    return folder


def _announce(role: str, chosen: Sequence[str], warn: Warn, note: Note, tell: Note, work: Workload) -> None:
    """Tell what a fine-tuning is about to do, what was chosen for it, and whether that is little."""
    tell(f"finetune, {role}: {work}")
    for line in chosen:
        note(line)
    if work.few:
        cure = "a smaller --batch-size or more --epochs" if work.batch > 1 else "more --epochs"
        warn(f"only {work.steps} steps, in which little is learned by heart; give {cure}")


def _tell_what_was_learned(folder: Path, role: str, warn: Warn, tell: Note) -> None:
    """Tell how the loss of a fine-tuned model moved, and warn where it hardly did."""
    from muse_eval.unlearning.training import output

    log = folder / output.LOG
    moved = learned(output.read_log(log)) if log.is_file() else None
    if moved is not None and moved.hardly:
        warn(f"the {role} model has hardly learned its own texts: {moved}; raise --lr or --epochs")
    elif moved is not None:
        tell(f"on its own texts: {moved}")


def _finetuning(
    spec: TaskSpec,
    model: str,
    whole: Sequence[str],
    former: int | None,
    options: Mapping[str, Any],
    progress: Progress,
) -> tuple[UnlearnConfig, list[str]]:
    """Return how a model is fine-tuned, and a line for each value that neither task nor options set."""
    from muse_eval.unlearning.recipe import configure
    from muse_eval.unlearning.training.start import count_rows

    known = spec.finetune.model_dump(exclude={"target", "retrain"}, exclude_none=True)
    known |= {"rows": spec.unlearn.rows, "max_len": spec.unlearn.max_len}
    given = known | {name: value for name, value in options.items() if value is not None}
    config = configure(method=plugins.FINETUNE, model=model, task=spec.name, **given)
    chosen = []
    if "batch_size" not in given and former is not None:
        config = config.model_copy(update={"batch_size": former})
    elif "batch_size" not in given:
        rows = count_rows(config, whole, spec.tokenizers, progress)
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        batch = -(-fitting_batch(rows) // processes) * processes
        config = config.model_copy(update={"batch_size": batch})
        chosen.append(f"no batch size is set: {batch} was chosen, for {rows:,} rows in all")
    if options.get("lr") is None and "lr" not in spec.finetune.model_fields_set:
        chosen.append(f"no lr is set: {config.lr:g} is MUSE's, for 7 billion parameters")
    return config, chosen


def _former_batch(out: Path) -> int | None:
    """Return the batch that a folder was made with, or begun: what was not set stays what it was then."""
    from muse_eval.unlearning import cards
    from muse_eval.unlearning.training import output

    recipe = cards.read_card(out) or cards.read_json(output.partial(out) / cards.RECIPE) or {}
    found = part(recipe, "training").get("batch_size")
    return found if isinstance(found, int) else None


def _whole(data: Data, spec: TaskSpec, texts: list[str]) -> list[str]:
    """Return what the target reads, or the texts at hand where that is not all there."""
    try:
        return [text for split in spec.reads("target") for text in _texts(data, split, ignore)]
    except MissingSplit:
        return texts


def _reading(data: Data, splits: Sequence[str], role: str, note: Note) -> list[str]:
    """Return all that a role reads; where a split is not there, say that others can be named."""
    try:
        return [text for split in splits for text in _texts(data, split, note)]
    except MissingSplit as error:
        raise UserError(
            f"{error}; the {role} model reads {', '.join(splits)}: add what is missing, or name the splits "
            "to read with --reads"
        ) from None


def _texts(data: Data, name: str, note: Note) -> list[str]:
    if columns_of(name) != ("text",):
        raise UserError(f"{name} is no split of texts to train on; name one of raw, scal or sust")
    split = data.split(name)
    if said := split.say_blank():
        note(said)
    return split.texts
