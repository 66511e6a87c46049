"""How a model was made, as its folder says: ``unlearn.json``, ``finetune.json`` or ``recipe.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muse_eval import reading
from muse_eval.errors import UserError
from muse_eval.folders import write_whole
from muse_eval.plugins import FINETUNE

RECIPE = "recipe.json"
CARD = "unlearn.json"
FINETUNE_CARD = "finetune.json"


def read_json(path: Path) -> Any:
    """Read a JSON file; None where there is no such file, it was cut off, or it holds no keys."""
    try:
        found = reading.read_json(path, finite=False)
    except reading.Unreadable:
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that it is there in full or not at all."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def card_name(recipe: Mapping[str, Any]) -> str:
    """Return the name of the file that says how a recipe was carried out."""
    return FINETUNE_CARD if recipe["method"]["loss"] == FINETUNE else CARD


def find_card(folder: Path) -> Path | None:
    """Return the file that says how a folder's model was made; None where muse-eval did not make it."""
    return next((folder / name for name in (CARD, FINETUNE_CARD) if (folder / name).exists()), None)


def read_card(folder: Path) -> Any:
    """Read how a model was made; None where muse-eval did not make it, or not to its end.

    Raises:
        UserError: the file is there and is not what muse-eval wrote.
    """
    path = find_card(folder)
    if path is None:
        return None
    card = read_json(path)
    fault = "holds no keys in JSON, or was cut off" if card is None else _fault(card)
    if fault:
        raise UserError(f"{path} {fault}; move {folder} away, or choose another folder")
    return card


def _fault(card: Mapping[str, Any]) -> str | None:
    if card.get("schema_version") != 1:
        return "is of another version of muse-eval (its schema_version is not 1)"
    kinds = {"fingerprint": str, "method": dict, "training": dict, "config": dict}
    for key, kind in kinds.items():
        if not isinstance(card.get(key), kind):
            return f"has no {key} as muse-eval writes it"
    if not isinstance(card["config"].get("epochs"), int):
        return "has no config.epochs as muse-eval writes it"
    return None
