"""Which of muse-eval's own code makes a number: a digest over its definitions, blind to where they stand.

``same_code.json`` says under which digest the very same computation is stored already, so that what an
earlier version left on disk stays valid; ``benchmarks/same_code.py`` keeps it.
"""

import ast
import json
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from muse_eval.provenance import joined_digest

_ENGINES = ("engines/**/*.py",)
_METRICS = (
    "metrics/*.py",
    "statistics/entropy.py",
    "statistics/intervals.py",
    "types/asks.py",
    "types/metrics.py",
)
_UNLEARNING = (
    "unlearning/**/*.py",
    # Which texts and target: a recipe has their digests.
    "!unlearning/on_task.py",
    # Where a model lies, what is told of it, what is refused.
    "!unlearning/cards.py",
    "!unlearning/changes.py",
    "!unlearning/command.py",
    "!unlearning/model_card.py",
    "!unlearning/training/disk.py",
    "!unlearning/training/feasible.py",
    # What is chosen by it stands in the recipe, or changes weights by rounding alone.
    "!unlearning/training/fitting.py",
    "!unlearning/training/memory.py",
    "!unlearning/training/output.py",
    "!unlearning/training/plan.py",
    "!unlearning/training/record.py",
    "!unlearning/training/release.py",
    "!unlearning/training/reports.py",
    "!unlearning/training/resuming.py",
    "!unlearning/training/seals.py",
    "!unlearning/training/sizing.py",
)
CODE: Mapping[str, tuple[str, ...]] = {
    "engines": _ENGINES,
    "unlearning": _UNLEARNING,
    "scoring": (
        *_METRICS,
        *_ENGINES,
        "scoring/run.py",
        "scoring/opening.py",
        "scoring/plan.py",
        "scoring/columns.py",
        "scoring/answers.py",
        "scoring/prompt_fit.py",
        "data/splits.py",
        "config/params.py",
        "config/spec.py",
    ),
    "tuning": (*_METRICS, *_ENGINES, *_UNLEARNING),
    "utility": ("scoring/utility.py", "scoring/lm_tasks.py", "scoring/lm_model.py"),
    "model-free": ("data/model_free.py", "data/overlap.py", "statistics/intervals.py"),
}
"""Files of the package by what they decide: answers, weights, a run's scores, a trial of a tune, and so on.

A pattern with ``!`` takes files away. A run's scores are decided by what plans, asks, scores and judges;
which task, data, models and parameters are read stands in its settings, with digests, and counts there. A
trial's list is narrower: its weights are gone, and it would have to be trained again.
"""
SAME = "same_code.json"


@cache
def code_digest(what: str) -> str:
    """Return the digest that stands for own code in keys and files on disk.

    Args:
        what: a key of ``CODE``, or a pattern of files such as ``unlearning/methods/whp.py``.
    """
    known = same_code().get(what, {})
    # To parse all files takes a second, which no command should wait for.
    if known and known.get("files") == bytes_digest(what):
        return known["stored"]
    now = definitions_digest(what)
    return known["stored"] if known.get("now") == now else now


def same_code() -> dict[str, dict[str, str]]:
    """Return ``same_code.json``: by purpose the digest ``now`` and the one that is ``stored``.

    ``files`` is the digest of the very bytes whose definitions have the digest ``now``.
    """
    return dict(json.loads((Path(__file__).parent / SAME).read_text(encoding="utf-8")))


def definitions_digest(what: str) -> str:
    """Return the SHA-256 over the sorted definitions of the code named as in ``code_digest``."""
    return joined_digest(definitions(Path(__file__).parent, *CODE.get(what, (what,))))


def bytes_digest(what: str) -> str:
    """Return the SHA-256 over the names and bytes of the files of the code named as in ``code_digest``."""
    home = Path(__file__).parent
    files = sorted(code_files(home, *CODE.get(what, (what,))))
    return joined_digest(
        [f"{path.relative_to(home).as_posix()} {sha256(path.read_bytes()).hexdigest()}" for path in files]
    )


def definitions(home: Path, *patterns: str) -> list[str]:
    """Return, sorted, the top-level statements of the files below ``home`` that match, each as one line.

    Positions, comments, bare strings, imports, ``__all__``, what only type checkers read and annotations
    outside of class bodies (where they are fields) are left out; a foreign name is written as what it is
    imported from. The lines are the same under every version of Python.
    """
    return sorted(
        line for path in code_files(home, *patterns) for line in _lines(path.read_text(encoding="utf-8"))
    )


def code_files(home: Path, *patterns: str) -> set[Path]:
    """Return the files below ``home`` that match a pattern, and none of those with ``!``."""
    taken = {path for pattern in patterns if pattern[0] != "!" for path in home.glob(pattern)}
    return taken - {path for pattern in patterns if pattern[0] == "!" for path in home.glob(pattern[1:])}


def _lines(text: str) -> Iterator[str]:
    plain = _Plain().visit(ast.parse(text))
    origins: dict[str, set[str]] = {}
    for node in ast.walk(plain):
        for name, origin in _imported(node):
            origins.setdefault(name, set()).add(origin)
    names = {name: "|".join(sorted(found)) for name, found in origins.items()}
    for statement in plain.body:
        if not isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield _dump(statement, names)


def _imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that an import binds, and what they are; of our own packages the last name alone."""
    if isinstance(node, ast.Import):
        for one in node.names:
            yield (one.asname, one.name) if one.asname else (one.name.split(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom):
        own = (node.module or "").split(".")[0] == "muse_eval"
        for one in node.names:
            yield one.asname or one.name, one.name if own else f"{node.module}.{one.name}"


class _Plain(ast.NodeTransformer):
    """Takes out what changes no value; imports are left for the names that they bind."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[Any]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(one) for one in node.orelse]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.visit_Assign(ast.Assign(targets=[node.target], value=node.value))

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # An annotation in a class is a field of it: what a dataclass has, and what pydantic lets in.
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        node.body = [one for one in node.body if one not in fields]
        plain = self.generic_visit(node)
        node.body = [*fields, *node.body]
        return plain

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node


def _dump(value: Any, names: Mapping[str, str]) -> str:
    """Write a piece of a syntax tree as text; ``ast.dump`` writes the same tree in other ways by version."""
    if isinstance(value, ast.JoinedStr):
        return f"f({', '.join(_pieces(value, names))})"
    if isinstance(value, (ast.Import, ast.ImportFrom)):
        return ""
    if isinstance(value, ast.Name):
        return names.get(value.id, value.id)
    if isinstance(value, ast.AST):
        parts = ((name, getattr(value, name, None)) for name in value._fields)
        told = (
            f"{name}={_dump(part, names)}"
            for name, part in parts
            if name not in ("ctx", "kind", "type_comment") and part is not None and part != []
        )
        return f"{type(value).__name__}({', '.join(told)})"
    if isinstance(value, list):
        return f"[{', '.join(filter(None, (_dump(one, names) for one in value)))}]"
    return ascii(value)


def _pieces(value: ast.JoinedStr, names: Mapping[str, str]) -> Iterator[str]:
    """Yield what an f-string joins, neighbouring texts as one: versions of Python cut them differently."""
    text = ""
    for one in value.values:
        if isinstance(one, ast.Constant):
            text += str(one.value)
            continue
        if text:
            yield ascii(text)
        text = ""
        yield _dump(one, names)
    if text:
        yield ascii(text)
