"""What differs between two recipes, by the names that are typed."""

from collections.abc import Mapping
from typing import Any

from muse_eval.config import joined
from muse_eval.config.differences import differences
from muse_eval.results import part


def changes(then: Any, now: Mapping[str, Any]) -> str:
    """Name in brackets what differs between two recipes, then and now; empty where that cannot be told.

    Args:
        then: a recipe as it was read, or the card that holds it; anything at all.
        now: a recipe.
    """
    if not isinstance(then, dict) or not isinstance(part(then, "method").get("loss"), str):
        return ""
    old, new = _typed(then), _typed(now)
    if old["method"] != new["method"]:
        # The parameters of one method are not those of another.
        old, new = ({key: one[key] for key in one if key in old and key in new} for one in (old, new))
    found = differences(old, new)
    return f" ({joined(found)})" if found else ""


def _typed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    method = part(recipe, "method")
    loss = method.get("loss")
    return {
        "method": loss,
        **{f"{loss}.{name}": value for name, value in part(method, "params").items()},
        "retain term": method.get("retain"),
        "lambda": method.get("lambda"),
        **part(recipe, "training"),
        **{key: recipe.get(key) for key in ("target", "data", "lora", "dropped", "optimizer")},
        "muse-eval's code": recipe.get("code"),
    }
