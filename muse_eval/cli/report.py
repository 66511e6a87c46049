"""The verb ``report``: the page of a task's runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_eval.cli.options import DataOption, MarkOption, ResultsOption, located, split, warn
from muse_eval.errors import counted
from muse_eval.printable import one_line

if TYPE_CHECKING:
    from muse_eval.reports import Report


def report(
    task: Annotated[
        str | None,
        typer.Option(help="Task name or YAML file; may be left out where one task has runs."),
    ] = None,
    models: Annotated[str | None, typer.Option(help="Names of runs, comma-separated; else all.")] = None,
    results: ResultsOption = Path("results"),
    out: Annotated[Path | None, typer.Option(help="File to write; else RESULTS/reports/TASK.html.")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for each picture as SVG, PNG and PDF; else none.")
    ] = None,
    data_dir: DataOption = None,
    baseline: MarkOption = None,
) -> None:
    """Make one offline HTML file of a task's runs: verdicts, table, pictures, every example, provenance.

    No model is asked and nothing is fetched. `--data-dir` gives the texts of which records keep only the
    ends, so that PrivLeak's are shown token by token; the built-in world's are at hand.

    Example: `muse-eval report --task muse_mini --models target,retrain,simnpo_gdr --out report.html`
    """
    from muse_eval import api

    tell(
        api.report(
            task,
            split(models, "--models"),
            results=results,
            out=out,
            figures=figures,
            data_dir=data_dir,
            baseline=located(baseline) if baseline else None,
            warn=warn,
        )
    )


def tell(made: "Report") -> None:
    """Say where a page and its pictures lie."""
    size = f"{made.num_bytes / 1e6:.1f} MB"
    print(f"report: {one_line(str(made.path))}, {counted(made.runs, 'run')}, {size}; open it in a browser")
    if made.pictures:
        print(f"figures: {one_line(str(made.pictures[0].parent))}/*.svg, *.png, *.pdf")
