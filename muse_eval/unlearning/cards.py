"""How a model was made, as its folder says: ``unlearn.json``, ``finetune.json`` or ``recipe.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muse_eval import reading
from muse_eval.plugins import FINETUNE

RECIPE = "recipe.json"
CARD = "unlearn.json"
FINETUNE_CARD = "finetune.json"


def read_json(path: Path) -> Any:
    """Read a JSON file; None where it does not exist, was cut off or holds no keys."""
    try:
        found = reading.read_json(path, finite=False)
    except reading.Unreadable:
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that it is there in full or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def card_name(recipe: Mapping[str, Any]) -> str:
    """Return the name of the file that says how a recipe was carried out."""
    return FINETUNE_CARD if recipe["method"]["loss"] == FINETUNE else CARD


def read_card(folder: Path) -> Any:
    """Read how a model was made; None where muse-eval did not make it, or not to its end."""
    found = read_json(folder / CARD)
    return read_json(folder / FINETUNE_CARD) if found is None else found
