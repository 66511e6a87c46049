"""The verb ``check``: the regression gate."""

from pathlib import Path
from typing import Annotated

import typer

from muse_eval.cli.options import JsonOption, ResultsOption, located, note, split, warn
from muse_eval.errors import UserError, counted
from muse_eval.printable import print_json


def check(
    baseline: Annotated[Path, typer.Option(help="File of expected values.")] = Path("results/baseline.json"),
    results: ResultsOption = Path("results"),
    only: Annotated[
        str | None,
        typer.Option(
            help="Runs of the baseline to compare, comma-separated: `muse_mini/target,muse_mini/npo*`."
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Every run of the baseline must be there, else exit 2.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--every", help="Every run of the results must be in the baseline, else exit 2.")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Take what was measured as expected.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fail when a metric regressed: exit 0 fine, 1 regression, 2 cannot tell.

    What of the baseline was not scored here is named and left out; with --only or --all it must be there.
    Each column is scored anew from its records; one that contradicts them, or is of other examples, data,
    parameters or another engine than in the baseline, cannot be told.

    Example: `muse-eval check --baseline results/project/baseline.json`
    """
    from muse_eval.results import gate as checking
    from muse_eval.results import gate_lines as reading
    from muse_eval.results import load_all, locate, write_files

    found = load_all(results, warn)
    if update:
        if only is not None or whole or every:
            given = "--only" if only is not None else "--all" if whole else "--every"
            raise UserError(f"{given} compares, --update takes over what was measured; leave one of them out")
        known, theirs = checking.load_baseline(baseline) if baseline.exists() else None, locate(baseline)
        made = checking.make_baseline(found, known=known)
        write_files(baseline.parent, {baseline.name: checking.baseline_text(made)})
        print("\n".join([*checking.changes(known, made), f"{baseline}: {counted(len(made.runs), 'run')}"]))
        if theirs != baseline:
            note(f"from now on that is what is compared with, not the project's own, {theirs}")
        return
    expected = checking.load_baseline(located(baseline))
    report = checking.check(found, expected, split(only, "--only"), whole, every)
    if as_json:
        print_json(reading.to_json(report))
    else:
        print("\n".join([*reading.lines(report), *report.notes, reading.summary(report)]))
    raise typer.Exit(report.exit_code)
