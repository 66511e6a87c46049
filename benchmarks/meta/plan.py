"""What is made and scored: models with and without the forget knowledge, and unlearned ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from muse_eval.config import fingerprint
from muse_eval.mini.recipe import RECIPE, Recipe, Stage, recipe_fingerprint
from muse_eval.own_code import code_digest
from muse_eval.probes.quantize import Scheme

Group = Literal["with", "without", "retrain", "unlearned"]
AS_RECIPE = "recipe"
"""What a model is called that was made as the recipe has it."""
KEY = 12
CODE = ("scoring", "unlearning", "probes/relearn.py", "probes/quantize.py", "probing/subject.py")
"""What computes scores and altered models."""
METRICS = ("+extraction", "+exact", "+fluency")
SETTINGS = {"privleak.lower": True, "privleak.reference": True, "privleak.gradnorm": True}
"""Every attack there is."""
METHODS = ("npo_gdr", "simnpo_gdr", "ga_gdr")
"""Those of MUSE and SimNPO that keep the retain knowledge, with the task's own settings."""
SCHEME: Scheme = "int4"

TARGETS = (
    RECIPE.target,
    replace(RECIPE.target, steps=95, lr=2e-3),
    replace(RECIPE.target, steps=48),
    replace(RECIPE.target, steps=24),
    replace(RECIPE.target, steps=12),
)
"""With the knowledge, from text known by heart to text of which the half was read once; the first is the
recipe's own."""
RETRAINS = (
    replace(RECIPE.retrain, steps=40),
    replace(RECIPE.retrain, steps=120),
    replace(RECIPE.retrain, steps=160),
    replace(RECIPE.retrain, lr=2e-3),
    replace(RECIPE.retrain, lr=8e-3),
)
"""Without: around the recipe's own, which is the reference and so cannot be judged by it."""
ENOUGH = 20
"""Models with the knowledge, and as many without, before anything is published."""
WORLDS = 5

# CPU seconds on a quiet core; they only tell how long it will take.
STEP_ROW, SCORING, UNLEARNING, RELEARNING, QUANTIZING = 0.03, 21.0, 23.0, 8.0, 3.0


@dataclass(frozen=True)
class Job:
    """One piece of work, which a process does alone."""

    group: Group
    seed: int
    made: str
    """How the model is made: ``recipe``, ``95 steps at 0.002``, or a method."""
    stage: Stage | None = None
    """Of its training; None of an unlearned one."""

    @property
    def says(self) -> str:
        """What it is called while it is done."""
        return f"world {self.seed}, {self.group}: {self.made}"


@dataclass(frozen=True)
class Plan:
    """Everything that decides the numbers, and where they go."""

    home: Path
    models: int = WORLDS * len(TARGETS)
    """With the knowledge, and as many without."""
    recipe: Recipe = RECIPE
    targets: tuple[Stage, ...] = TARGETS
    """The first is the recipe's own."""
    retrains: tuple[Stage, ...] = RETRAINS
    methods: tuple[str, ...] = METHODS
    unlearning: Mapping[str, Any] = field(default_factory=dict)
    """Options of every unlearning that differ from the task's."""
    relearning: int = 29
    """Steps of four forget texts: once through all of them."""
    limit: int | None = None
    """Examples of a split that are scored; None: all."""

    @property
    def seeds(self) -> range:
        """The worlds."""
        most = max(len(self.targets), len(self.retrains))
        return range(-(-self.models // most))

    def jobs(self) -> list[Job]:
        """Return all there is to do; what continues another stands behind it."""
        retrains = [Job("retrain", seed, AS_RECIPE, self.recipe.retrain) for seed in self.seeds]
        sides: list[tuple[Group, Sequence[Stage]]] = [("with", self.targets), ("without", self.retrains)]
        trained = [
            job
            for group, stages in sides
            for job in [
                Job(group, seed, self.named(stage), stage) for seed in self.seeds for stage in stages
            ][: self.models]
        ]
        unlearned = [Job("unlearned", seed, method) for seed in self.seeds for method in self.methods]
        return [*retrains, *trained, *unlearned]

    def needs(self, job: Job) -> Job | None:
        """Return the job that has to be done before."""
        if job.group == "retrain":
            return None
        if job.group == "unlearned":
            return Job("with", job.seed, AS_RECIPE, self.recipe.target)
        return Job("retrain", job.seed, AS_RECIPE, self.recipe.retrain)

    def cost(self, job: Job) -> float:
        """Return about how many CPU seconds a job takes on a quiet core."""
        if job.group == "unlearned":
            return UNLEARNING + RELEARNING + QUANTIZING + 3 * SCORING
        assert job.stage is not None
        own = training_cost(job.stage) + SCORING
        if job.group == "retrain":
            return own + training_cost(self.recipe.shared) + RELEARNING + SCORING
        return own

    def named(self, stage: Stage) -> str:
        """Say how a stage trains."""
        own = stage in (self.recipe.target, self.recipe.retrain)
        return AS_RECIPE if own else f"{stage.steps} steps at {stage.lr:g}"

    def recipe_of(self, job: Job) -> Recipe:
        """Return the recipe with a job's stage in the place of its own."""
        if job.stage is None:
            return self.recipe
        if job.group == "with":
            return replace(self.recipe, target=job.stage)
        return replace(self.recipe, retrain=job.stage)

    def model(self, job: Job) -> Path:
        """Return the folder of a job's model, named after all that it is made from."""
        home = self.home / "models" / task_of(job.seed)
        if job.group == "unlearned":
            return home / f"{job.made}-{self.key(job)}"
        name = "target" if job.group == "with" else "retrain"
        return home / _fingerprint(job.seed, self.recipe_of(job))[:KEY] / name

    def shared(self, seed: int) -> Path:
        """Return the folder of the model that all of a world continue."""
        return self.home / "models" / task_of(seed) / _fingerprint(seed, self.recipe)[:KEY] / "shared"

    def note(self, job: Job) -> Path:
        """Return the file of a job's scores."""
        return self.home / "notes" / f"{task_of(job.seed)}-{job.group}-{self.key(job)}.json"

    def key(self, job: Job) -> str:
        """Return what tells a job from any other: all that decides its scores."""
        code = [code_digest(name) for name in CODE]
        asked = [METRICS, SETTINGS, self.limit, self.relearning, SCHEME]
        how: list[Any] = [job.group, job.made, _fingerprint(job.seed, self.recipe_of(job))]
        if job.group == "unlearned":
            how += [dict(self.unlearning), _unlearning_of(job)]
        return fingerprint([code, asked, how])[:KEY]


def task_of(seed: int) -> str:
    """Return the name of a world's task."""
    return f"muse_mini-seed{seed}" if seed else "muse_mini"


def training_cost(stage: Stage) -> float:
    """Return about how many CPU seconds a stage of training takes on a quiet core."""
    mix = stage.mix
    rows = mix.base + mix.retain + mix.forget + mix.base_cards + mix.retain_cards + mix.forget_cards
    return STEP_ROW * stage.steps * rows


@cache
def _fingerprint(seed: int, recipe: Recipe) -> str:
    # It makes the whole world to take its digest.
    return recipe_fingerprint(seed, recipe)


def _unlearning_of(job: Job) -> Any:
    from muse_eval import plugins

    return plugins.task(task_of(job.seed)).unlearn.model_dump(mode="json")
