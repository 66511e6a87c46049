"""docs/glossary.md explains every word that the code can print, and what its entries name exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import typer

from muse_eval import plugins
from muse_eval.cli.app import app
from muse_eval.engines import ENGINES
from muse_eval.results import degenerate, gated, utility
from muse_eval.results.composites import COMPOSITES
from muse_eval.results.gate import Verdict
from muse_eval.results.rows import FLAGS
from muse_eval.results.selection import RULES
from muse_eval.unlearning.recipe import UnlearnConfig

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "glossary.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^- (\*\*.+?)(?<=\*\*): (.+)$", PAGE, re.MULTILINE)
"""What each entry explains, and what it says."""
WORDS: dict[str, Collection[str]] = {
    "Flags": FLAGS,
    "Composites": COMPOSITES,
    "Selection rules": RULES,
    "Retain terms": set(plugins.RETAIN_TERMS.values()),
    "Suffixes of a method": {f"_{suffix}" for suffix in plugins.RETAIN_TERMS} | {"@released"},
    "Metrics": plugins.metric_names(),
    "Engines": {*ENGINES, "auto"},
    "Rows of training text": get_args(UnlearnConfig.model_fields["rows"].annotation),
    "The gate": get_args(Verdict),
}
"""Heading to what the code knows under it."""


def words(text: str) -> list[str]:
    """Return the entries whose word is the code's own."""
    return re.findall(r"^- \*\*`(\S+?)`\*\*: ", text, re.MULTILINE)


@pytest.mark.parametrize("heading", WORDS)
def test_every_word_of_the_code_has_its_entry_and_no_other(heading: str) -> None:
    (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert sorted(words(text)) == sorted(WORDS[heading])


def test_no_other_part_has_words_of_the_code() -> None:
    assert len(words(PAGE)) == sum(map(len, WORDS.values()))


def test_each_is_explained_once_and_says_where_more_stands() -> None:
    assert len(ENTRIES) == len(re.findall(r"^- ", PAGE, re.MULTILINE))
    terms = [term for names, _ in ENTRIES for term in re.findall(r"\*\*(.+?)\*\*", names)]
    assert len(terms) == len(set(terms))
    assert [
        names for names, said in ENTRIES if not re.search(r"\]\(\S+\)$|`(muse-eval|--)[^`]+`$", said)
    ] == []


# ── the flags ────────────────────────────────────────────────────────────────────────────────────
def scopes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what gives a cell its flags: statements and arguments that say so, functions called flags."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in ("flags", "flag"):
            yield from node.body[1:]
        elif isinstance(node, ast.keyword) and node.arg == "flags":
            yield node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Fit":
            yield node.args[0]
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.Expr) and re.match(
            r"flags?( \+?= |\.append\()", ast.unparse(node)
        ):
            yield node


def texts(node: ast.AST) -> Iterator[str]:
    """Yield the texts in a piece of code, but for keys that something is looked up by."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif not isinstance(node, ast.Subscript):
        for below in ast.iter_child_nodes(node):
            yield from texts(below)


def test_the_flags_that_the_code_sets_are_those_it_explains() -> None:
    rooms = (ROOT / "metrics", ROOT / "muse_eval" / "scoring", ROOT / "muse_eval" / "probes")
    files = [path for room in rooms for path in room.glob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    found = {text for tree in trees for scope in scopes(tree) for text in texts(scope)}
    assert found | {degenerate.FLAG, gated.FLAG, utility.FLAG} == set(FLAGS)


# ── what is named ────────────────────────────────────────────────────────────────────────────────
def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", ["glossary.md", "files.md", "architecture.md", "decisions.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", (DOCS / page).read_text(encoding="utf-8"))
    assert links
    for name, anchor in links:
        assert (DOCS / name).is_file(), name
        assert not anchor or anchor in anchors(DOCS / name), f"{name}#{anchor}"


def commands(group: Any, name: str = "muse-eval") -> Iterator[tuple[str, click.Command]]:
    """Yield every verb under the name that is typed."""
    for verb, command in group.commands.items():
        yield f"{name} {verb}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {verb}")


def test_every_verb_and_option_exists() -> None:
    known = dict(commands(typer.main.get_command(app)))
    options = {option for command in known.values() for param in command.params for option in param.opts}
    said = " ".join(text for _, text in ENTRIES)
    assert set(re.findall(r"`(--[\w-]+)`", said)) <= options
    for typed in re.findall(r"`(muse-eval [^`]+)`", said):
        verb, _, rest = typed.rpartition(" ") if typed not in known else (typed, "", "")
        assert verb in known, typed
        if verb == "muse-eval list":
            assert rest in ("tasks", "methods", "presets", "probes", "metrics", "engines"), typed
        else:
            assert not rest, typed
