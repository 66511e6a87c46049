"""The verb ``leaderboard``: the table of all stored runs."""

from pathlib import Path
from typing import Annotated

import typer

from muse_eval.cli.options import MarkOption, ResultsOption, located, warn
from muse_eval.errors import UserError, counted


def leaderboard(
    results: ResultsOption = Path("results"),
    out: Annotated[
        Path | None, typer.Option(help="File to write, `-` for standard output; else RESULTS/leaderboard.*")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="csv, md, latex, json or html.")] = "csv",
    published: Annotated[
        Path | None, typer.Option(help="CSV of published numbers to add as a block, with their source.")
    ] = None,
    baseline: MarkOption = None,
) -> None:
    """Regenerate the leaderboard from the results folder: the same runs give the same bytes.

    What a file that is there loses by it is told.

    Example: `muse-eval leaderboard --format md --published results/project/published.csv --out -`
    """
    from muse_eval.results import load_published, write_files
    from muse_eval.results.forms import ending, writer
    from muse_eval.results.gated import gated
    from muse_eval.results.replaced import replaced
    from muse_eval.results.rows import all_rows

    write = writer(form)
    target = out or results / f"leaderboard.{ending(form)}"
    if target.is_dir():
        raise UserError(f"{target} is a folder; --out must name a file")
    found = gated(all_rows(results, warn), located(baseline) if baseline else None, warn)
    text = write(found, load_published(located(published)) if published else [])
    if str(target) in ("-", "/dev/stdout"):
        print(text, end="")
    else:
        before = target.read_text(encoding="utf-8", errors="replace") if target.is_file() else text
        write_files(target.parent, {target.name: text})
        print(f"{target}: {counted(len(found), 'run')}")
        if lost := replaced(before, text):
            print(lost)
