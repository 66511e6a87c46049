"""From a target to the table of its unlearned models: every stage skipped where its result is there."""

from muse_eval.pipelines.config import METHODS, PipelineConfig, check, other_seed, run_config, run_names
from muse_eval.pipelines.epochs import CSV, FIGURE
from muse_eval.pipelines.stages import pipeline, references

__all__ = [
    "CSV",
    "FIGURE",
    "METHODS",
    "PipelineConfig",
    "check",
    "other_seed",
    "pipeline",
    "references",
    "run_config",
    "run_names",
]
