"""A copy of the log in TensorBoard, trackio or Weights & Biases, through the Trainer's own callbacks.

It shapes no weight, so it is no part of the recipe. What is written lies in the output folder.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from muse_eval.errors import UserError
from muse_eval.unlearning.learner import Journal

PLACES = {"tensorboard": "TENSORBOARD_LOGGING_DIR", "trackio": "TRACKIO_DIR", "wandb": "WANDB_DIR"}
"""Each service with the environment variable that says where it writes."""
FOLDER = "reports"


def check_installed(service: str) -> None:
    """Raise ``UserError`` where a service's package is missing."""
    if find_spec(service) is None:
        raise UserError(
            f"--report-to {service} needs the package {service}; install it: pip install {service}"
        )


@contextmanager
def reporting(trainer: Trainer, service: str | None, journal: Journal, folder: Path) -> Iterator[None]:
    """Report every step to a service within the block; a place that the environment names goes first."""
    if service is None:
        yield
        return
    place = folder / FOLDER / service
    place.mkdir(parents=True, exist_ok=True)
    unset = PLACES[service] not in os.environ
    os.environ.setdefault(PLACES[service], str(place))
    try:
        trainer.add_callback(Parts(journal))
        for callback in get_reporting_integration_callbacks(service):
            trainer.add_callback(callback)
        trainer.add_callback(Finish(service))
        yield
    finally:
        if unset:
            del os.environ[PLACES[service]]


class Parts(TrainerCallback):
    """Adds to what is reported of a step the parts of its loss."""

    def __init__(self, journal: Journal):
        self.journal = journal

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Add the forget loss and, where there is a retain term, the retain loss."""
        if "loss" in given["logs"]:  # not in the summary at the end of training
            given["logs"]["forget_loss"] = self.journal.forget_loss
            if self.journal.trainer.retains:
                given["logs"]["retain_loss"] = self.journal.retain_loss


class Finish(TrainerCallback):
    """Ends a run of Weights & Biases with the training, since the folder it writes to is moved then."""

    def __init__(self, service: str):
        self.service = service

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Wait until all is written."""
        if self.service == "wandb" and state.is_world_process_zero:
            import wandb

            wandb.finish()
