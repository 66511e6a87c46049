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

from muse_eval.errors import UserError, first_line
from muse_eval.unlearning.training.learner import Journal

FOLDER = "reports"


def surroundings(service: str, folder: Path) -> dict[str, str]:
    """Return the environment variables by which a service learns where it writes, and under what name."""
    home = folder / FOLDER
    known = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(home / "tensorboard")},
        "trackio": {"TRACKIO_DIR": str(home / "trackio")},
        "wandb": {"WANDB_DIR": str(home), "WANDB_PROJECT": "muse-eval"},
    }
    return known[service]


def check_installed(service: str) -> None:
    """Raise ``UserError`` where a service's package is missing."""
    if find_spec(service) is None:
        how = f"in the checkout, pip install '.[{service}]'"
        raise UserError(f"--report-to {service} needs the package {service}; {how}")


@contextmanager
def reporting(trainer: Trainer, service: str | None, journal: Journal, folder: Path) -> Iterator[None]:
    """Report every step to a service within the block; what the user's environment says goes first.

    Raises:
        UserError: the service refuses, for example without a login.
    """
    if service is None:
        yield
        return
    added = {k: v for k, v in surroundings(service, folder).items() if k not in os.environ}
    (folder / FOLDER).mkdir(exist_ok=True)
    os.environ.update(added)
    try:
        trainer.add_callback(Parts(journal))
        for callback in get_reporting_integration_callbacks(service):
            trainer.add_callback(callback)
        trainer.add_callback(Finish(service))
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != service:
            raise
        raise UserError(f"--report-to {service}: {first_line(error)}") from error
    finally:
        for name in added:
            del os.environ[name]


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
