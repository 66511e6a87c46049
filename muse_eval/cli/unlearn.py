"""The verb ``unlearn``: an unlearned model from a target, in one process or in several."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from muse_eval.cli.options import (
    BatchOption,
    CheckpointingOption,
    CodeOption,
    DataOption,
    EpochsOption,
    KeepOption,
    LambdaOption,
    LoraOption,
    LrOption,
    MaxLenOption,
    MethodOption,
    MicroBatchOption,
    OptimOption,
    OverwriteOption,
    PickleOption,
    PresetOption,
    QuietOption,
    ReportOption,
    RowSeedOption,
    TargetOption,
    TaskNameOption,
    TokenizerOption,
    UnlearnDtypeOption,
    given,
    note,
)
from muse_eval.errors import LocalError, UserError

GRACE = 30.0
"""Seconds after which a process tells of an error although it is not the first."""


def unlearn(
    method: MethodOption,
    target: TargetOption,
    task: TaskNameOption,
    out: Annotated[Path, typer.Option(help="Folder to make for the unlearned model.")],
    data_dir: DataOption = None,
    tokenizer: TokenizerOption = None,
    preset: PresetOption = None,
    lr: LrOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    micro_batch_size: MicroBatchOption = None,
    max_len: MaxLenOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter of the method: `beta=0.7`; repeatable (docs/methods.md)."),
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Short for `--set beta=…`.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Short for `--set gamma=…`.")] = None,
    lambda_: LambdaOption = None,
    seed: RowSeedOption = 0,
    dtype: UnlearnDtypeOption = "auto",
    gradient_checkpointing: CheckpointingOption = None,
    lora: LoraOption = None,
    optim: OptimOption = None,
    report_to: ReportOption = None,
    keep_checkpoints: KeepOption = False,
    overwrite: OverwriteOption = False,
    allow_pickle: PickleOption = False,
    trust_remote_code: CodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make an unlearned model from a target.

    Example: `muse-eval unlearn --method simnpo_gdr --target muse-bench/MUSE-Books_target --task muse_books
    --out simnpo-books`
    """
    options = given(locals(), "target", "settings", "beta", "gamma", "quiet")
    from muse_eval import api
    from muse_eval.config import parse_pairs
    from muse_eval.progress import display
    from muse_eval.types import ignore

    short = {name: value for name, value in {"beta": beta, "gamma": gamma}.items() if value is not None}
    params = parse_pairs(settings or [], "NAME=VALUE")
    if twice := short.keys() & params.keys():
        raise UserError(f"--set {min(twice)} is given twice; leave --{min(twice)} out")
    with one_voice(), display(quiet or rank() > 0) as progress:
        made = api.unlearn(
            target,
            **options,
            params=params | short,
            progress=progress,
            log=progress.losses,
            note=ignore if rank() else note,
            tell=progress.tell,
        )
    if not rank():
        print(f"unlearned model: {made} (its recipe: {made}/unlearn.json)")
    leave()


def several() -> bool:
    """Tell whether this is one of several processes (``accelerate launch``)."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def rank() -> int:
    """Return which of them this is; 0 tells what all would."""
    return int(os.environ.get("RANK", "0")) if several() else 0


def leave() -> None:
    """End the processes' ties, where there are several."""
    if several():
        from muse_eval.unlearning.training import processes

        processes.leave()


@contextmanager
def one_voice() -> Iterator[None]:
    """Let the first of several processes tell of an error that all of them have."""
    try:
        yield
    except UserError as error:
        if not rank():
            raise
        if not isinstance(error, LocalError):
            # The first process has it as well; when it has told of it, the launcher ends this one.
            time.sleep(GRACE)
        raise UserError(f"process {rank()}: {error}") from error
    except Exception:
        if rank():
            # As a rule another process is gone and this one lost its connection: that one tells why.
            time.sleep(GRACE)
        raise
