"""The verb ``compare``: whether one run is better than another, or nothing shows it."""

from pathlib import Path
from typing import Annotated

import typer

from muse_eval.cli.options import JsonOption, ResultsOption, split
from muse_eval.printable import print_json


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Two runs or more: name, TASK/NAME or folder.", show_default=False)
    ],
    column: Annotated[
        str | None, typer.Option(help="Columns, comma-separated (`verbmem_f,privleak`); else all.")
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Compare runs example by example: difference, 95 % interval, p, and a verdict in words.

    Forget columns are judged by distance to retrain where its run is stored. What is of other data, another
    limit or other parameters is refused.

    Example: `muse-eval compare muse_mini/npo_gdr muse_mini/simnpo_gdr`
    """
    from muse_eval.results import compare_lines
    from muse_eval.results.compare import compare as compared

    found = compared(runs, results, columns=split(column, "--column"))
    if as_json:
        print_json(compare_lines.to_json(found))
    else:
        print("\n".join(compare_lines.lines(found)))
