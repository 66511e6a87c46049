"""Several processes, one model: what they agree on, what is refused, how a frozen copy is sharded.

``accelerate launch`` starts one process a device and says through the environment whether each holds the
whole model (DDP) or a shard of it (FSDP); ``launch/*.yaml`` beside this module are its settings.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import PartialState
from accelerate.utils import fsdp2_prepare_model, gather_object
from torch.distributed.fsdp import FSDPModule
from transformers import Trainer

from muse_eval.errors import UserError
from muse_eval.unlearning.recipe import UnlearnConfig


def is_sharded() -> bool:
    """Tell whether accelerate was asked to shard the model (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def check_launch(config: UnlearnConfig) -> None:
    """Refuse what does not go together, before anything is loaded.

    Raises:
        UserError: half a launch; DeepSpeed; FSDP 1 or kept in shards; FSDP with LoRA or 8-bit states.
    """
    several = os.environ.get("WORLD_SIZE", "1")
    if several != "1" and not {"RANK", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys():
        raise UserError(
            f"WORLD_SIZE is {several}, but nothing says where the other processes are; start them with "
            "accelerate launch, or unset WORLD_SIZE"
        )
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        raise UserError("DeepSpeed is not supported; shard with FSDP: muse-eval list launch fsdp")
    if not is_sharded():
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError("FSDP 1 is not supported; set fsdp_version: 2, as muse-eval list launch fsdp does")
    if not os.environ.get("FSDP_STATE_DICT_TYPE", "").endswith("FULL_STATE_DICT"):
        raise UserError("FSDP would save shards, not models; set fsdp_state_dict_type: FULL_STATE_DICT")
    if config.lora:
        raise UserError("--lora and FSDP do not go together; launch with DDP: muse-eval list launch ddp")
    if config.optim not in ("auto", "adamw"):
        raise UserError(
            f"--optim {config.optim} and FSDP do not go together; leave it out, or launch with DDP"
        )


@contextmanager
def together() -> Iterator[None]:
    """Let an error of one process be the same error in all, so that none waits for another in vain.

    Within the block no process may wait for the others.

    Raises:
        UserError: that of the first process that had one.
    """
    mine: list[str | None] = [None]
    try:
        yield
    except UserError as error:
        mine = [str(error)]
        raised: UserError | None = error
    else:
        raised = None
    told = [error for error in gather_object(mine) if error is not None]
    if raised is not None and told[0] == mine[0]:
        raise raised
    if told:
        raise UserError(told[0])


def least(value: int) -> int:
    """Return the smallest of a number over all processes."""
    return int(min(gather_object([value])))


def leave() -> None:
    """End the processes' ties, all at once, where this process is about to end."""
    gc.collect()
    PartialState().destroy_process_group()


def settle(trainer: Any) -> None:
    """Check that a sharded launch came to shards, and shard the frozen copy as the model will be.

    Raises:
        UserError: accelerate went on without FSDP, as it does where it finds no GPU.
    """
    if not is_sharded():
        return
    if not trainer.is_fsdp_enabled:
        raise UserError(
            "FSDP shards over GPUs, and torch can use none here; launch with DDP: muse-eval list launch ddp"
        )
    if trainer.frozen is not None:
        frozen: FSDPModule = fsdp2_prepare_model(trainer.accelerator, trainer.frozen)
        # No backward pass comes to let go of what is gathered last.
        frozen.set_reshard_after_forward(True)
        trainer.frozen = frozen


def full_state(trainer: Trainer) -> dict[str, Any]:
    """Gather a sharded model's weights on the main process; tied weights are one tensor again."""
    state: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model)
    for name, source in getattr(trainer.model, "all_tied_weights_keys", {}).items():
        if name in state and source in state:
            state[name] = state[source]
    return state
