"""Writes the generated parts of docs/methods.md: what each method is, and what was measured of it."""

import argparse
import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import mean

from muse_eval import plugins
from muse_eval.results import StoredResult, headings, load_all, over_seeds
from muse_eval.results.rows import rows
from muse_eval.results.tables import grid_markdown

PAGE = Path("docs/methods.md")
METHODS_DIR = Path("muse_eval/unlearning/methods")


def described() -> str:
    """Return a section for each method file: names to type, its docstring, its parameters."""
    names: dict[str, list[str]] = {}
    for name in plugins.method_names():
        names.setdefault(plugins.split_method(name)[0], []).append(name)
    return "\n".join(_section(stem, spelled) for stem, spelled in sorted(names.items()))


def _section(stem: str, spelled: Sequence[str]) -> str:
    source = ast.parse((METHODS_DIR / f"{stem}.py").read_text(encoding="utf-8"))
    summary, _, body = (ast.get_docstring(source) or "").partition("\n\n")
    _, method, _ = plugins.method(spelled[0])
    defaults = [f"`{field.name}` {field.default}" for field in fields(method.params)]
    lines = [f"### {' · '.join(f'`{name}`' for name in spelled)}", "", _plain(summary)]
    for paragraph in body.split("\n\n"):
        is_formula = "=" in paragraph and "\n" not in paragraph and not paragraph.endswith(".")
        lines += ["", f"    {paragraph}" if is_formula else _plain(paragraph)]
    lines += ["", f"Parameters: {', '.join(defaults) or 'none'}.", ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Join lines and turn reStructuredText's double backticks into Markdown's."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def measured(found: Iterable[StoredResult], seconds: Mapping[str, float]) -> str:
    """Return the table of all methods over the seeds, with the seconds that unlearning took."""
    ordered = rows(found)
    laid = over_seeds(headings(ordered[0]["task"], ordered), ordered)
    return grid_markdown(laid, extra={"unlearning, s": {n: f"{s:.0f}" for n, s in seconds.items()}})


def unlearning_seconds(models: Iterable[Path]) -> dict[str, float]:
    """Return each method's mean seconds of unlearning, from the cards in folders of models."""
    taken: dict[str, list[float]] = {}
    for folder in models:
        for card in sorted(folder.glob("*/unlearn.json")):
            taken.setdefault(card.parent.name, []).append(json.loads(card.read_text())["seconds"])
    return {name: mean(some) for name, some in taken.items()}


def replace(page: str, part: str, text: str) -> str:
    """Put a text between the page's markers ``<!-- PART -->`` and ``<!-- /PART -->``."""
    pattern = rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)"
    made, count = re.subn(
        pattern, lambda found: f"{found[1]}{text.rstrip()}\n{found[2]}", page, flags=re.DOTALL
    )
    assert count == 1, f"the page has no part {part}"
    return made


def main() -> None:
    """Write what is described; with ``--results``, what is measured too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, help="a results folder with the built-in world's runs")
    results = parser.parse_args().results
    page = replace(PAGE.read_text(encoding="utf-8"), "described", described())
    if results:
        mini = re.compile(r"muse_mini(-seed\d+)?")
        found = [one for one in load_all(results, print) if mini.fullmatch(one.task)]
        models = [folder for folder in (results / "models").glob("*") if mini.fullmatch(folder.name)]
        page = replace(page, "measured", measured(found, unlearning_seconds(models)))
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE}: written")


if __name__ == "__main__":
    main()
