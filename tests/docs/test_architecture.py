"""docs/architecture.md lists every room and every module beside them, in their own words, and no other."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "muse_eval"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MOST_LINES = 100
"""Two pages."""


def listed(heading: str) -> dict[str, str]:
    """Return the table below a heading: name to sentence."""
    (table,) = re.findall(rf"^\| {heading} \| its job \|\n\| --- \| --- \|\n((?:\|.*\n)+)", PAGE, re.M)
    return dict(re.findall(r"^\| `(\S+)` \| (.+) \|$", table, re.MULTILINE))


def sentence(path: Path) -> str:
    """Return the first line of a module's docstring, as the page quotes it."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert said
    return said.split("\n")[0].replace("``", "`")


def test_the_rooms_are_the_folders_and_each_says_its_own_sentence() -> None:
    doors = [*PACKAGE.rglob("__init__.py"), *PACKAGE.glob("metrics/__init__.py")]
    rooms = {path.parent.relative_to(PACKAGE).as_posix(): sentence(path) for path in doors}
    del rooms["."]
    assert listed("room") == rooms


def test_the_modules_are_those_beside_the_rooms() -> None:
    flat = {path.name: sentence(path) for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    assert listed("module") == flat


def test_imports_run_as_import_linter_holds_them() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (held,) = (
        contract["layers"]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["id"] == "direction"
    )
    (drawn,) = re.findall(r"^## Which way imports run\n.*?```\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    assert drawn.splitlines() == held


def test_the_page_is_short_and_its_drawings_fit_a_terminal() -> None:
    assert len(PAGE.splitlines()) <= MOST_LINES
    drawings = re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(drawings) == 2
    assert max(len(line) for drawing in drawings for line in drawing.splitlines()) <= 80


def test_the_modules_that_decisions_name_exist() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    assert named
    assert [name for name in sorted(named) if not (PACKAGE / name).is_file()] == []
