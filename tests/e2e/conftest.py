"""What holds for whole runs: how long a step takes is told to nobody, so that none of them depends on it."""

import math

import pytest

from muse_eval import progress


@pytest.fixture(autouse=True)
def _no_lines_for_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other processes want the cores a step may take seconds, and would be worth a line."""
    monkeypatch.setattr(progress, "WORTH_A_LINE", math.inf)
    monkeypatch.setattr(progress, "LINE_EVERY", math.inf)
