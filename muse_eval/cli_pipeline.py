"""The verb ``pipeline``: from a target to the table of its unlearned models."""

from pathlib import Path
from typing import Annotated

import typer

from muse_eval.cli_options import (
    CheckpointingOption,
    CodeOption,
    DataOption,
    MicroBatchOption,
    OptimOption,
    OverwriteOption,
    PickleOption,
    QuietOption,
    ResultsOption,
    TokenizerOption,
    TruncateOption,
    note,
    split,
    warn,
)
from muse_eval.cli_table import console, print_table
from muse_eval.errors import UserError


def pipeline(
    task: Annotated[str, typer.Option(help="Task name or YAML file.")] = "muse_mini",
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated; else ga, npo, simnpo, each also _gdr.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Target model; else the task's own.")] = None,
    retrain: Annotated[str | None, typer.Option(help="Retrain model; else the task's own.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds of the built-in world, comma-separated: a table for each.")
    ] = None,
    data_dir: DataOption = None,
    tokenizer: TokenizerOption = None,
    results: ResultsOption = Path("results"),
    engine: Annotated[str, typer.Option(help="`auto` or one of `muse-eval list engines`.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    preset: Annotated[
        str | None,
        typer.Option(help="One of `muse-eval list presets`, for all methods; over the task's values."),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of unlearning.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of unlearning.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Forget rows a step.")] = None,
    lambda_: Annotated[float | None, typer.Option("--lambda", help="λ, weight of the retain term.")] = None,
    micro_batch_size: MicroBatchOption = None,
    gradient_checkpointing: CheckpointingOption = False,
    lora: Annotated[str | None, typer.Option(help="Low-rank adapters, as for `unlearn`: `r=16`.")] = None,
    optim: OptimOption = None,
    select: Annotated[
        str,
        typer.Option(
            help="The epoch that counts: `last`; `paper` and `released`, MUSE's two stopping rules; or "
            "`best`, by --composite. All but `last` score every epoch."
        ),
    ] = "last",
    composite: Annotated[
        str | None, typer.Option(help="What ranks epochs: `balance` (default) or `harmonic`.")
    ] = None,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="Score every epoch, whatever --select: a CSV and a figure.")
    ] = False,
    keep_checkpoints: Annotated[
        bool,
        typer.Option(
            "--keep-checkpoints", help="Keep every epoch's weights, not only of those that some rule selects."
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="`engine.NAME=VALUE`, `COLUMN.PARAMETER=VALUE`, `METRIC.PARAMETER=VALUE` "
            "(all of its columns) or `METHOD.PARAMETER=VALUE`; repeatable.",
        ),
    ] = None,
    truncate: TruncateOption = False,
    overwrite: OverwriteOption = False,
    allow_pickle: PickleOption = False,
    trust_remote_code: CodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Target → unlearn with each method → score all → table; what is there is not done again.

    A task with several forget sets (muse_mini_scal, muse_mini_sust …) unlearns each of them with each method.

    Example: `muse-eval pipeline --task muse_mini --methods simnpo_gdr,npo_gdr --select paper`
    """
    from muse_eval.config import build, parse_settings
    from muse_eval.pipeline import pipeline as whole
    from muse_eval.pipeline_config import METHODS, PipelineConfig
    from muse_eval.pipeline_config import check as check_pipeline
    from muse_eval.progress import display

    configs = [
        build(
            PipelineConfig,
            "pipeline",
            task=name,
            methods=tuple(dict.fromkeys(split(methods, "--methods"))) or METHODS,
            target=target,
            retrain=retrain,
            data_dir=data_dir,
            tokenizer=tokenizer,
            results=results,
            engine=engine,
            dtype=dtype,
            lr=lr,
            epochs=epochs,
            batch_size=batch_size,
            lambda_=lambda_,
            preset=preset,
            micro_batch_size=micro_batch_size,
            gradient_checkpointing=gradient_checkpointing,
            lora=lora,
            optim=optim,
            select=select,
            composite=composite,
            trajectory=trajectory,
            keep_checkpoints=keep_checkpoints,
            settings=parse_settings(settings or []),
            truncate=truncate,
            overwrite=overwrite,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
        )
        for name in _worlds(task, seeds)
    ]
    for config in configs:
        check_pipeline(config)
    folders: list[list[Path]] = []
    for config in configs:
        with display(quiet) as progress:
            folders.append(
                whole(
                    config,
                    stage=progress.stage,
                    progress=progress,
                    log=progress.losses,
                    warn=warn,
                    note=note,
                )
            )
        _print(config.task, folders[-1])
    if len(configs) > 1:
        print_table([folder for made in folders for folder in made], over_seeds=True)
    home = folders[0][0].parent
    print(f"evidence: {home}/NAME/result.json and records.jsonl; models: {results}/models")


def _worlds(task: str, seeds: str | None) -> list[str]:
    """Return the task's name for each seed, once; seed 0 is the plain name."""
    from muse_eval import plugins

    numbers = split(seeds, "--seeds")
    if not all(number.isdecimal() for number in numbers):
        raise UserError(f"--seeds {seeds}: give whole numbers, comma-separated")
    chosen = dict.fromkeys(int(number) for number in numbers)
    names = [f"{task}-seed{seed}" if seed else task for seed in chosen] or [task]
    return [plugins.task(name).name if numbers else name for name in names]


def _print(task: str, folders: list[Path]) -> None:
    """Print a pipeline's table, and where its CSV files and figures are."""
    from muse_eval import plugins
    from muse_eval.epochs import CSV, FIGURE
    from muse_eval.folds import collect, table
    from muse_eval.leaderboard import draw
    from muse_eval.results import load

    spec = plugins.task(task)
    if spec.folds is None:
        print_table(folders)
    else:
        runs = collect(spec, [stored for folder in folders if (stored := load(folder)) is not None])
        print(f"{spec.title} (± half of the 95 % interval)")
        console().print(draw(table(runs)))
        home = folders[0].parent
        print(f"{runs.file}: {home / runs.file}.csv and {home / runs.file}.png")
    for folder in folders:
        if (folder / FIGURE).is_file():
            print(f"epochs of {folder.name}: {folder / CSV} and {folder / FIGURE}")
