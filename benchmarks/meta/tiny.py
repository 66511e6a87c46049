"""The smallest plan that runs every line: models that know nothing, and figures that mean nothing."""

from dataclasses import replace
from pathlib import Path

from benchmarks.meta.plan import Plan
from muse_eval.mini.recipe import RECIPE, Mix, Stage

RECIPE_TINY = replace(
    RECIPE,
    vocab_size=600,
    hidden_size=32,
    layers=1,
    heads=2,
    intermediate_size=64,
    warmup=2,
    shared=Stage(3, 4e-3, 0.3, Mix(base=2, base_cards=1)),
    retrain=Stage(2, 3e-3, 0.1, Mix(retain=2)),
    target=Stage(2, 3e-3, 0.1, Mix(retain=1, forget=2, forget_cards=1)),
)


def tiny(home: Path, models: int | None) -> Plan:
    """Return the plan: two worlds and one method unless more models are asked for."""
    return Plan(
        home,
        models or 2,
        recipe=RECIPE_TINY,
        targets=(RECIPE_TINY.target,),
        retrains=(replace(RECIPE_TINY.retrain, steps=3),),
        methods=("npo_gdr",),
        unlearning={"max_len": 64, "epochs": 1, "batch_size": 64},
        relearning=1,
        limit=4,
    )
