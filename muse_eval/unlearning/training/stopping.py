"""Checkpoints after chosen steps of one training, in the place of one after each epoch."""

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback


class SaveAt(TrainerCallback):
    """Asks for a checkpoint after each of some optimiser steps."""

    def __init__(self, stops: Sequence[int]) -> None:
        self.stops = frozenset(stops)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Have a checkpoint saved where the step is one of them."""
        if state.global_step in self.stops:
            control.should_save = True
