"""What of a recipe will not do on this machine, found before its target is opened."""

import os
from importlib.util import find_spec

import torch

from muse_eval import plugins
from muse_eval.errors import UserError
from muse_eval.types import ActivationMethod
from muse_eval.unlearning.recipe import UnlearnConfig
from muse_eval.unlearning.training import adapters, processes, reports
from muse_eval.unlearning.training.arguments import split_batch


def check_feasible(config: UnlearnConfig) -> None:
    """Refuse a recipe that would fail whatever its model and texts are.

    Raises:
        UserError: a package is missing, the batch cannot be divided, adapters or a model's own code do not
            go with the method, or the launch will not do.
    """
    _check_packages(config)
    processes.check_launch(config)
    split_batch(config, int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.is_available())
    _, method, _ = plugins.method(config.method)
    if config.lora and isinstance(method, ActivationMethod):
        raise UserError(f"method {config.method} trains weights of its own choice; leave --lora out")
    if config.trust_remote_code and not plugins.leaves_epochs(config.method):
        raise UserError(
            f"{config.method} cannot put together models that carry code of their own; use another"
        )


def _check_packages(config: UnlearnConfig) -> None:
    if config.lora:
        adapters.check_installed()
    if config.optim == "adamw_8bit" and find_spec("bitsandbytes") is None:
        raise UserError("--optim adamw_8bit needs bitsandbytes; in the checkout, pip install '.[bnb]'")
    if config.report_to:
        reports.check_installed(config.report_to)
