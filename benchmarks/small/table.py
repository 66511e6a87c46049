"""The table of a reproduction: on the terminal, as Markdown and as CSV, with each row's minutes."""

from collections.abc import Sequence

from benchmarks.small.work import MADE, Work
from muse_eval import plugins
from muse_eval.cli.table import print_table
from muse_eval.results import headings, run_folder
from muse_eval.results.grid import grid
from muse_eval.results.rows import rows
from muse_eval.results.tables import grid_markdown, to_csv
from muse_eval.unlearning import cards


def show(work: Work, names: Sequence[str], notes: Sequence[str]) -> None:
    """Print the table, and write it below the results as ``table.md`` and ``table.csv``."""
    task = plugins.task(work.task)
    print_table([run_folder(work.results, task.name, name) for name in names])
    stored = [work.stored(name) for name in names]
    found = rows(stored)
    laid = grid(headings(task.name, found), found)
    extra: dict[str, dict[str, str]] = {"steps": {}, "training, min": {}, "scoring, min": {}}
    for one in stored:
        model = work.unlearned(one.name)
        card = cards.read_json(model / MADE) or cards.read_card(model) or {}
        extra["steps"][one.name] = str(card.get("steps", ""))
        extra["training, min"][one.name] = f"{card['seconds'] / 60:.1f}" if card else ""
        extra["scoring, min"][one.name] = f"{one.seconds / 60:.1f}"
    said = "".join(f"- {note}\n" for note in notes)
    (work.home / "table.md").write_text(grid_markdown(laid, extra) + said, encoding="utf-8")
    (work.home / "table.csv").write_text(to_csv(found), encoding="utf-8")
    for note in notes:
        print(note)
    print(f"table: {work.home}/table.md and table.csv; evidence: {work.results}/runs")
