"""The verb ``show``: the examples behind a run's scores."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from muse_eval.cli.options import JsonOption, ResultsOption, split
from muse_eval.printable import print_json

WORST, WORST_OF_EACH = 10, 3
"""Examples shown of the columns that are named, and of each column where none is."""


def show(
    run: Annotated[str, typer.Argument(help="A run's name, TASK/NAME, or its folder.", show_default=False)],
    column: Annotated[
        str | None, typer.Option(help="Columns, comma-separated (`verbmem_f,privleak`); else all.")
    ] = None,
    worst: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"How many, the worst first; else {WORST}, or {WORST_OF_EACH} of each column."
        ),
    ] = None,
    example: Annotated[int | None, typer.Option(min=0, help="Only the one of this number, from 0.")] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Read the examples behind a run's scores: prompt, response, truth and score, the worst first.

    The worst of a forget column are those that are remembered best, of a retain column those that are known
    least, and of PrivLeak the forget texts that are the likeliest to the model.

    Example: `muse-eval show muse_mini/simnpo_gdr --column verbmem_f --worst 10`
    """
    from muse_eval.errors import UserError
    from muse_eval.results import evidence, load, load_records

    folder = evidence.find_run(results, run)
    stored = load(folder)
    if stored is None:
        raise UserError(f"{folder} holds no result; score a model first: muse-eval run --model …")
    columns = split(column, "--column")
    count = worst or (WORST if columns else WORST_OF_EACH)
    chosen = evidence.choose(stored, load_records(folder), columns, count, example)
    if as_json:
        print_json(evidence.to_json(stored, chosen))
        return
    print("\n".join(evidence.lines(stored, chosen, min(120, shutil.get_terminal_size().columns))))
    print(f"\nevidence: {folder}/result.json and records.jsonl")
