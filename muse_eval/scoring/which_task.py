"""What a model's folder says of it: which task it belongs to, and what it was unlearned from."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from muse_eval import plugins
from muse_eval.config import TaskSpec
from muse_eval.errors import UserError


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
    made_for = _recipe_task(Path(model).expanduser())
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
    """Return how a model, or the model of an epoch, was unlearned; None where that is not known of it."""
    from muse_eval.unlearning import cards
    from muse_eval.unlearning.training import output

    folder = Path(model).expanduser()
    is_epoch = folder.parent.name == output.CHECKPOINTS
    for home in (folder, *([folder.parent.parent] if is_epoch else [])):
        found = cards.read_json(home / cards.CARD)
        if isinstance(found, dict):
            return found
    return None


def _card_datasets(model: str) -> list[str]:
    """Return the ``datasets:`` of a model card's YAML head, empty where there is none."""
    from muse_eval.engines.checkpoint import download, hub_ref, is_folder

    if is_folder(model) and not Path(model).expanduser().is_dir():
        raise UserError(f"model folder {model} does not exist; give a folder or a hub id")
    folder = Path(model).expanduser() if is_folder(model) else download(hub_ref(model), ["README.md"]).folder
    card = folder / "README.md"
    if not card.is_file():
        return []
    head = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        meta = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return []
    listed = meta.get("datasets") if isinstance(meta, dict) else None
    return [str(one) for one in (listed if isinstance(listed, list) else [listed] if listed else [])]


def _recipe_task(folder: Path) -> str | None:
    """Return the task that a model made by muse-eval was made for."""
    for name in ("unlearn.json", "finetune.json", "recipe.json"):
        try:
            recipe = json.loads((folder / name).read_text(encoding="utf-8"))
            made_for = recipe["task"] if name == "recipe.json" else recipe["config"]["task"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(made_for, str):
            return made_for
    return None
