"""Composed checkpoints for tests: a target and a reinforced model in one folder."""

import json
import shutil
from pathlib import Path
from typing import Any

from muse_eval.engines.composition import COMPOSED

PARTS = ("target", "reinforced")


def compose(folder: Path, target: Path, reinforced: Path, method: str = "whp", **params: Any) -> Path:
    """Write a composed checkpoint out of two ordinary ones; the tokenizer is the target's."""
    for part, source in zip(PARTS, (target, reinforced), strict=True):
        shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("tokenizer*"))
    for path in (*target.glob("*config.json"), *target.glob("tokenizer*")):
        shutil.copy(path, folder)
    spec = {"schema_version": 1, "method": method, "params": params}
    (folder / COMPOSED).write_text(json.dumps(spec))
    return folder
