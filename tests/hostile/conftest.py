"""The campaign's two lengths: `make hostile` tries all of it, others one case in six."""

import os
from itertools import groupby

import pytest

WHOLE = bool(os.environ.get("HOSTILE"))
EACH = 6
"""Of the cases marked ``campaign``, the first, the seventh … of each test belong to the short form."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only the whole campaign tries."""
    if WHOLE:
        return
    spared: list[pytest.Item] = []
    marked = [item for item in items if item.get_closest_marker("campaign")]
    for _, cases in groupby(marked, key=lambda item: item.nodeid.partition("[")[0]):
        spared += [case for place, case in enumerate(cases) if place % EACH]
    config.hook.pytest_deselected(items=spared)
    left_out = set(spared)
    items[:] = [item for item in items if item not in left_out]
