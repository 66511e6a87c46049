"""What one process does: makes the models of a job, scores them, and notes the scores."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.meta.plan import METRICS, SCHEME, SETTINGS, Job, Plan, task_of
from benchmarks.meta.readings import AUC, PRIVLEAK
from muse_eval import plugins
from muse_eval.api import unlearn
from muse_eval.config import RunConfig, fingerprint
from muse_eval.data import open_data
from muse_eval.errors import UserError
from muse_eval.folders import write_whole
from muse_eval.mini.train import make_model
from muse_eval.own_code import code_digest
from muse_eval.probes import quantize, relearn
from muse_eval.probing.subject import TaskSubject
from muse_eval.results import StoredResult, load, part, scores
from muse_eval.results.composites import COLUMNS, COMPOSITES, composite
from muse_eval.scoring.run import run
from muse_eval.types import ignore

Values = Mapping[str, float | None]
"""Score to value; None where it is undefined."""
NOW, RELEARNED, QUANTIZED = "now", "relearned", "quantized"
PAIR = "forget_holdout_"
"""Before an attack's name in a result: which splits it tells apart."""


def missing() -> str:
    """Say what the quantization needs and this machine has not; empty where that is nothing."""
    return quantize.lacks(quantize.Params(schemes=(SCHEME,)))


def start() -> None:
    """Have a process compute in one thread: several get in each other's way."""
    import torch

    torch.set_num_threads(1)


def do(plan: Plan, job: Job) -> float:
    """Do a job, unless its note is there; return the seconds it took."""
    began = time.perf_counter()
    note = plan.note(job)
    if not note.is_file():
        found = _states(plan, job)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps(found, indent=1) + "\n")
    return time.perf_counter() - began


def read(plan: Plan, job: Job) -> dict[str, Values]:
    """Return the scores of a job's model in each of its states, from its note."""
    found: dict[str, Values] = json.loads(plan.note(job).read_text(encoding="utf-8"))
    return found


def _states(plan: Plan, job: Job) -> dict[str, Values]:
    folder = _make(plan, job)
    now = _score(plan, job, folder, NOW)
    found = {NOW: values(now)}
    if job.group in ("retrain", "unlearned"):
        found[RELEARNED] = values(_score(plan, job, _relearned(plan, job, folder, now), RELEARNED))
    if job.group == "unlearned":
        found[QUANTIZED] = values(_score(plan, job, _quantized(plan, job, folder, now), QUANTIZED))
    return found


def _make(plan: Plan, job: Job) -> Path:
    """Make a job's model, unless it is there; the shared one of its world comes with the retrain model."""
    folder, recipe = plan.model(job), plan.recipe_of(job)
    if job.group == "unlearned":
        needed = plan.needs(job)
        assert needed is not None
        target = plan.model(needed)
        options = dict(plan.unlearning)
        return unlearn(target, task_of(job.seed), job.made, folder, progress=ignore, **options)
    shared = plan.shared(job.seed)
    if job.group == "retrain":
        make_model("shared", shared, None, seed=job.seed, recipe=plan.recipe)
    name = "target" if job.group == "with" else "retrain"
    return make_model(name, folder, shared, seed=job.seed, recipe=recipe)


def _score(plan: Plan, job: Job, folder: Path, state: str) -> StoredResult:
    """Score a model on everything; what is relative is so to its world's retrain model."""
    retrain = Job("retrain", job.seed, job.made, plan.recipe.retrain)
    wanted = RunConfig(
        model=str(folder),
        task=task_of(job.seed),
        engine="hf",
        dtype="float32",
        retrain=str(plan.model(retrain)),
        metrics=METRICS,
        name=f"{job.group}-{plan.key(job)}-{state}",
        limit=plan.limit,
        settings=SETTINGS,
        results=plan.home,
        overwrite=True,
    )
    found = load(run(wanted, reuse=True).folder)
    assert found is not None
    return found


def values(result: StoredResult) -> Values:
    """Return a run's columns, the AUC of each attack, and the composites."""
    attacks = part(part(result.extras, PRIVLEAK), "auc")
    if any(not name.startswith(PAIR) for name in attacks):
        raise UserError("the attacks of this run are not of forget against holdout alone")
    found = scores(result)
    own = {name: found[name] for name in COLUMNS}
    return {
        **found,
        **{AUC + name.removeprefix(PAIR): value for name, value in attacks.items()},
        **{name: composite(name, own) for name in COMPOSITES},
    }


# ── probes ───────────────────────────────────────────────────────────────────────────────────────
def _relearned(plan: Plan, job: Job, folder: Path, now: StoredResult) -> Path:
    params = relearn.Params(steps=(plan.relearning,), lr=None, batch_size=4)
    return relearn.alter(_subject(plan, job, folder, now, "relearn"), params)[str(plan.relearning)]


def _quantized(plan: Plan, job: Job, folder: Path, now: StoredResult) -> Path:
    params = quantize.Params(schemes=(SCHEME,))
    return quantize.alter(_subject(plan, job, folder, now, "quantize"), params)[SCHEME]


def _subject(plan: Plan, job: Job, folder: Path, now: StoredResult, probe: str) -> TaskSubject:
    task = plugins.task(task_of(job.seed))
    return TaskSubject(
        model=str(folder),
        # What the probe's own code did counts as what it did it to.
        digest=fingerprint([now.model["digest"], code_digest(f"probes/{probe}.py")]),
        task=task,
        data=open_data(task),
        given=None,
        home=plan.home / "models" / task.name / "probes",
        probe=probe,
        means={"dtype": "float32"},
        progress=ignore,
        log=ignore,
        note=ignore,
    )
