"""Utility columns: what else a model can do, by tasks of lm-eval, asked once and then kept in the cache."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_eval import provenance
from muse_eval.errors import UserError, first_line
from muse_eval.own_code import code_digest
from muse_eval.printable import one_line
from muse_eval.results.evidence import excerpt
from muse_eval.results.utility import METRIC
from muse_eval.scoring.kept import UTILITY, keep, kept
from muse_eval.scoring.lm_tasks import LmTask, find, quiet, version
from muse_eval.types import Engine, Progress, Record, Score, Warn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 8
"""Texts of a batch; halved where memory runs out."""
Z = 1.96
"""Standard errors that a 95 % interval reaches to each side."""


@dataclass(frozen=True)
class UtilityColumn:
    """A column that a task of lm-eval fills."""

    task: LmTask
    lm_eval: str
    """The version of lm-eval."""

    @property
    def name(self) -> str:
        """The column's name and title: the task's."""
        return self.task.name

    @property
    def heading(self) -> dict[str, Any]:
        """The column as a run's settings describe those of its task."""
        return {"title": self.name, "metric": METRIC, "goal": "higher", "splits": {}, "params": {}}

    @property
    def params(self) -> dict[str, Any]:
        """All that decides the value but the model: only equal ones compare."""
        task = self.task
        return {
            "lm_eval": self.lm_eval,
            "version": task.version,
            "score": f"{task.metric},{task.filter}",
            "asked": task.asked,
        }


def plan_utility(
    wanted: Sequence[str], taken: Iterable[str], engine: str, limit: int | None
) -> list[UtilityColumn]:
    """Return the columns for tasks of lm-eval, all checked and their data read.

    Args:
        wanted: names, YAML files and folders, as ``lm_tasks.find`` takes them.
        taken: names of the columns that are there.
        engine: the run's.
        limit: only so many questions of each task.

    Raises:
        UserError: lm-eval is missing, another engine is to answer, or a task will not do.
    """
    if not wanted:
        return []
    installed = version()
    if engine != "hf":
        raise UserError(f"--utility needs --engine hf, which holds the model in this process; not {engine}")
    found = [UtilityColumn(task, installed) for task in find(wanted, limit)]
    if clash := sorted({column.name for column in found} & {*taken}):
        raise UserError(f"--utility {clash[0]}: the task has a column of that name already")
    return found


def score_utility(
    columns: Sequence[UtilityColumn],
    engine: Engine,
    limit: int | None,
    cache: Path | None,
    progress: Progress,
    warn: Warn,
) -> dict[str, Score]:
    """Score a model in utility columns; one that is in the cache is read from there.

    Args:
        columns: of ``plan_utility``.
        engine: the transformers engine, open.
        limit: only so many questions of each task; flagged.
        cache: where the cache lies; None: nothing is kept.
        progress: told of every finished batch.
        warn: told, in one line, of an entry of the cache that is damaged.

    Raises:
        UserError: lm-eval cannot score the model.
    """
    scores = {}
    for column in columns:
        key = {**_asked_of(engine), **column.params, "task": column.name, "limit": limit}
        found = kept(cache, UTILITY, key, warn)
        if found is None:
            found = _ask(column, engine, limit, progress)
            keep(cache, UTILITY, key, found)
        scores[column.name] = _score(column, found, limit)
    return scores


def _asked_of(engine: Engine) -> dict[str, Any]:
    """Return what of a model, of this machine's packages and of own code can change what is kept."""
    known, packages = engine.provenance, provenance.versions()
    device = "cpu" if known["device"] == "cpu" else "gpu"
    model = {name: known[name] for name in ("weights", "tokenizer", "dtype")}
    own = {"device": device, "code": code_digest("utility")}
    return {**model, **own, **{name: packages[name] for name in ("torch", "transformers")}}


# ── asked of lm-eval ─────────────────────────────────────────────────────────────────────────────
def _ask(column: UtilityColumn, engine: Engine, limit: int | None, progress: Progress) -> dict[str, Any]:
    """Put a task to the model by lm-eval, and return its value, standard error and questions."""
    from muse_eval.engines.composed import ComposedModel
    from muse_eval.engines.hf.engine import TransformersEngine

    assert isinstance(engine, TransformersEngine)
    model, tokenizer = engine.handed
    if isinstance(model, ComposedModel):
        raise UserError(f"--utility {one_line(column.name)}: lm-eval cannot ask a model composed of two")
    results = _evaluated(column, model, tokenizer, limit, progress)
    task = column.task
    questions = [
        _question(name, sample, task.metric)
        for name, samples in results["samples"].items()
        for sample in samples
        if sample["filter"] == task.filter
    ]
    if any(one["score"] is None for one in questions):
        return {"value": None, "stderr": None, "questions": questions}
    told = results["results"][task.name]
    value, stderr = told.get(f"{task.metric},{task.filter}"), told.get(f"{task.metric}_stderr,{task.filter}")
    mean = sum(one["score"] for one in questions) / len(questions) if questions else None
    if not isinstance(value, int | float) or mean is None or abs(value - mean) > 1e-9:
        raise UserError(
            f"--utility {one_line(task.name)}: lm-eval's value ({value}) is not the mean over its "
            f"questions ({mean}); it cannot be a column"
        )
    stderr = float(stderr) if isinstance(stderr, int | float) else None
    return {"value": float(value), "stderr": stderr, "questions": questions}


def _evaluated(
    column: UtilityColumn,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    limit: int | None,
    progress: Progress,
) -> dict[str, Any]:
    from muse_eval.engines.loading import out_of_memory

    batch = BATCH
    while True:
        try:
            with quiet():
                import lm_eval

                from muse_eval.scoring.lm_model import AskedModel

                asked = AskedModel(model, tokenizer, batch, column.name, progress)
                # What simple_evaluate does once seeds and tasks are set; it also starts git and pip.
                return dict(lm_eval.evaluate(asked, column.task.loaded, limit=limit, bootstrap_iters=1))
        except Exception as error:  # noqa: BLE001 - a task is foreign code that reads foreign data
            if not out_of_memory(error) or batch == 1:
                reason = one_line(first_line(error))
                raise UserError(
                    f"--utility {one_line(column.name)}: lm-eval cannot score the model ({reason})"
                ) from None
            batch //= 2


def _question(task: str, sample: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return what is kept of a question: its place, its score, what was true and what the model took.

    Of log-likelihoods that are not finite lm-eval takes the first as the highest: there is no score then.
    """
    finite = _is_finite(sample)
    return {
        "task": task,
        "id": int(sample["doc_id"]),
        "score": float(sample[metric]) if finite else None,
        "prompt_sha256": str(sample["prompt_hash"]),
        "prompt": excerpt(str(sample["arguments"][0][0])),
        "truth": _true(sample),
        "chosen": _chosen(sample) if finite else "",
    }


def _is_finite(sample: Mapping[str, Any]) -> bool:
    """Tell whether all log-likelihoods behind a question are numbers; of generated text there are none."""
    pairs = [one for one in sample["filtered_resps"] if isinstance(one, list | tuple) and len(one) == 2]
    return all(math.isfinite(one[0]) for one in pairs if isinstance(one[0], float))


def _choices(sample: Mapping[str, Any]) -> list[str]:
    """Return what a question lets a model choose from; empty where it does not."""
    answers, asked = sample["filtered_resps"], sample["arguments"]
    several = len(answers) > 1 and all(isinstance(one, list | tuple) and len(one) == 2 for one in answers)
    return [str(one[1]).strip() for one in asked[: len(answers)]] if several else []


def _true(sample: Mapping[str, Any]) -> str:
    choices, target = _choices(sample), sample["target"]
    return choices[target] if isinstance(target, int) and target < len(choices) else str(target)


def _chosen(sample: Mapping[str, Any]) -> str:
    """Return the likeliest of several choices, or what was generated."""
    choices, answers = _choices(sample), sample["filtered_resps"]
    if choices:
        return choices[max(range(len(choices)), key=lambda at: float(answers[at][0]))]
    return str(answers[0]) if len(answers) else ""


def _score(column: UtilityColumn, found: Mapping[str, Any], limit: int | None) -> Score:
    records = tuple(
        Record(
            one["task"],
            one["id"],
            {column.task.metric: one["score"]},
            {name: one[name] for name in ("prompt", "truth", "chosen")},
            one["prompt_sha256"],
        )
        for one in found["questions"]
    )
    flags = () if limit is None else ("limited",)
    if found["value"] is None:
        places = [f"{one['task']}[{one['id']}]" for one in found["questions"] if one["score"] is None]
        told = f"{len(places)} of {len(records)} questions (first: {one_line(places[0])})"
        reason = f"the model's logits are not finite in {told}"
        return Score(None, None, len(records), flags, reason=reason, records=records)
    value, stderr = 100 * found["value"], found["stderr"]
    ci = None if stderr is None else (value - Z * 100 * stderr, value + Z * 100 * stderr)
    return Score(value, ci, len(records), flags, records=records)
