"""What needs no model loads neither torch nor transformers; ``make lint`` holds which way imports run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "muse_eval"
HEAVY = {"torch", "transformers", "vllm", "accelerate", "optuna", "datasets", "altair", "vl_convert"}
HEAVY_ROOMS = {"engines", "unlearning", "mini"}
"""Where models live."""


PATHS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in {*PACKAGE.rglob("*.py"), *(PACKAGE / "metrics").glob("*.py")}
}
"""Every module, by its dotted name below ``muse_eval``."""


def module(name: str) -> ast.Module:
    """Parse a module, by its dotted name below ``muse_eval``."""
    return ast.parse(PATHS[name].read_text(encoding="utf-8"))


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what runs when a module is imported: not its functions, nor what only type checkers see."""
    for node in body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        for name in ("body", "orelse", "finalbody"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from top_level(getattr(node, name, []))


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Return the packages that nodes import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("name", sorted(PATHS))
def test_torch_is_imported_on_loading_only_where_models_live(name: str) -> None:
    if name.split(".")[0] not in HEAVY_ROOMS:
        assert not imported(top_level(module(name).body)) & HEAVY


def test_the_built_in_corpus_needs_no_torch() -> None:
    for name in ("mini", "mini.corpus", "mini.words"):
        assert not imported(ast.walk(module(name))) & HEAVY


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("--help", 0),
        ("list tasks", 0),
        ("leaderboard --results none", 2),
        ("check --results none", 2),
        ("report --results none", 2),
    ],
)
def test_what_needs_no_model_loads_none(line: str, known: int, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from muse_eval.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    print('loaded:', sorted({HEAVY!r} & sys.modules.keys()))\n"
    )
    command = [sys.executable, "-c", code, *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (known, "loaded: []")


@pytest.mark.slow
def test_the_python_face_loads_no_model_before_a_verb_needs_one() -> None:
    code = f"import sys, muse_eval.api; print(sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
