"""A pytest plugin for mutation: leaves out tests that draw, for what draws has threads that no fork keeps."""

import pytest

from muse_eval.results import drawing


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip a test as soon as it draws; the process that forks the others has then never drawn."""

    def skip(*_: object, **__: object) -> None:
        pytest.skip("draws")

    monkeypatch.setattr(drawing, "draw", skip)
