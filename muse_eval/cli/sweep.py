"""The verb ``sweep``: many models in one command."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_eval.cli.options import (
    CodeOption,
    DataOption,
    DtypeOption,
    EngineOption,
    JsonOption,
    LimitOption,
    MetricsOption,
    OverwriteOption,
    PickleOption,
    QuietOption,
    ResultsOption,
    RetrainOption,
    SeedOption,
    SetOption,
    TaskOption,
    TokenizerOption,
    TruncateOption,
    UtilityOption,
    given,
    note,
    warn,
)
from muse_eval.cli.table import print_table
from muse_eval.errors import counted
from muse_eval.printable import print_json

if TYPE_CHECKING:
    from muse_eval.sweeps.worker import Outcome


def sweep(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Folders and hub ids, `NAME=` in front names a run; quoted globs of folders; "
            "files with one of these a line."
        ),
    ],
    task: TaskOption = None,
    engine: EngineOption = "auto",
    retrain: RetrainOption = None,
    data_dir: DataOption = None,
    tokenizer: TokenizerOption = None,
    metrics: MetricsOption = None,
    utility: UtilityOption = None,
    results: ResultsOption = Path("results"),
    dtype: DtypeOption = "auto",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    truncate: TruncateOption = False,
    settings: SetOption = None,
    overwrite: OverwriteOption = False,
    allow_pickle: PickleOption = False,
    trust_remote_code: CodeOption = False,
    jobs: Annotated[int, typer.Option(help="Models under way at once.")] = 1,
    on: Annotated[
        str, typer.Option(help="local, or ray: a Ray cluster whose nodes share these folders.")
    ] = "local",
    gpus_per_model: Annotated[
        int | None,
        typer.Option(help="GPUs each model sees, 0: all; else all for one job and one each for several."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score many models, each in a process of its own; what is there is not done again.

    Exit code 1 where a model failed; the others are scored all the same.

    Example: `muse-eval sweep 'checkpoints/*' best=owner/name@revision --task muse_books --jobs 2`
    """
    options = given(locals(), "as_json", "quiet")
    from muse_eval import api
    from muse_eval.progress import display
    from muse_eval.types import ignore

    with display(quiet) as progress:
        outcomes = api.sweep(
            **options,
            stage=progress.stage,
            progress=progress,
            warn=warn,
            note=ignore if quiet else note,
        )
    _print(outcomes, as_json)
    if not all(outcome.folder for outcome in outcomes):
        raise typer.Exit(1)


def _print(outcomes: Sequence["Outcome"], as_json: bool) -> None:
    """Print a table for each task, and a line for each model that failed."""
    done = {outcome.name: outcome.folder for outcome in outcomes if outcome.folder}
    failed = {outcome.name: outcome.reason for outcome in outcomes if not outcome.folder}
    if as_json:
        named = {name: str(folder) for name, folder in done.items()}
        print_json({"done": named, "failed": failed})
        return
    for home in dict.fromkeys(folder.parent for folder in done.values()):
        print_table([folder for folder in done.values() if folder.parent == home])
        print(f"evidence: {home}/NAME/result.json and records.jsonl")
    sys.stdout.flush()
    for name, reason in failed.items():
        note(f"failed: {name}: {reason}")
    if failed:
        share = f"{len(failed)} of {counted(len(outcomes), 'model')}"
        note(f"{share} failed; the same command does only what is missing")
