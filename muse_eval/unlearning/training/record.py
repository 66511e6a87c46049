"""How a recipe was carried out, as ``unlearn.json`` says it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from muse_eval import provenance
from muse_eval.config import fingerprint
from muse_eval.unlearning import rows
from muse_eval.unlearning.recipe import UnlearnConfig
from muse_eval.unlearning.training import output
from muse_eval.unlearning.training.learner import Unlearner
from muse_eval.unlearning.training.start import device_name

EXTRAS = ("peft", "bitsandbytes")
"""Packages that shape the weights where they are used."""


def write_card(
    config: UnlearnConfig, recipe: Mapping[str, Any], trainer: Unlearner, folder: Path
) -> dict[str, Any]:
    """Describe how the recipe was carried out: ``unlearn.json``."""
    log = output.read_log(folder / output.LOG)
    args = trainer.args
    pairs = cast(rows.Pairs, trainer.train_dataset)
    return {
        "schema_version": 1,
        "fingerprint": fingerprint(recipe),
        **recipe,
        "config": config.model_dump(mode="json", by_alias=True),
        "rows": {"forget": len(pairs.forget), "retain": len(pairs.retain)},
        "tokens": {"forget": sum(map(len, pairs.forget)), "retain": sum(map(len, pairs.retain))},
        "steps": trainer.state.global_step,
        "batches": {
            "micro": args.per_device_train_batch_size,
            "accumulated": args.gradient_accumulation_steps,
            "devices": args.world_size,
            "sharded": trainer.is_fsdp_enabled,
        },
        "device": device_name(args),
        "versions": provenance.versions(*EXTRAS),
        "commit": provenance.git_commit(),
        "seconds": sum(line["seconds"] for line in log),
    }
