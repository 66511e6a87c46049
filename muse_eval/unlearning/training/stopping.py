"""When a checkpoint is saved, and what of training is in it."""

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback


class SaveAt(TrainerCallback):
    """Asks for a checkpoint after each of some optimiser steps, in the place of one after each epoch."""

    def __init__(self, stops: Sequence[int]) -> None:
        self.stops = frozenset(stops)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Have a checkpoint saved where the step is one of them."""
        if state.global_step in self.stops:
            control.should_save = True


class LastWithoutStates(TrainerCallback):
    """Has the last checkpoint hold weights alone: no step follows that would need the optimiser's states."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Tell the trainer before it saves."""
        args.save_only_model = state.global_step >= state.max_steps
