"""Imports point one way, and what needs no model imports neither torch nor transformers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "muse_eval"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("types", "errors", "keys", "params", "printable", "differences", "project_files", "workload"),
    ("config", "stats", "plugins", "sources", "data", "provenance", "composites", "selection", "made"),
    ("passages", "shift", "sides", "example_checks", "suspicions"),
    ("cutting", "new_corpus", "new_task", "corpus_files"),
    (
        "store",
        "engines",
        "unlearning",
        "mini",
        "leaderboard",
        "comparable",
        "replaced",
        "check",
        "check_lines",
        "results",
        "evidence",
        "progress",
    ),
    ("trajectory", "folds", "figures", "lengths"),
    (
        "card",
        "groups",
        "plan",
        "identity",
        "retrain",
        "prompt_fit",
        "run",
        "api",
        "seeds",
        "worker",
    ),
    ("sweep", "sweep_list", "sweep_ray"),
    ("epochs", "keeping", "pipeline", "pipeline_config"),
    ("tune", "tune_grid", "tune_plan", "tune_report", "tune_study"),
    (
        "cli",
        "cli_data",
        "cli_data_init",
        "cli_finetune",
        "cli_lists",
        "cli_options",
        "cli_pipeline",
        "cli_show",
        "cli_sweep",
        "cli_table",
        "cli_tune",
        "cli_unlearn",
    ),
)
"""From the bottom up; a layer's modules may import its own and those below."""
EXCEPTIONS = {"sources": {"mini.corpus", "mini.corpus.splits"}}
"""The built-in world is one of three sources of data; its corpus is text alone, and made when asked for."""
HEAVY = {"torch", "transformers", "vllm", "accelerate", "optuna"}
HEAVY_ROOMS = {"engines", "unlearning", "mini"}


def modules() -> dict[str, ast.Module]:
    """Parse every module, by its dotted name below ``muse_eval``."""
    paths = [*PACKAGE.rglob("*.py"), *(PACKAGE / "metrics").glob("*.py")]
    found = {}
    for path in paths:
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what runs when a module is imported: not its functions, nor what only type checkers see."""
    for node in body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        for name in ("body", "orelse", "finalbody"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from top_level(getattr(node, name, []))


def imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Yield the dotted names that nodes import, a name taken from a package with its package."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def every_import(name: str) -> set[str]:
    return set(imports(ast.walk(MODULES[name])))


def own_imports(name: str) -> set[str]:
    """Return the modules of this package that a module imports anywhere."""
    below = {n.removeprefix("muse_eval.") for n in every_import(name) if n.startswith("muse_eval.")}
    return {n for n in below if n in MODULES or n.split(".")[0] in MODULES}


def level(name: str) -> int:
    room = name.split(".")[0]
    return next(index for index, layer in enumerate(LAYERS) if room in layer)


def test_every_module_has_its_layer() -> None:
    rooms = {name.split(".")[0] for name in MODULES} - {"__init__", "__main__", "metrics", "tasks"}
    assert rooms == {room for layer in LAYERS for room in layer}


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"__init__", "__main__", "tasks", "tasks.__init__"}))
def test_imports_point_one_way(name: str) -> None:
    if name.split(".")[0] == "metrics":
        return
    used = {
        other for other in own_imports(name) if other.split(".")[0] not in ("metrics", "tasks", "__init__")
    }
    upward = {other for other in used if level(other) > level(name)} - EXCEPTIONS.get(name, set())
    assert not upward, f"{name} imports {upward} from a layer above"


def allowed(name: str, own: set[str], foreign: set[str]) -> None:
    standard = sys.stdlib_module_names
    for found in every_import(name):
        head, _, rest = found.partition(".")
        if head == "muse_eval":
            assert not rest or any(rest == o or rest.startswith(f"{o}.") for o in own), (
                f"{name} imports {found}"
            )
        else:
            assert head in standard or head in foreign, f"{name} imports {found}"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("metrics.")))
def test_metrics_import_only_nouns_statistics_and_each_other(name: str) -> None:
    allowed(name, {"types", "stats", "errors", "params", "metrics"}, {"numpy", "pydantic", "rouge_score"})


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("unlearning.methods.")))
def test_methods_import_only_nouns_and_torch(name: str) -> None:
    allowed(name, {"types"}, {"torch", "pydantic"})


@pytest.mark.parametrize("name", sorted(MODULES))
def test_torch_is_imported_on_loading_only_where_models_live(name: str) -> None:
    heavy = {found.split(".")[0] for found in imports(top_level(MODULES[name].body))} & HEAVY
    if name.split(".")[0] not in HEAVY_ROOMS:
        assert not heavy, f"{name} imports {heavy} at its top level"


def test_the_built_in_corpus_needs_no_torch() -> None:
    for name in ("mini", "mini.corpus", "mini.words"):
        assert not {found.split(".")[0] for found in every_import(name)} & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list", "tasks"], ["leaderboard", "--results", "none"], ["check", "--results", "none"]],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_what_needs_no_model_loads_none(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from muse_eval.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"print('loaded:', sorted({HEAVY!r} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"
