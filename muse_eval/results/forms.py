"""The forms that a leaderboard is written in, by name."""

from collections.abc import Callable, Iterable, Mapping

from muse_eval.errors import unknown_name
from muse_eval.results.html_table import to_html
from muse_eval.results.json_table import to_json
from muse_eval.results.latex import to_latex
from muse_eval.results.rows import RunRow
from muse_eval.results.tables import to_csv, to_markdown

Writer = Callable[[Iterable[RunRow], Iterable[Mapping[str, str]]], str]
"""Writes rows, and published numbers beside them, as text."""
FORMS: dict[str, Writer] = {
    "csv": to_csv,
    "md": to_markdown,
    "latex": to_latex,
    "json": to_json,
    "html": to_html,
}


def writer(form: str) -> Writer:
    """Return what writes a form.

    Raises:
        UserError: there is none of that name.
    """
    if form not in FORMS:
        raise unknown_name("format", form, FORMS)
    return FORMS[form]


def ending(form: str) -> str:
    """Return how the name of a file of this form ends."""
    return "tex" if form == "latex" else form
