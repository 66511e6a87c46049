"""Options that several verbs share, how they are split, and how a verb warns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from muse_eval.errors import UserError
from muse_eval.printable import say

ModelOption = Annotated[str, typer.Option(help="Hub id (`owner/name`, `@revision` pins) or folder.")]
TaskOption = Annotated[str | None, typer.Option(help="Task name or YAML file; else read off the model.")]
TaskNameOption = Annotated[str, typer.Option(help="Task name or YAML file.")]
MethodOption = Annotated[str, typer.Option(help="One of `muse-eval list methods`.")]
DataOption = Annotated[Path | None, typer.Option(help="Data in the layout of MUSE's own loader.")]
MarkOption = Annotated[
    Path | None,
    typer.Option(
        "--baseline", help="Flag what fails the gate against this file `gated`: it is never the best."
    ),
]
ResultsOption = Annotated[Path, typer.Option(help="Results folder.")]
TokenizerOption = Annotated[
    str | None, typer.Option(help="Folder or hub id; else the model's own, else the task's.")
]
RetrainOption = Annotated[
    str | None,
    typer.Option(
        help="Retrain model that PrivLeak is relative to; else the pipeline's, where it made MODEL, else "
        "published AUC. `none`: no model."
    ),
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", help="Server that answers for the model: `http://host:8000/v1`.")
]
KeyOption = Annotated[
    str | None, typer.Option("--api-key-env", help="Environment variable that holds the server's key.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="`engine.NAME=VALUE`, `COLUMN.PARAMETER=VALUE` or `METRIC.PARAMETER=VALUE` "
        "(all of its columns); repeatable.",
    ),
]
TruncateOption = Annotated[
    bool, typer.Option("--truncate", help="Cut what the context cannot hold; flagged.")
]
TargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        "--model",
        help="The model that is unlearned: hub id (`owner/name`, `@revision` pins) or folder.",
    ),
]
OwnTargetOption = Annotated[str | None, typer.Option(help="Target model; else the task's own.")]
OwnRetrainOption = Annotated[str | None, typer.Option(help="Retrain model; else the task's own.")]
EngineOption = Annotated[str, typer.Option(help="`auto` or one of `muse-eval list engines`.")]
DtypeOption = Annotated[str, typer.Option(help="Precision of scoring: auto, float32, bfloat16 or float16.")]
_TRAINING_DTYPE = "Precision of training: auto, float32, mixed or bfloat16."
TrainingDtypeOption = Annotated[str, typer.Option("--training-dtype", help=_TRAINING_DTYPE)]
UnlearnDtypeOption = Annotated[str, typer.Option("--training-dtype", "--dtype", help=_TRAINING_DTYPE)]
LimitOption = Annotated[int | None, typer.Option(help="Only the first N examples; flagged.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the intervals.")]
RowSeedOption = Annotated[int, typer.Option(help="Seed of the row order.")]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        help="Columns, comma-separated (`verbmem_f,privleak`); else all. "
        "`+extraction,+exact,+fluency`: these as well."
    ),
]
UtilityOption = Annotated[
    str | None,
    typer.Option(
        help="Tasks of lm-eval, comma-separated (`arc_easy,hellaswag`), YAML files or folders of your own; "
        "each is a column more. Needs `.[lm-eval]`."
    ),
]
LrOption = Annotated[float | None, typer.Option(help="Constant learning rate; else the task's.")]
EpochsOption = Annotated[
    int | None, typer.Option(help="Passes over the texts to learn or to forget; else the task's.")
]
BatchOption = Annotated[
    int | None, typer.Option(help="Rows to learn or to forget in a step; else the task's.")
]
MaxLenOption = Annotated[int | None, typer.Option(help="Tokens of a row; else the task's.")]
LambdaOption = Annotated[
    float | None, typer.Option("--lambda", help="λ, weight of the retain term; else the task's.")
]
RankFlaggedOption = Annotated[
    bool, typer.Option("--rank-flagged", help="A composite ranks collapsed and degenerate models too.")
]
PresetOption = Annotated[
    str | None, typer.Option(help="One of `muse-eval list presets`; over the task's values.")
]
LoraOption = Annotated[
    str | None,
    typer.Option(
        help="Train low-rank adapters alone: `r=16`, and if you like `alpha=32`, `dropout=0.0`, "
        "`targets=q_proj+v_proj` (else every linear layer)."
    ),
]
MicroBatchOption = Annotated[int | None, typer.Option(help="Rows in memory at a time.")]
CheckpointingOption = Annotated[
    bool | None,
    typer.Option(
        "--gradient-checkpointing/--no-gradient-checkpointing",
        help="Less memory for more time; else where it is needed, on a GPU.",
    ),
]
OptimOption = Annotated[
    str | None,
    typer.Option(help="adamw, or adamw_8bit (bitsandbytes): less memory; else, on a GPU, what fits."),
]
ReportOption = Annotated[str | None, typer.Option(help="Also send the log to tensorboard, trackio or wandb.")]
KeepOption = Annotated[bool, typer.Option("--keep-checkpoints", help="Keep each epoch's model.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a result that other settings made.")
]
PickleOption = Annotated[
    bool, typer.Option("--allow-pickle", help="Load pickled weights, which can run code.")
]
CodeOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the code that a model repository carries.")
]


def given(options: Mapping[str, Any], *own: str) -> dict[str, Any]:
    """Return a verb's options by name as the Python face takes them, without what is the verb's own.

    Columns and ``--set`` are read.

    Raises:
        UserError: one of them is not written as it should be.
    """
    from muse_eval.config import parse_settings

    kept = {name: value for name, value in options.items() if name not in own}
    if "metrics" in kept:
        kept["metrics"] = split(kept["metrics"], "--metrics")
    if "utility" in kept:
        kept["utility"] = split(kept["utility"], "--utility")
    if "settings" in kept:
        kept["settings"] = parse_settings(kept["settings"] or [])
    return kept


def split(names: str | None, option: str) -> tuple[str, ...]:
    """Split a comma-separated option; empty only where it was not given."""
    found = tuple(name.strip() for name in (names or "").split(",") if name.strip())
    if names is not None and not found:
        raise UserError(f"{option} {names!r} names nothing; give names, comma-separated, or leave it out")
    return found


def note(message: str) -> None:
    """Print a decision on standard error."""
    say(message)


def warn(message: str) -> None:
    """Print a warning on standard error."""
    say(f"warning: {message}")


def located(path: Path) -> Path:
    """Return where a file lies that the project has one of as well, and say so where it is the project's."""
    from muse_eval.results import locate

    found = locate(path)
    if found != path:
        note(f"{path} is not there; reading the project's own, {found}")
    return found
