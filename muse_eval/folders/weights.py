"""What of a model's weights is missing or cut, as far as lengths and names tell."""

import json
from pathlib import Path


def weights_fault(folder: Path) -> str | None:
    """Say in a few words what of a folder's weights (safetensors) is missing or cut; None where nothing is.

    Only lengths and names are looked at, not what the numbers are.
    """
    from safetensors import SafetensorError, safe_open

    found = sorted(folder.glob("*.safetensors"))
    if not found:
        return "its weights are missing"
    for path in found:
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError):
            return f"{path.name} is cut or damaged"
    for index in folder.glob("*.safetensors.index.json"):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            missing = sorted(name for name in named if not (folder / name).is_file())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return f"{index.name} is damaged"
        if missing:
            return f"{missing[0]} is missing"
    return None
