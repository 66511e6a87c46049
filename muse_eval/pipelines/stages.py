"""Target → unlearn → score → table: every stage is skipped where its result is there."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from muse_eval import plugins
from muse_eval.config import TaskSpec
from muse_eval.data import Data, open_data
from muse_eval.errors import UserError
from muse_eval.folders import writing
from muse_eval.pipelines.config import (
    ComparisonConfig,
    PipelineConfig,
    check,
    method_params,
    other_seed,
    run_name,
    scored_task,
)
from muse_eval.pipelines.epochs import Choice, drop_other, last_epoch, select_epoch
from muse_eval.pipelines.keeping import can_keep, forecast, is_cheap, space
from muse_eval.results import (
    ForgetSet,
    ForgetSetRuns,
    Lineage,
    StoredResult,
    check_retrain,
    collect,
    load,
    run_folder,
    scores,
    write_files,
)
from muse_eval.results.forget_sets import to_csv
from muse_eval.results.judged import judged
from muse_eval.scoring.run import run
from muse_eval.types import Log, Note, Progress, Stage, Warn, ignore
from muse_eval.unlearning import cards
from muse_eval.unlearning.model_card import add_scores
from muse_eval.unlearning.on_task import unlearn
from muse_eval.unlearning.training import output


@dataclass(frozen=True)
class _Pipeline:
    """One pipeline under way: what it was asked, its two given models, and who is told of it."""

    config: PipelineConfig
    task: TaskSpec
    data: Data
    models: dict[str, str]
    keep: bool
    """Whether each epoch's weights are kept unasked."""
    stage: Stage
    progress: Progress
    log: Log
    warn: Warn
    note: Note
    tell: Note

    def score(
        self, model: str, name: str, folder: Path | None = None, lineage: Lineage | None = None
    ) -> Path:
        """Score a model, unless the very same result is there; return its run's folder."""
        self.stage(f"score {name}")
        wanted = self.config.scoring(
            self.task,
            model,
            self.models["retrain"],
            name,
            metrics=self.config.metrics,
            limit=self.config.limit,
            utility=() if lineage and lineage.epoch else self.config.utility,
            overwrite=self.config.overwrite,
        )
        done = run(
            wanted,
            progress=self.progress,
            warn=self.warn,
            tell=self.tell,
            reuse=True,
            folder=folder,
            lineage=lineage,
        )
        return done.folder

    def unlearn(self, method: str, start: str, name: str, split: str | None = None) -> Path:
        """Unlearn with a method from a model, unless that was done; return the unlearned model's folder."""
        config, seed = self.config, other_seed(self.config, self.task)
        out = config.results / "models" / self.task.name / name
        asked = config.scores_epochs or config.keep_checkpoints
        could = config.overwrite or can_keep(out, config.lora)
        if asked and plugins.leaves_epochs(method) and not could and not out.exists():
            raise UserError(
                f"{output.partial(out)} was begun without keeping its epochs; --overwrite begins again, and "
                "without --select, --trajectory and --keep-checkpoints it goes on as it was begun"
            )
        seeded = "" if seed is None else f", seed {seed}"
        self.stage(f"unlearn with {method}{seeded}" + (f": {split}" if split else ""))
        return unlearn(
            start,
            config.task,
            method,
            out,
            forget=split,
            data_dir=config.data_dir,
            overwrite=config.overwrite,
            keep_checkpoints=plugins.leaves_epochs(method) and (asked or (self.keep and could)),
            progress=self.progress,
            log=self.log,
            note=self.note,
            tell=self.tell,
            tokenizer=config.tokenizer,
            lambda_=config.weight(method),
            seed=self.task.data.seed if seed is None else seed,
            params=method_params(config, method),
            **config.training,
        )

    def finish(self, out: Path, name: str, lineage: Lineage, start: Path) -> tuple[Path, Path]:
        """Score an unlearned model, or select among its epochs; return the run's folder and the model's.

        Args:
            out: the unlearned model's folder.
            name: its run's name.
            lineage: how it was made.
            start: the run of the model that it was made from.
        """
        if not self.config.scores_epochs:
            folder = self.score(str(out), name, lineage=lineage)
            drop_other(folder, lineage.recipe)
            self.write_scores(out, folder)
            return folder, out
        folder = run_folder(self.config.results, self.task.name, name)
        choice = Choice(
            self.config.select, self.config.ranked_by, self.config.rank_flagged, self.config.keep_checkpoints
        )
        retrain = _load(run_folder(self.config.results, self.task.name, "retrain"))

        def score(model: Path, name: str, folder: Path, lineage: Lineage) -> None:
            self.score(str(model), name, folder, lineage)

        chosen = select_epoch(out, folder, _load(start), retrain, lineage, choice, score)
        # The model in the folder itself is the last epoch's.
        self.write_scores(out, folder if chosen == out else last_epoch(folder))
        return folder, chosen

    def write_scores(self, out: Path, folder: Path) -> None:
        """Write a run's scores into its model's card, flagged as beside target and retrain model."""
        home = (self.config.results, self.task.name)
        beside = [_load(run_folder(*home, name)) for name in ("target", "retrain")]
        add_scores(out, judged([*beside, _load(folder)])[-1])


def pipeline(
    config: PipelineConfig,
    *,
    stage: Stage = ignore,
    progress: Progress = ignore,
    log: Log = ignore,
    warn: Warn = ignore,
    note: Note = ignore,
    tell: Note = ignore,
) -> list[Path]:
    """Make or find target and retrain, unlearn with each method, score all; return the runs' folders.

    A task with several forget sets has a run for each method and set, named ``<method>-<number>``, and a
    CSV and a figure of them in the folder of its runs. Under another training seed than the task's own all
    are named apart, ``<method>-seed<seed>``; target and retrain model are the same.

    Raises:
        UserError: something that the user can mend; what is finished stays, and is not done again.
    """
    check(config)
    task = scored_task(config)
    models = references(config, task, stage, progress)
    data = open_data(task, config.data_dir)
    # Each method reads the same texts: what is odd in them is said once.
    work = _Pipeline(config, task, data, models, False, stage, progress, log, warn, cache(note), tell)
    retrain, target = (work.score(models[name], name) for name in ("retrain", "target"))
    if (same := _load(target).model.get("digest")) and same == _load(retrain).model.get("digest"):
        warn("target and retrain model have the same weights: nothing can be told of unlearning")
    if config.scores_epochs:
        check_retrain(config.select, scores(_load(retrain)))
    elif not config.keep_checkpoints:
        work = replace(work, keep=_keeps(config, task, models["target"], work.note))
    folders = [retrain, target]
    for method in config.methods:
        folders += _forget_sets(work, method, target) if task.forget_sets else [_plain(work, method, target)]
    if task.forget_sets:
        write_forget_sets(
            collect(task, [_load(folder) for folder in folders], other_seed(config, task)), target.parent
        )
    return folders


def _keeps(config: PipelineConfig, task: TaskSpec, target: str, note: Note) -> bool:
    """Decide whether each epoch's weights are kept unasked; where they take too much, say so."""
    needed = space(config, task, target)
    if is_cheap(needed, config.results):
        return True
    if told := forecast(config, task, needed):
        note(told)
    return False


def _plain(work: _Pipeline, method: str, target: Path) -> Path:
    name = run_name(work.config, work.task, method)
    out = work.unlearn(method, work.models["target"], name)
    folder, _ = work.finish(out, name, Lineage(_card(out)["fingerprint"]), target)
    return folder


def _forget_sets(work: _Pipeline, method: str, target: Path) -> list[Path]:
    """Forget one set after the other, each from the target (nested) or from the last result (sequential)."""
    forget_sets = work.task.forget_sets
    assert forget_sets is not None
    model, start, folders = work.models["target"], target, []
    for number, split in enumerate(forget_sets.forget, 1):
        name = run_name(work.config, work.task, method, number)
        out = work.unlearn(method, model, name, split)
        card, texts = _card(out), len(work.data.split(split).rows) - len(work.data.split(split).blank)
        tokens = card.get("tokens", {}).get("forget")
        forget_set = ForgetSet(
            method, split, number, len(forget_sets.forget), forget_sets.mode, texts, tokens
        )
        folder, unlearned = work.finish(out, name, Lineage(card["fingerprint"], forget_set), start)
        folders.append(folder)
        if forget_sets.mode == "sequential":
            model, start = str(unlearned), folder
    return folders


def write_forget_sets(runs: ForgetSetRuns, folder: Path) -> None:
    """Write the CSV and the figure of several forget sets, unless they are there already."""
    text, table, figure = to_csv(runs), folder / f"{runs.file}.csv", folder / f"{runs.file}.png"
    if table.is_file() and figure.is_file() and table.read_text(encoding="utf-8") == text:
        return
    from muse_eval.results.drawing import converted, draw
    from muse_eval.results.figures import draw_forget_sets

    write_files(folder, {figure.name: converted(draw(draw_forget_sets(runs)), "png"), table.name: text})


def _load(folder: Path) -> StoredResult:
    stored = load(folder)
    assert stored is not None
    return stored


def _card(out: Path) -> dict[str, Any]:
    card: dict[str, Any] = cards.read_card(out)
    return card


# ── models ───────────────────────────────────────────────────────────────────────────────────────
def references(config: ComparisonConfig, task: TaskSpec, stage: Stage, progress: Progress) -> dict[str, str]:
    """Return target and retrain: those given, else trained now (built-in world), else the task's."""
    given = {"target": config.target, "retrain": config.retrain}
    if task.data.source == "builtin" and None in given.values():
        from muse_eval.mini.train import make_models

        stage("make target and retrain")
        home = config.results / "models" / (task.base or task.name)
        with writing(home):
            lineage = make_models(home, task.data.seed, progress)
        return {name: given[name] or str(lineage[name]) for name in given}
    models = {}
    for name, model in given.items():
        ref = next((ref for key, ref in task.models.items() if key == name), None)
        if model is None and ref is None:
            raise UserError(f"task {task.name} names no {name} model; give --{name}")
        models[name] = model or str(ref)
    return models
