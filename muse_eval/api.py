"""The Python interface: a function for each verb of the command line, and a door to stored runs.

All are found on the package itself: ``muse_eval.evaluate(…)``. Each raises ``UserError``, in one line, for
what the caller can mend; what is finished stays. Without ``progress`` a terminal and a notebook show bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from muse_eval.config import RunConfig, build
from muse_eval.errors import UserError
from muse_eval.pipelines import METHODS, PipelineConfig
from muse_eval.pipelines import pipeline as _pipeline
from muse_eval.probing.face import probe
from muse_eval.progress import shown
from muse_eval.reports import report
from muse_eval.results import StoredResult, find_run, gate, load, load_all, load_published
from muse_eval.results.compare import compare
from muse_eval.results.forms import writer
from muse_eval.results.frames import records_frame, results_frame
from muse_eval.results.gated import gated
from muse_eval.results.rows import all_rows
from muse_eval.scoring.run import run
from muse_eval.sweeps import read_models
from muse_eval.sweeps.sweep import sweep as _sweep
from muse_eval.sweeps.worker import Outcome
from muse_eval.tuning import TuneConfig, Tuned
from muse_eval.tuning import tune as _tune
from muse_eval.types import Log, Note, Progress, Result, Stage, Warn, ignore
from muse_eval.unlearning.on_task import finetune, unlearn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def evaluate(
    model: str | Path | PreTrainedModel,
    task: str | None = None,
    *,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    retrain: str | Path | None = None,
    metrics: Sequence[str] = (),
    progress: Progress | None = None,
    warn: Warn = ignore,
    note: Note = ignore,
    tell: Note = ignore,
    **options: Any,
) -> Result:
    """Score a model on a task and return the result, which is also written to the results folder.

    Args:
        model: a hub id, a folder, or a loaded transformers model, with ``tokenizer`` and ``task`` beside it.
        task: name of a task or a YAML file; None: read off the model's card, recipe or name.
        tokenizer: a folder, hub id or loaded tokenizer; None: the model's own, else the task's.
        retrain: the model whose AUC PrivLeak is relative to; None: the pipeline's where it belongs to the
            model, else the task's published AUC; ``none``: no model.
        metrics: columns to score; empty: all; ``+extraction`` adds an optional one.
        progress: told of every finished batch; None: bars on a terminal or in a notebook.
        warn: told, in one line, of what is odd but not fatal.
        note: told, in one line, what was decided.
        tell: told, in one line, what is about to be done.
        options: any other field of ``config.RunConfig``: ``data_dir``, ``dtype``, ``limit``, ``results`` …

    Raises:
        UserError: something that the caller can mend, in one line.

    Example:
        ``evaluate("OPTML-Group/SimNPO-MUSE-Books-iclm-7b").columns["privleak"].value``
    """
    loaded = None
    if not isinstance(model, str | Path):
        if isinstance(tokenizer, str | Path):
            raise UserError(
                f"a loaded model needs a loaded tokenizer beside it, not the name {str(tokenizer)!r}"
            )
        if tokenizer is None or task is None:
            raise UserError("a loaded model needs a task and a loaded tokenizer beside it")
        loaded = (model, tokenizer)
        options.setdefault("name", Path(model.config.name_or_path or type(model).__name__).name)
    elif tokenizer is not None and not isinstance(tokenizer, str | Path):
        raise UserError("a loaded tokenizer goes with a loaded model; give the folder or hub id of one")
    config: RunConfig = build(
        RunConfig,
        "evaluate",
        model=str(model) if loaded is None else "loaded model",
        task=task,
        tokenizer=str(tokenizer) if isinstance(tokenizer, str | Path) else None,
        retrain=None if retrain is None else str(retrain),
        metrics=_several(metrics),
        **options,
    )
    with shown(progress) as told:
        outcome = run(config, loaded=loaded, progress=told, warn=warn, note=note, tell=tell)
    assert outcome.result is not None
    return outcome.result


def pipeline(
    task: str = "muse_mini",
    methods: Sequence[str] = METHODS,
    *,
    progress: Progress | None = None,
    stage: Stage = ignore,
    log: Log = ignore,
    warn: Warn = ignore,
    note: Note = ignore,
    tell: Note = ignore,
    **options: Any,
) -> list[Path]:
    """Unlearn with each method from the target, score all, and return the runs' folders, references first.

    Args:
        task: name of a task or a YAML file.
        methods: ``simnpo_gdr``, ``npo_klr`` … (``plugins.method_names()``).
        progress: told of every step and batch; None: bars on a terminal or in a notebook.
        stage: told of each stage as it begins.
        log: told of every optimiser step's line of ``log.jsonl``.
        warn: told, in one line, of what is odd but not fatal.
        note: told, in one line, what was decided.
        tell: told, in one line, what is about to be done.
        options: any other field of ``pipelines.PipelineConfig``: ``target``, ``retrain``, ``data_dir``,
            ``epochs``, ``select`` …

    Raises:
        UserError: something that the caller can mend, in one line.

    Example:
        ``[load_run(folder).key for folder in pipeline("muse_mini", ["simnpo_gdr"])]``
    """
    config = build(PipelineConfig, "pipeline", task=task, methods=_several(methods), **options)
    with shown(progress) as told:
        return _pipeline(config, stage=stage, progress=told, log=log, warn=warn, note=note, tell=tell)


def tune(
    method: str,
    task: str,
    grid: Sequence[str],
    *,
    progress: Progress | None = None,
    stage: Stage = ignore,
    warn: Warn = ignore,
    **options: Any,
) -> Tuned:
    """Unlearn with many settings of a method, score each, and return the trials, best first.

    Args:
        method: one of ``plugins.method_names()``.
        task: name of a task or a YAML file.
        grid: as typed: ``beta=0.1:0.7,lr=2e-4:5e-4``, or ``lr=1e-5..1e-3`` with ``trials``.
        progress: told of every step and batch; None: bars on a terminal or in a notebook.
        stage: told of each trial as it begins.
        warn: told, in one line, of what is odd but not fatal.
        options: any other field of ``tuning.TuneConfig``: ``trials``, ``composite``, ``preset`` …

    Raises:
        UserError: something that the caller can mend, in one line.

    Example:
        ``tune("simnpo_gdr", "muse_mini", ["beta=0.1:0.7"]).best``
    """
    config = build(TuneConfig, "tune", method=method, task=task, grid=_several(grid), **options)
    with shown(progress) as told:
        return _tune(config, stage=stage, progress=told, warn=warn)


def sweep(
    models: Sequence[str],
    task: str | None = None,
    *,
    jobs: int = 1,
    on: str = "local",
    gpus_per_model: int | None = None,
    progress: Progress | None = None,
    stage: Stage = ignore,
    warn: Warn = ignore,
    note: Note = ignore,
    **options: Any,
) -> list[Outcome]:
    """Score many models, each in a process of its own, and return what became of each, in order.

    Args:
        models: folders, hub ids and globs, ``NAME=`` in front names a run; files with one of these a line.
        task: name of a task or a YAML file; None: each model says its own.
        jobs: models under way at once.
        on: ``local``, or ``ray``: the nodes of a Ray cluster, which must share the folders.
        gpus_per_model: GPUs that each model sees; 0: all; None: all for one job, one each for several.
        progress: told of every finished batch; None: bars on a terminal or in a notebook.
        stage: told of each stage as it begins.
        warn: told, in one line, of what is odd but not fatal.
        note: told, in one line, what was decided.
        options: any other field of ``config.RunConfig``.

    Raises:
        UserError: something that the caller can mend, found before any model is scored.

    Example:
        ``[outcome.reason for outcome in sweep(["checkpoints/*"], "muse_books") if not outcome.folder]``
    """
    configs = [
        build(RunConfig, "sweep", model=model, name=name, task=task, **options)
        for name, model in read_models(list(_several(models))).items()
    ]
    with shown(progress) as told:
        return _sweep(
            configs,
            jobs=jobs,
            on=on,
            gpus_per_model=gpus_per_model,
            stage=stage,
            progress=told,
            warn=warn,
            note=note,
        )


def leaderboard(
    results: str | Path = "results",
    *,
    form: Literal["csv", "md", "latex", "json", "html"] = "csv",
    published: str | Path | None = None,
    baseline: str | Path | None = None,
    warn: Warn = ignore,
) -> str:
    """Return the table of all stored runs as text: the same runs give the same bytes.

    Args:
        results: the results folder.
        form: ``csv``, ``json``, or a table for each task: ``md``, ``latex``, ``html``.
        published: a CSV of published numbers to add as a block, with their source.
        baseline: what runs are held against; a cell that fails the gate is flagged ``gated``. None: nothing.
        warn: told, in one line, of a run that cannot be read.

    Raises:
        UserError: there is no run, ``form`` is unknown, or ``published`` cannot be read.

    Example:
        ``pandas.read_csv(io.StringIO(leaderboard("results")))``
    """
    beside = load_published(Path(published)) if published else []
    return writer(form)(gated(all_rows(Path(results), warn), baseline, warn), beside)


def check(
    baseline: str | Path = "results/baseline.json",
    results: str | Path = "results",
    *,
    only: Sequence[str] = (),
    whole: bool = False,
    every: bool = False,
    warn: Warn = ignore,
) -> gate.Report:
    """Compare stored runs with a baseline; the report's ``exit_code`` is 0 fine, 1 regression, 2 cannot tell.

    Args:
        baseline: the file of expected values.
        results: the results folder.
        only: runs of the baseline to compare (``muse_mini/npo*``), which must then be there.
        whole: every run of the baseline must be there.
        every: every run of the results must be in the baseline.
        warn: told, in one line, of a run that cannot be read.

    Raises:
        UserError: the baseline cannot be read, or names none of ``only``.

    Example:
        ``check("results/project/baseline.json", only=["muse_mini/target"]).exit_code``
    """
    found, expected = load_all(Path(results), warn), gate.load_baseline(Path(baseline))
    return gate.check(found, expected, _several(only), whole, every)


def load_run(run: str | Path, results: str | Path = "results") -> StoredResult:
    """Return a stored run.

    Args:
        run: its name, ``TASK/NAME``, or its folder.
        results: the results folder that a name is looked up in.

    Raises:
        UserError: there is none, or several tasks have one of that name.

    Example:
        ``load_run("muse_mini/npo").columns["verbmem_f"].value``
    """
    found = load(find_run(Path(results), str(run)))
    assert found is not None
    return found


def _several(names: Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple; a text that stands alone is one name, not as many as it has letters."""
    return (names,) if isinstance(names, str) else tuple(names)


__all__ = ["check", "compare", "evaluate", "finetune", "leaderboard", "load_run", "pipeline", "records_frame"]
__all__ += ["probe", "report", "results_frame", "sweep", "tune", "unlearn"]
