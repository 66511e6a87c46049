"""The house: a room a job, small modules, and a sentence at each door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "muse_eval"
MOST_FLAT = 10
"""Modules that may lie beside the rooms."""
MOST_LINES = 300
FILES = sorted({*PACKAGE.rglob("*.py"), *(PACKAGE / "metrics").glob("*.py")})
ROOMS = sorted({path.parent for path in FILES} - {PACKAGE})


def test_few_modules_lie_flat() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FLAT


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(PACKAGE)))
def test_a_room_says_its_job(room: Path) -> None:
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert said
    assert said.split("\n")[0].endswith(".")
