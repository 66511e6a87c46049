"""Lets go of what a training held, so that what follows in the same process meets an empty device.

A trainer and its callbacks hold each other, accelerate keeps a list of all it prepared, a scheduler wraps the
optimiser's own method, and a model whose forward was wrapped holds itself. Each of these rings would keep
weights, gradients and states until Python looks for rings, which may be after the next model is loaded.
"""

import gc
import traceback

import torch
from torch import nn
from transformers import Trainer


def let_go(trainer: Trainer) -> None:
    """Cut a trainer's ties to model, gradients and optimiser; only what it logged and its settings stay.

    A model that someone else holds is left without gradients and with the forward that it came with.
    """
    if isinstance(trainer.model, nn.Module):
        _unwrap(trainer.model)
    if trainer.optimizer is not None:
        trainer.optimizer.state.clear()
        trainer.optimizer.param_groups.clear()
    known = trainer.accelerator
    for prepared in (known._models, known._optimizers, known._schedulers, known._dataloaders):
        prepared.clear()
    handler = trainer.callback_handler
    handler.callbacks.clear()
    for name in ("model", "optimizer", "lr_scheduler", "train_dataloader"):
        setattr(handler, name, None)
    for name in ("model", "model_wrapped", "frozen", "optimizer", "lr_scheduler"):
        setattr(trainer, name, None)


def _unwrap(model: nn.Module) -> None:
    """Drop a model's gradients and undo accelerate's wrapping, by which its forward holds the model."""
    model.zero_grad(set_to_none=True)
    own = vars(model)
    original = own.pop("_original_forward", None)
    if original is None:
        return
    if getattr(original, "__func__", None) is type(model).forward:
        del own["forward"]
    else:
        own["forward"] = original


def forget_frames(error: BaseException | None) -> None:
    """Empty the finished calls that an error came through: whoever keeps the error kept all they held."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def empty_device() -> None:
    """Give a GPU's memory back that no tensor takes any more; without a GPU there is none to give back."""
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
