"""Is it gone, or hidden? A model and its controls under probes, scored at every strength and judged."""

from muse_eval.probing.config import BUDGETS, ProbeConfig
from muse_eval.probing.verb import probe

__all__ = ["BUDGETS", "ProbeConfig", "probe"]
