"""The verb ``tune``: many settings of one method, ranked."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_eval.cli.options import (
    BatchOption,
    CheckpointingOption,
    CodeOption,
    DataOption,
    DtypeOption,
    EngineOption,
    EpochsOption,
    LambdaOption,
    LoraOption,
    LrOption,
    MethodOption,
    MicroBatchOption,
    OwnRetrainOption,
    OwnTargetOption,
    PickleOption,
    PresetOption,
    QuietOption,
    RankFlaggedOption,
    ResultsOption,
    SetOption,
    TaskNameOption,
    TokenizerOption,
    TrainingDtypeOption,
    TruncateOption,
    given,
    note,
    warn,
)
from muse_eval.errors import UserError
from muse_eval.printable import console

if TYPE_CHECKING:
    from muse_eval.tuning import Tuned


def tune(
    method: MethodOption,
    task: TaskNameOption,
    grid: Annotated[
        list[str],
        typer.Option(
            help="`NAME=V1:V2,NAME=V1:V2`, or `NAME=LOW..HIGH` with --trials: a parameter of the method, "
            "lr, epochs, batch_size or lambda; repeatable."
        ),
    ],
    target: OwnTargetOption = None,
    retrain: OwnRetrainOption = None,
    composite: Annotated[str, typer.Option(help="What ranks the trials: balance or harmonic.")] = "balance",
    rank_flagged: RankFlaggedOption = False,
    trials: Annotated[
        int | None, typer.Option(help="Sample so many settings (TPE) instead of the whole grid.")
    ] = None,
    data_dir: DataOption = None,
    tokenizer: TokenizerOption = None,
    results: ResultsOption = Path("results"),
    engine: EngineOption = "auto",
    dtype: DtypeOption = "auto",
    training_dtype: TrainingDtypeOption = "auto",
    preset: PresetOption = None,
    lr: LrOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    lambda_: LambdaOption = None,
    micro_batch_size: MicroBatchOption = None,
    gradient_checkpointing: CheckpointingOption = None,
    lora: LoraOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the intervals and of --trials.")] = 0,
    settings: SetOption = None,
    truncate: TruncateOption = False,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep every trial's weights, not the best one's alone.")
    ] = False,
    allow_pickle: PickleOption = False,
    trust_remote_code: CodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Unlearn with many settings of a method, score each, rank them; what is there is not done again.

    Exit code 2 where every trial failed; one that fails is named, and the others go on.

    Example: `muse-eval tune --method simnpo_gdr --task muse_mini --grid beta=0.1:0.7,lr=2e-4:5e-4`
    """
    options = given(locals(), "quiet")
    from muse_eval import api
    from muse_eval.progress import display

    with display(quiet) as progress:
        tuned = api.tune(**options, stage=progress.stage, progress=progress, warn=warn)
    _print(tuned)


def _print(tuned: "Tuned") -> None:
    """Print the trials that were scored, how to read and how to repeat them, and those that failed.

    Raises:
        UserError: none was scored.
    """
    from muse_eval.tuning import label

    scored = [trial for trial in tuned.trials if trial.result is not None]
    if scored:
        _print_scored(tuned)
    for trial in tuned.trials[len(scored) :]:
        note(f"failed: {label(trial.point)}: {trial.failure}")
    if not scored:
        raise UserError(f"every trial failed; their logs are in {tuned.folder}")


def _print_scored(tuned: "Tuned") -> None:
    from muse_eval.results import draw
    from muse_eval.results.degenerate import broken
    from muse_eval.tuning import table

    print(f"{tuned.task.title} (± half of the 95 % interval)")
    console(width=130).print(draw(table(tuned)))
    print(
        f"{tuned.composite} ranks on the evaluation data itself, which is selection on the test set: "
        "the best one's numbers are optimistic"
    )
    if tuned.best is None and any(broken(trial.flags) for trial in tuned.trials):
        print(
            "none is ranked: every model is collapsed or degenerate; --rank-flagged ranks them all the same"
        )
    if tuned.best:
        gone = "its weights are gone, dropped where another grid or composite ranked it lower"
        print(f"best model: {tuned.model or gone}")
        print(f"to make it again: {tuned.command}")
    print(f"evidence: {tuned.folder}/TRIAL/result.json; all trials: {tuned.folder}/trials.csv")
    sys.stdout.flush()
