"""vLLM against transformers, both in float32: log-probs, answers and columns.

Of the oracle the first examples of each split; `python -m benchmarks.parity` compares all (docs/engines.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.parity import compare
from tests.vllm.conftest import SHARED

TASKS: dict[str, dict[str, Any]] = {
    "target": {"task": "muse_mini"},
    "retrain": {"task": "muse_mini"},
    "oracle": {"task": "muse_news", "data_dir": SHARED / "muse-data" / "news", "limit": 12},
}


@pytest.mark.parametrize("name", ["target", "retrain", pytest.param("oracle", marks=pytest.mark.shared)])
def test_vllm_agrees_with_transformers(name: str, models: dict[str, Path]) -> None:
    folder = models.get(name, SHARED / "oracle-news")
    if not folder.is_dir():
        pytest.skip("the reference oracle is not here")
    found = compare(str(folder), "hf", "vllm", **TASKS[name])
    assert found.logprob < 1e-3
    for column in found.columns:
        assert abs(column.first - column.second) <= 0.3, column
        assert column.alike >= 0.98 * column.answers, column
