"""Many models in one command, each scored in a process of its own, here or on a Ray cluster."""

from muse_eval.sweeps.models import read_models

__all__ = ["read_models"]
