"""What part each process's rows have in an optimiser step, so that the step is one mean over all of them."""

from typing import Any

import torch
from transformers import Trainer


def share_out(trainer: Trainer, batches: list[dict[str, Any]]) -> float:
    """Give each micro-batch of a step its ``share`` of it, and return the step's rows a process.

    The gradient is the mean over processes of the sums over their micro-batches; with these shares, that is
    the mean over the step's rows. Where an epoch's rows do not fill its last step, accelerate fills up the
    later processes with rows from the epoch's start: these are cut off again. A process left with none keeps
    one, with share 0, since all have to run the model equally often.
    """
    counts = [len(batch["forget"]["labels"]) for batch in batches]
    state = trainer.accelerator.gradient_state
    if batches and state.end_of_dataloader and state.remainder > 0:
        before = trainer.args.process_index * trainer.args.per_device_train_batch_size
        counts[-1] = min(counts[-1], max(0, state.remainder - before))
        batches[-1] = first_rows(batches[-1], max(1, counts[-1]))
    own = torch.tensor(float(sum(counts)), device=trainer.args.device)
    rows = float(trainer.accelerator.reduce(own, reduction="mean"))
    for batch, count in zip(batches, counts, strict=True):
        batch["share"] = count / rows
    return rows


def first_rows(batch: dict[str, Any], count: int) -> dict[str, Any]:
    """Keep the first rows of all that a batch holds."""
    return {
        name: first_rows(part, count) if isinstance(part, dict) else part[:count]
        for name, part in batch.items()
    }
