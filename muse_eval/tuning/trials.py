"""Tries many settings of one method on a task: each is unlearned and scored, and a composite ranks them."""

import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from muse_eval.config import fingerprint
from muse_eval.errors import DivergedError, UserError
from muse_eval.folders import sweep, writing
from muse_eval.pipelines import references
from muse_eval.reading import read_text
from muse_eval.results import CorruptResult, load, write_files
from muse_eval.results.degenerate import judged
from muse_eval.results.whole import fault
from muse_eval.scoring import Plan
from muse_eval.scoring.run import run
from muse_eval.tuning.beside import stored_references
from muse_eval.tuning.grid import OPTIONS, Axis, Point, label, options, points, resolve
from muse_eval.tuning.plan import TuneConfig, check, identity
from muse_eval.tuning.ranking import Trial, Tuned, rank, to_csv
from muse_eval.tuning.study import Study, open_study
from muse_eval.types import Progress, Warn, ignore
from muse_eval.unlearning import cards
from muse_eval.unlearning.on_task import unlearn
from muse_eval.unlearning.training import output

TRIALS = "trials.csv"
FAILURE = "failed.json"
"""In a failed trial's folder: why, and whether trying again would come to the same."""


def tune(
    config: TuneConfig,
    *,
    stage: Callable[[str], None] = ignore,
    progress: Progress = ignore,
    warn: Warn = ignore,
) -> Tuned:
    """Unlearn and score with each setting; return the trials, ranked.

    Everything that can be checked is checked before a model is made. A trial that fails does not stop the
    others. After a kill the same call goes on: what is finished is not done again.

    Raises:
        UserError: something that the user can mend; what is finished stays.
    """
    planned, axes = check(config)
    models = references(config, planned.task, stage, progress)
    tuner = Tuner(config, planned, axes, models, progress, warn)
    home = tuner.folder
    database = home.with_name(f"{config.method}.db")
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
    with (
        output.claimed(home),
        open_study(database, tuner.study, axes, config.seed) as study,
    ):
        for number, point in study.queue(tuner.settled, config.trials):
            stage(tuner.title(point, study))
            trial = tuner.carry_out(point)
            value = trial.rank_value(config.composite, config.rank_flagged)
            study.tell(number, value, failed=trial.result is None)
            tuner.take_stock(study)
        return tuner.take_stock(study)


class Tuner:
    """Makes, scores and finds a tune's trials."""

    def __init__(
        self,
        config: TuneConfig,
        planned: Plan,
        axes: tuple[Axis, ...],
        models: dict[str, str],
        progress: Progress,
        warn: Warn,
    ) -> None:
        self._config, self._task, self._axes, self._models = config, planned.task, axes, models
        self._progress, self._warn = progress, warn
        self._identity = identity(config, planned, models, progress)
        weights = {name: digests[0] for name, digests in self._identity["models"].items()}
        self._references = stored_references(config.results, planned.task.name, weights)
        self.folder = config.results / "tune" / planned.task.name / config.method
        self._models_home = config.results / "models" / planned.task.name / "tune" / config.method

    @property
    def study(self) -> str:
        """The study's name: other settings of anything but the number of trials are another study."""
        space = [[axis.name, list(axis.values), axis.span] for axis in self._axes]
        fixed = resolve(self._task, self._config.method, {}, **self._config.fixed)
        composite = self._config.composite + ("-flagged" if self._config.rank_flagged else "")
        return f"{composite}-{fingerprint([self._identity, space, fixed])[:12]}"

    def name(self, point: Point) -> str:
        """Return a trial's name, a fingerprint of everything that decides its numbers."""
        recipe = resolve(self._task, self._config.method, point, **self._config.fixed)
        return fingerprint([self._identity, recipe])[:12]

    def title(self, point: Point, study: Study) -> str:
        """Say which trial is next, and the best so far."""
        now = self.so_far(study)
        total = self._config.trials or len(points(self._axes))
        place = len({one.name for one in now.trials} - {self.name(point)}) + 1
        best = f"; best so far {now.best.value(now.composite):.2f}" if now.best else ""
        return f"trial {place} of {total}: {label(point)}{best}"

    # ── one trial ────────────────────────────────────────────────────────────────────────────────
    def carry_out(self, point: Point) -> Trial:
        """Unlearn and score, or write down why that failed; what is there already is taken as it is."""
        name = self.name(point)
        if not self.settled(point):
            try:
                self._make(point, name)
            except UserError as error:
                self._fail(name, error)
        trial = self.find(point)
        assert trial is not None
        return trial

    def settled(self, point: Point) -> bool:
        """Say whether a point was scored, or failed in a way that it would fail in again."""
        trial = self.find(point)
        return trial is not None and trial.final

    def find(self, point: Point) -> Trial | None:
        """Return what came of a point, or None where nothing did so far."""
        name = self.name(point)
        folder = self.folder / name
        try:
            result = load(folder)
        except CorruptResult:
            # The run that replaces it says so.
            result = None
        if result is not None and fault(result):
            result = None
        if result is not None:
            trained = (cards.read_json(folder / cards.CARD) or {}).get("seconds")
            seconds = trained + result.seconds if isinstance(trained, int | float) else None
            return Trial(name, point, judged([result, *self._references.values()])[0], seconds)
        told = cards.read_json(folder / FAILURE) or {}
        reason, final = told.get("reason"), told.get("final")
        if not isinstance(reason, str) or not isinstance(final, bool):
            # None, or damaged: the trial is made again.
            return None
        return Trial(name, point, None, failure=reason, final=final)

    def _make(self, point: Point, name: str) -> None:
        config, task = self._config, self._task
        folder = self.folder / name
        made = unlearn(
            self._models["target"],
            config.task,
            config.method,
            self._models_home / name,
            data_dir=config.data_dir,
            progress=self._progress,
            tokenizer=config.tokenizer,
            seed=task.data.seed,
            **config.means,
            **config.fixed,
            **options(point),
        )
        sweep(folder)
        # Here they outlive the weights.
        _copy(made, folder, (output.LOG, cards.CARD))
        wanted = config.scoring(task, str(made), self._models["retrain"], f"{config.method}-{name}")
        run(wanted, progress=self._progress, warn=self._warn, reuse=True, folder=folder)
        (folder / FAILURE).unlink(missing_ok=True)

    def _fail(self, name: str, error: UserError) -> None:
        """Write down a failure; of a diverged training its log is kept, its checkpoints are not."""
        folder, partial = self.folder / name, output.partial(self._models_home / name)
        diverged = isinstance(error, DivergedError)
        if diverged:
            _copy(partial, folder, (output.LOG, cards.RECIPE))
        reason = error.what if isinstance(error, DivergedError) else str(error)
        told = {"reason": reason, "final": diverged}
        write_files(folder, {FAILURE: json.dumps(told, indent=2, ensure_ascii=False) + "\n"})
        if diverged:
            with writing(partial):
                shutil.rmtree(partial)

    # ── all trials ───────────────────────────────────────────────────────────────────────────────
    def so_far(self, study: Study) -> Tuned:
        """Return the study's trials as they are now, ranked."""
        config, names = self._config, tuple(axis.name for axis in self._axes)
        found = {trial.name: trial for point in study.ended() if (trial := self.find(point))}
        ranked = rank(found.values(), config.composite, config.rank_flagged)
        tuned = Tuned(
            self._task,
            names,
            config.composite,
            ranked,
            self.folder,
            rank_flagged=config.rank_flagged,
            retrain=self._references.get("retrain"),
        )
        if tuned.best is None:
            return tuned
        model = self._models_home / tuned.best.name
        kept = model if (model / cards.CARD).exists() else None
        return replace(tuned, model=kept, command=self._command(tuned.best))

    def take_stock(self, study: Study) -> Tuned:
        """Write ``trials.csv``; of the weights that are there keep the best ones, unless all are wanted."""
        tuned = self.so_far(study)
        sweep(self.folder)
        write_files(self.folder, {TRIALS: to_csv(tuned)})
        if self._config.keep_models:
            return tuned
        there = [
            self._models_home / trial.name
            for trial in tuned.trials
            if (self._models_home / trial.name).exists()
        ]
        # Not simply the best trial's: another grid or composite may have dropped those, and kept others.
        best = next((model for model in there if (model / cards.CARD).exists()), None)
        for model in there:
            if model != best:
                with writing(model):
                    # First the card: without it what a kill leaves is taken by nothing for a finished model.
                    (model / cards.CARD).unlink(missing_ok=True)
                    shutil.rmtree(model)
        return tuned

    def _command(self, trial: Trial) -> str:
        """Return the command that makes a trial's weights again."""
        config = self._config
        given: dict[str, object] = {
            "method": config.method,
            "target": self._models["target"],
            "task": config.task,
            "out": config.results / "models" / self._task.name / f"{config.method}-{trial.name}",
            "data-dir": config.data_dir,
            "tokenizer": config.tokenizer,
            "seed": self._task.data.seed or None,
            "micro-batch-size": config.micro_batch_size,
            "preset": config.preset,
            "lora": config.lora,
            "training-dtype": None if config.training_dtype == "auto" else config.training_dtype,
        }
        tuned = {**config.fixed, **trial.point}
        given |= {name.replace("_", "-"): tuned[name] for name in OPTIONS if name in tuned}
        words = [
            word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))
        ]
        words += [
            word
            for name in tuned
            if name not in (*OPTIONS, "preset")
            for word in ("--set", f"{name}={tuned[name]}")
        ]
        switches = ("gradient_checkpointing", "allow_pickle", "trust_remote_code")
        words += [f"--{name.replace('_', '-')}" for name in switches if getattr(config, name)]
        return shlex.join(["muse-eval", "unlearn", *words])


def _copy(source: Path, folder: Path, names: Sequence[str]) -> None:
    """Copy those of the text files that are there."""
    found = [source / name for name in names if (source / name).is_file()]
    write_files(folder, {path.name: read_text(path, "file of a training") for path in found})
