"""The verb ``finetune``: target and retrain model from a base model."""

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
    LoraOption,
    LrOption,
    MaxLenOption,
    MicroBatchOption,
    ModelOption,
    OptimOption,
    OverwriteOption,
    PickleOption,
    QuietOption,
    ReportOption,
    RowSeedOption,
    TaskNameOption,
    TokenizerOption,
    UnlearnDtypeOption,
    given,
    note,
    split,
    warn,
)
from muse_eval.cli.unlearn import leave, one_voice, rank


def finetune(
    role: Annotated[str, typer.Option(help="target (forget and retain texts) or retrain (retain texts).")],
    model: ModelOption,
    task: TaskNameOption,
    out: Annotated[Path, typer.Option(help="Folder to make for the model.")],
    reads: Annotated[
        str | None, typer.Option(help="Splits to read, comma-separated (`raw/forget`); else the task's.")
    ] = None,
    data_dir: DataOption = None,
    tokenizer: TokenizerOption = None,
    lr: LrOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    micro_batch_size: MicroBatchOption = None,
    max_len: MaxLenOption = None,
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
    """Make a task's target or retrain model from a base model.

    Example: `muse-eval finetune --role target --model meta-llama/Llama-2-7b-hf --task muse_news --out target`
    """
    options = given(locals(), "reads", "quiet")
    from muse_eval import api
    from muse_eval.progress import display, in_order
    from muse_eval.types import ignore

    with one_voice(), display(quiet or rank() > 0) as progress:
        made = api.finetune(
            **options,
            reads=split(reads, "--reads"),
            progress=progress,
            log=progress.losses,
            warn=ignore if rank() else in_order(progress, warn),
            note=ignore if rank() else in_order(progress, note),
            tell=progress.tell,
        )
    if not rank():
        print(f"{role} model: {made} (its recipe: {made}/finetune.json)")
    leave()
