"""What a model's folder says of it: which task it belongs to, and what it was unlearned from."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muse_eval import plugins
from muse_eval.config import TaskSpec
from muse_eval.errors import UserError
from muse_eval.reading import (
    MalformedYaml,
    MissingFile,
    Unreadable,
    expect,
    parse_yaml,
    read_bytes,
    read_json,
    typed_path,
)
from muse_eval.results import part


def task_of(model: str) -> TaskSpec:
    """Read a model's task off its card's ``datasets:``, the recipe beside its weights, or its name.

    Raises:
        UserError: none of them tells; the error lists the tasks.
    """
    every = {name: plugins.task(name) for name in plugins.task_names()}
    # A task with a base shares its data: a card or a name can only mean the base.
    tasks = {name: task for name, task in every.items() if task.base is None}
    for dataset in _card_datasets(model):
        for task in tasks.values():
            if task.data.repo is not None and dataset.lower() == task.data.repo.lower():
                return task
    made_for = _recipe_task(typed_path(model, "model"))
    if made_for is not None:
        try:
            return plugins.task(made_for)
        except UserError:
            raise UserError(
                f"{model} was made for the task {made_for!r}, which is not built in; "
                "give --task with its YAML file"
            ) from None
    flat = re.sub(r"[^a-z0-9]", "", model.lower().rsplit("/", 1)[-1])
    for task in tasks.values():
        if re.sub(r"[^a-z0-9]", "", task.title.lower()) in flat:
            return task
    raise UserError(f"cannot tell the task of {model}; give --task with one of {', '.join(tasks)}")


def unlearning(model: str) -> Mapping[str, Any] | None:
    """Return how a model, or the model of an epoch, was unlearned; None where that is not known of it.

    Raises:
        UserError: its ``unlearn.json`` is not what muse-eval wrote.
    """
    from muse_eval.unlearning import cards
    from muse_eval.unlearning.training import output

    folder = typed_path(model, "model")
    is_epoch = folder.parent.name == output.CHECKPOINTS
    for home in (folder, *([folder.parent.parent] if is_epoch else [])):
        if (found := _read(home / cards.CARD)) is not None:
            return found
    return None


def _card_datasets(model: str) -> list[str]:
    """Return the ``datasets:`` of a model card's YAML head, empty where there is none."""
    from muse_eval.engines.checkpoint import download, hub_ref, is_folder, model_folder

    folder = model_folder(model) if is_folder(model) else download(hub_ref(model), ["README.md"]).folder
    card = folder / "README.md"
    try:
        text = read_bytes(card, "model card").decode(errors="replace").replace("\r\n", "\n")
    except MissingFile:
        return []
    head = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    try:
        meta = parse_yaml(head[1], f"model card {card}") if head else None
    except MalformedYaml:
        return []
    except Unreadable as error:
        raise UserError(f"{error}; mend it, or give --task") from None
    listed = meta.get("datasets") if isinstance(meta, dict) else None
    return [str(one) for one in (listed if isinstance(listed, list) else [listed] if listed else [])]


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        return expect(read_json(path, finite=False), dict, str(path))
    except MissingFile:
        return None
    except Unreadable as error:
        raise UserError(f"{error}; mend or remove it") from None


def _recipe_task(folder: Path) -> str | None:
    """Return the task that a model made by muse-eval was made for."""
    for name in ("unlearn.json", "finetune.json", "recipe.json"):
        recipe = _read(folder / name) or {}
        made_for = (recipe if name == "recipe.json" else part(recipe, "config")).get("task")
        if isinstance(made_for, str):
            return made_for
    return None
