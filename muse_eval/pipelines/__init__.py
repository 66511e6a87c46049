"""From a target to the table of its unlearned models: every stage skipped where its result is there."""

from muse_eval.pipelines.config import METHODS, ComparisonConfig, PipelineConfig, check, other_seed, run_names
from muse_eval.pipelines.epochs import CSV, FIGURE
from muse_eval.pipelines.stages import pipeline, references

__all__ = [
    "CSV",
    "FIGURE",
    "METHODS",
    "ComparisonConfig",
    "PipelineConfig",
    "check",
    "other_seed",
    "pipeline",
    "references",
    "run_names",
]
