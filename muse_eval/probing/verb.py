"""Puts a model and its controls to probes: what is scored already is not scored again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from muse_eval.config import fingerprint
from muse_eval.data import open_data
from muse_eval.errors import UserError
from muse_eval.own_code import code_digest
from muse_eval.pipelines import references
from muse_eval.probing.asking import texts, turned
from muse_eval.probing.config import Chosen, ProbeConfig, Ready, check, run_name, steps_of
from muse_eval.probing.forecast import Forecast
from muse_eval.probing.subject import Rehearsal, TaskSubject
from muse_eval.results import CorruptResult, Lineage, StoredResult, load, part, run_folder
from muse_eval.results.lineage import NOW, Probing, but_the_checkpoint, start_of
from muse_eval.results.probe_verdict import RETRAIN, Course
from muse_eval.results.probed import courses
from muse_eval.results.whole import fault
from muse_eval.scoring import Plan
from muse_eval.scoring.identity import computed_by
from muse_eval.scoring.retrain import NONE
from muse_eval.scoring.run import run
from muse_eval.types import AskProbe, Log, ModelProbe, Note, Progress, Stage, Warn, ignore

TARGET = "target"
SHARED = ("probes/turning.py", "statistics/maxima.py", "metrics/truths.py")
"""Code that probes share, and what joins a prompt to its truth."""
Turn = Callable[[Plan], Plan]
"""What makes of a plan the one that a probe asks."""


@dataclass(frozen=True)
class Probed:
    """What a probing came to."""

    task: str
    title: str
    courses: list[Course]
    folders: list[Path]
    """Of the runs, in the order they were scored."""


@dataclass
class _Work:
    """A probing under way."""

    ready: Ready
    forecast: Forecast
    stage: Stage
    progress: Progress
    log: Log
    warn: Warn
    note: Note
    tell: Note
    timed: bool = False
    """Whether it was told how long the training takes."""

    def score(
        self, model: str, name: str, lineage: Lineage, columns: Sequence[str], turn: Turn, share: float
    ) -> StoredResult:
        """Score a model, unless the very same result is there; return the run."""
        self.stage(f"score {name}")
        config, task = self.ready.config, self.ready.task
        folder = run_folder(config.results, task.name, name)
        # What is there of another model or protocol under the same name can be made again from its answers.
        probing = lineage.probing
        stale = probing is not None and probing.name and _of_other(folder, lineage)
        if stale:
            self.note(f"{name}: what is stored is of another model or protocol, and is replaced")
        wanted = config.scoring(task, tuple(columns), model, name, overwrite=config.overwrite or bool(stale))
        began = time.perf_counter()
        run(
            wanted,
            progress=self.progress,
            warn=self.warn,
            reuse=True,
            folder=folder,
            lineage=lineage,
            turn=turn,
        )
        stored = load(folder)
        assert stored is not None
        self.forecast.scored(max(time.perf_counter() - began, stored.seconds), share)
        return stored

    def start(self, name: str, model: str) -> StoredResult:
        """Score a model as it is before all probes."""
        probing = Probing("", NOW, 0, "before", name, {})
        lineage = Lineage(fingerprint([]), probing=probing)
        return self.score(model, run_name(name, "", NOW), lineage, self.ready.columns, _as_ever, 1.0)

    def put_to(self, chosen: Chosen, name: str, model: str, start: StoredResult) -> list[StoredResult]:
        """Put one model to one probe and score it at every strength."""
        identity = part(start.config, "model")
        # What the probe's own code did counts as what it did it to.
        code = [code_digest(file) for file in (f"probes/{chosen.name}.py", *SHARED)]
        digest = fingerprint([identity.get("weights"), identity.get("tokenizer"), code])
        subject = self._subject(chosen, model, digest)
        done = fingerprint([code, chosen.name, chosen.described, self._asked(chosen, subject)])
        before = start_of(start.config)
        lineages = {}
        for place, strength in enumerate(chosen.strengths, 1):
            says = chosen.probe.says.format(strength)
            probing = Probing(
                chosen.name, strength, place, says, name, chosen.described, done, before, chosen.strengths
            )
            lineages[strength] = Lineage(fingerprint([digest, strength, done]), probing=probing)
        made: Mapping[str, str | Path] = dict.fromkeys(chosen.strengths, model)
        if isinstance(chosen.probe, ModelProbe):
            left = self.forecast.steps - steps_of(chosen)
            if there := self._there(chosen, name, start, lineages):
                self.forecast = replace(
                    self.forecast, steps=left, scorings=max(0.0, self.forecast.scorings - len(there))
                )
                return there
            self.stage(f"{chosen.name} {name}")
            made = chosen.probe.alter(subject, chosen.params)
            # Some steps may have been there already.
            self.forecast.steps = left
        runs = []
        for strength, lineage in lineages.items():
            run_of = run_name(name, chosen.name, strength)
            columns = chosen.columns(self.ready.task, self.ready.columns)
            share = _share(chosen) * len(columns) / len(self.ready.columns)
            turn = _turn(chosen, strength)
            runs.append(self.score(str(made[strength]), run_of, lineage, columns, turn, share))
        return runs

    def _there(
        self, chosen: Chosen, name: str, start: StoredResult, lineages: Mapping[str, Lineage]
    ) -> list[StoredResult]:
        """Return the runs of an altered model where all are stored; then the models need not be there."""
        if self.ready.config.overwrite:
            return []
        found = []
        for strength, lineage in lineages.items():
            config, task = self.ready.config, self.ready.task
            folder = run_folder(config.results, task.name, run_name(name, chosen.name, strength))
            try:
                stored = load(folder)
            except CorruptResult:
                return []
            if stored is None or not _same(stored, start, lineage):
                return []
            found.append(stored)
        return found

    def _asked(self, chosen: Chosen, subject: TaskSubject) -> list[object]:
        """Return what a probe will do, with the texts that it reads."""
        if isinstance(chosen.probe, AskProbe):
            return [texts(self.ready.task, subject.data, of) for of in chosen.probe.beside]
        rehearsal = Rehearsal(subject)
        chosen.probe.alter(rehearsal, chosen.params)
        return rehearsal.asked

    def _subject(self, chosen: Chosen, model: str, digest: str) -> TaskSubject:
        config, task = self.ready.config, self.ready.task
        return TaskSubject(
            model=model,
            digest=digest,
            task=task,
            data=open_data(task, config.data_dir),
            given=config.texts,
            home=config.results / "models" / task.name / "probes",
            probe=chosen.name,
            means=config.means,
            progress=self.progress,
            log=self._stepped,
            note=self.note,
        )

    def _stepped(self, line: Mapping[str, float]) -> None:
        self.forecast.stepped(line["seconds"])
        if not self.timed and line["step"] >= 3:
            self.timed = True
            self.tell(f"left: {self.forecast.left}")
        self.log(line)


def probe(
    config: ProbeConfig,
    *,
    stage: Stage = ignore,
    progress: Progress = ignore,
    log: Log = ignore,
    warn: Warn = ignore,
    note: Note = ignore,
    tell: Note = ignore,
) -> Probed:
    """Put a model, retrain and target to the same probes and judge what comes back.

    Each run is named ``<name>+<probe>:<strength>``, and ``<name>+now`` before all probes. After a kill the
    same call goes on: altered models, answers and results that are there are not made again.

    Raises:
        UserError: something that the user can mend; what is finished stays.
    """
    ready = check(config)
    for line in ready.left:
        note(line)
    models = {ready.name: config.model, **_controls(ready, stage, progress)}
    each = 1 + sum(len(one.strengths) * _share(one) for one in ready.probes)
    forecast = Forecast(len(models) * each, len(models) * sum(steps_of(one) for one in ready.probes))
    work = _Work(ready, forecast, stage, progress, log, warn, note, tell)
    tell(f"probe {', '.join(models)} ({config.budget}): {forecast.expected(_scored_before(ready))}")
    starts = {ready.name: work.start(ready.name, config.model)}
    tell(f"to do: {forecast.left}")
    starts |= {name: work.start(name, model) for name, model in models.items() if name != ready.name}
    runs = list(starts.values())
    for chosen in ready.probes:
        for name, model in models.items():
            runs += work.put_to(chosen, name, model, starts[name])
    folders = [one.folder for one in runs if one.folder is not None]
    return Probed(ready.task.name, ready.task.title, courses(runs), folders)


def _controls(ready: Ready, stage: Stage, progress: Progress) -> dict[str, str]:
    """Return retrain and target: those given, else the task's own; without those that are refused."""
    config, task = ready.config, ready.task
    given = {RETRAIN: config.retrain, TARGET: config.target}
    own = {name for name in given if given[name] is None and _has_own(ready, name)}
    found = {name: model for name, model in given.items() if model not in (None, NONE)}
    if ready.name in {*found, *own}:
        raise UserError(f"{ready.name} is what a control is called; give the model a --name of its own")
    if own:
        made = references(ready.comparison(own), task, stage, progress)
        found |= {name: made[name] for name in own}
    return {name: str(found[name]) for name in given if name in found}


def _scored_before(ready: Ready) -> float | None:
    """Return the seconds that a stored run of the model took: with all its columns, so rather more."""
    config = ready.config
    try:
        stored = load(run_folder(config.results, ready.task.name, ready.name))
    except CorruptResult:
        return None
    return stored.seconds if stored is not None and stored.seconds > 0 else None


def _has_own(ready: Ready, name: str) -> bool:
    return ready.task.data.source == "builtin" or any(key == name for key in ready.task.models)


def _turn(chosen: Chosen, strength: str) -> Turn:
    if isinstance(chosen.probe, AskProbe):
        return partial(turned, probe=chosen.probe, strength=strength, params=chosen.params)
    return _as_ever


def _as_ever(plan: Plan) -> Plan:
    return plan


def _share(chosen: Chosen) -> float:
    """Return how many plain scorings a probe's scoring at one strength is, on average."""
    if isinstance(chosen.probe, AskProbe):
        return chosen.probe.cost(chosen.params) / len(chosen.strengths)
    return 1.0


def _same(stored: StoredResult, start: StoredResult, lineage: Lineage) -> bool:
    """Tell whether a stored run is of a lineage, whole, and asked and scored as its start was."""
    recipe = part(stored.config, "made").get("recipe")
    alike = but_the_checkpoint(stored.config) == but_the_checkpoint(start.config)
    computed = computed_by(stored.provenance) == computed_by(start.provenance)
    return recipe == lineage.recipe and alike and computed and not fault(stored)


def _of_other(folder: Path, lineage: Lineage) -> bool:
    """Tell whether a folder holds a probed run of another model or protocol."""
    try:
        there = load(folder)
    except CorruptResult:
        return False
    recipe = None if there is None else part(there.config, "made").get("recipe")
    return there is not None and recipe != lineage.recipe
