"""The verb ``run``: a model scored on a task."""

from pathlib import Path
from typing import Annotated

import typer

from muse_eval.cli.options import (
    BaseUrlOption,
    CodeOption,
    DataOption,
    DtypeOption,
    EngineOption,
    JsonOption,
    KeyOption,
    LimitOption,
    MetricsOption,
    ModelOption,
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
from muse_eval.printable import harmless_json


def run(
    model: ModelOption,
    task: TaskOption = None,
    engine: EngineOption = "auto",
    retrain: RetrainOption = None,
    data_dir: DataOption = None,
    tokenizer: TokenizerOption = None,
    base_url: BaseUrlOption = None,
    api_key_env: KeyOption = None,
    model_revision: Annotated[
        str | None, typer.Option(help="What pins a served model; else the row says unpinned.")
    ] = None,
    retrain_base_url: Annotated[
        str | None, typer.Option(help="Server of the retrain model; else --base-url.")
    ] = None,
    retrain_revision: Annotated[str | None, typer.Option(help="What pins a served retrain model.")] = None,
    metrics: MetricsOption = None,
    utility: UtilityOption = None,
    name: Annotated[str | None, typer.Option(help="The run's name; else the model's.")] = None,
    results: ResultsOption = Path("results"),
    dtype: DtypeOption = "auto",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    truncate: TruncateOption = False,
    settings: SetOption = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no answers on disk.")] = False,
    overwrite: OverwriteOption = False,
    allow_pickle: PickleOption = False,
    trust_remote_code: CodeOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a model on a task.

    Example: `muse-eval run --model OPTML-Group/SimNPO-MUSE-Books-iclm-7b`
    """
    options = given(locals(), "no_cache", "as_json", "quiet")
    from muse_eval import api
    from muse_eval.progress import display
    from muse_eval.types import ignore

    with display(quiet) as progress:
        result = api.evaluate(
            **options,
            cache=not no_cache,
            progress=progress,
            warn=warn,
            note=ignore if quiet else note,
            tell=progress.tell,
        )
    folder = result.folder
    assert folder is not None
    if as_json:
        print(harmless_json((folder / "result.json").read_text(encoding="utf-8")), end="")
    else:
        print_table([folder])
        print(f"engine: {result.engine}")
        print(f"evidence: {folder}/result.json and records.jsonl")
