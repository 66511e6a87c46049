"""Whether a pipeline keeps each epoch's weights unasked, so that ``--select`` later needs no unlearning."""

import shutil
from pathlib import Path
from typing import Any

from muse_eval import plugins
from muse_eval.config import TaskSpec
from muse_eval.folders import nearest
from muse_eval.pipelines.config import PipelineConfig, configured, run_names
from muse_eval.unlearning import cards
from muse_eval.unlearning.training import output

MOST = 1_000_000_000
"""Bytes that all epochs of a pipeline may take together to be kept unasked …"""
SHARE = 0.1
"""… and the share of the free disk."""


def space(config: PipelineConfig, task: TaskSpec, target: str) -> int:
    """Return the bytes that all epochs' float32 weights of all unlearned models take; 0: one epoch each.

    Raises:
        UserError: the target cannot be found, or cannot be trained.
    """
    forget_sets = len(task.forget_sets.forget) if task.forget_sets else 1
    epochs = [configured(config, task, name).epochs for name in config.methods if plugins.leaves_epochs(name)]
    kept = sum(count for count in epochs if count > 1) * forget_sets
    return kept * _parameters(config, target) * 4 if kept else 0


def _parameters(config: PipelineConfig, model: str) -> int:
    from safetensors import safe_open

    from muse_eval.engines.checkpoint import find_checkpoint

    found = find_checkpoint(
        model, allow_pickle=config.allow_pickle, trust_remote_code=config.trust_remote_code
    )
    count = 0
    for path in found.weights:
        if path.suffix == ".bin":
            # What is pickled is not looked into; at 2 bytes a parameter it is not underrated.
            count += path.stat().st_size // 2
            continue
        with safe_open(path, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118 - a file, not a mapping
                size = 1
                for side in weights.get_slice(name).get_shape():
                    size *= side
                count += size
    return count


def is_cheap(num_bytes: int, folder: Path) -> bool:
    """Say whether so much may be kept below a folder unasked."""
    return num_bytes <= min(MOST, SHARE * shutil.disk_usage(nearest(folder)).free)


def can_keep(out: Path, lora: Any) -> bool:
    """Say whether an unlearning can leave all its epochs: it is new, or was begun with all of them kept."""
    if out.exists():
        return (out / output.CHECKPOINTS).is_dir()
    found = output.checkpoints(output.partial(out))
    begun = [checkpoint for checkpoint in found if (checkpoint / output.COMPLETE).exists()]
    if not begun:
        return True
    state = cards.read_json(begun[-1] / output.STATE) or {}
    epoch = state.get("epoch")
    all_there = isinstance(epoch, int | float) and len(begun) == round(epoch)
    return all_there and not (lora and not (begun[-1] / output.MERGED).is_dir())


def forecast(config: PipelineConfig, task: TaskSpec, num_bytes: int) -> str:
    """Say before training that epochs will not be kept, what would keep them and what that takes.

    Empty where no unlearning is left to do.
    """
    home = config.results / "models" / task.name
    if all((home / name).exists() for name in run_names(config, task)) and not config.overwrite:
        return ""
    return (
        "only each unlearning's last epoch will be kept: choosing another with --select later means "
        f"unlearning again. All epochs would take {num_bytes / 1e9:,.0f} GB: --keep-checkpoints keeps them, "
        "--trajectory scores them and keeps those that a rule selects"
    )
