"""What transformers' Trainer is given for a recipe."""

import os
from pathlib import Path

import torch
from transformers import TrainingArguments

from muse_eval.errors import UserError
from muse_eval.unlearning.recipe import UnlearnConfig
from muse_eval.unlearning.training import output

MOST = 4
"""Rows in memory at a time on a GPU, unless more are asked for."""


def optimizer_name(optim: str, on_gpu: bool) -> str:
    """Return what transformers' Trainer calls an optimiser.

    On a GPU AdamW is fused: what torch takes there by default makes a temporary copy of all the weights at
    each step. On a CPU it stays what it always was, to the bit.
    """
    if optim == "adamw_8bit":
        return "adamw_bnb_8bit"
    return "adamw_torch_fused" if on_gpu else "adamw_torch"


def micro_batches(config: UnlearnConfig, devices: int) -> list[int]:
    """Return how many rows may be in memory at a time on a GPU, the most first."""
    share = config.batch_size // devices
    return [size for size in range(min(share, MOST), 0, -1) if share % size == 0]


def split_batch(config: UnlearnConfig, devices: int, on_gpu: bool) -> tuple[int, int]:
    """Return (micro-batch a device, micro-batches accumulated) that make up the batch.

    Raises:
        UserError: the batch cannot be divided so.
    """
    share, rest = divmod(config.batch_size, devices)
    if rest:
        raise UserError(f"--batch-size {config.batch_size} is no multiple of the {devices} processes")
    micro = config.micro_batch_size or (micro_batches(config, devices)[0] if on_gpu else share)
    if share % micro:
        raise UserError(f"--micro-batch-size {micro} does not divide the {share} rows a device and step")
    return micro, share // micro


def arguments(config: UnlearnConfig, folder: Path, dtype: str) -> TrainingArguments:
    """Translate for transformers' Trainer: AdamW without decay, constant lr, gradients clipped at 1."""
    on_gpu = torch.cuda.is_available()
    # Else accelerate's own settings would decide what the recipe says.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if dtype == "mixed" else "no"
    micro, accumulate = split_batch(config, int(os.environ.get("WORLD_SIZE", "1")), on_gpu)
    args = TrainingArguments(
        output_dir=str(folder / output.CHECKPOINTS),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulate,
        learning_rate=config.lr,
        lr_scheduler_type="constant",
        optim=optimizer_name(config.optim, on_gpu),
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=dtype == "mixed",
        use_cpu=not torch.accelerator.is_available(),
        gradient_checkpointing=bool(config.gradient_checkpointing),
        ddp_find_unused_parameters=False,
        seed=config.seed,
        data_seed=config.seed,
        max_steps=config.stops[-1] if config.stops else -1,
        save_strategy="no" if config.stops else "epoch",  # see stopping
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",  # see reports
        project="muse-eval",
        run_name=folder.name.removesuffix(".partial"),
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
    )
    # Trainer would spread one process over all visible GPUs (DataParallel), a pair's halves with it;
    # several GPUs are used by starting one process each (accelerate launch).
    args._n_gpu = min(args.n_gpu, 1)
    return args
