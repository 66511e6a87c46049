"""Many models in one command, each scored in a process of its own, here or on a Ray cluster."""

from muse_eval.sweeps.models import read_models
from muse_eval.sweeps.worker import Outcome

__all__ = ["Outcome", "read_models"]
