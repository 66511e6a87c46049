"""Chooses each method's lr, epochs and λ for the built-in world, on worlds that no table shows.

``make demo-settings`` runs it; killed, the same command goes on. A setting passes on a world if it keeps
KnowMem Dr within a tenth of the target's and is neither collapsed nor degenerate there. Those that pass on
the first world are taken in the order of how near their forget columns lie to the retrain model's (the mean
of |value − retrain's| over VerbMem Df, KnowMem Df and PrivLeak); the first of them that passes on the second
world too is chosen. Where there is none, the one that keeps most of KnowMem Dr. Every method has as many
trials, each for as many epochs, and every epoch counts as a setting. What comes after a ruined epoch of a
trial is not looked at.
"""

import argparse
import csv
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.reproduce import methods
from muse_eval import plugins
from muse_eval.api import unlearn
from muse_eval.config import RunConfig, fingerprint
from muse_eval.mini.train import make_models
from muse_eval.pipelines import METHODS
from muse_eval.pipelines.epochs import models_by_epoch
from muse_eval.reading import parse_yaml
from muse_eval.results import StoredResult, load, scores, write_files
from muse_eval.results.degenerate import broken, judged
from muse_eval.scoring.run import run
from muse_eval.types import ignore

SEED, OTHER = 100, 101
"""The worlds that are chosen on; the tables show 0, 1 and 2."""
EPOCHS = 4
KEPT = 0.9
"""Share of the target's KnowMem Dr that has to be kept."""
FORGET = ("verbmem_f", "knowmem_f", "privleak")
UTILITY = "knowmem_r"
ALONE = ({"lr": 2.5e-5}, {"lr": 5e-5}, {"lr": 1e-4}, {"lr": 2e-4})
RETAINING = (
    {"lr": 1e-4, "lambda": 1.0},
    {"lr": 2e-4, "lambda": 4.0},
    {"lr": 1.5e-4, "lambda": 10.0},
    {"lr": 2e-4, "lambda": 10.0},
)
OWN: Mapping[str, Sequence[Mapping[str, float]]] = {
    "rmu": ({"lr": 5e-4}, {"lr": 1e-3}, {"lr": 2e-3}, {"lr": 4e-3}),
    # They end as one model, and α, not the training, says how far it goes.
    "task_vector": tuple({"lr": 5e-4, "alpha": alpha} for alpha in (0.5, 1.0, 2.0, 4.0)),
    "whp": tuple({"lr": 5e-4, "alpha": alpha} for alpha in (4.0, 16.0, 64.0, 256.0)),
}
SETTINGS = ("lr", "epochs", "lambda")
SHOWN = ("lr", "lambda", "alpha", "epochs")
TASK = Path("tasks/muse_mini.yaml")
CSV = "demo_settings.csv"


@dataclass(frozen=True)
class Tried:
    """One setting and what came of it."""

    method: str
    setting: dict[str, float]
    """As in the task's YAML: lr, epochs, λ and parameters."""
    values: dict[str, float | None]
    """Column to value; of what does not keep enough KnowMem Dr that column alone."""
    flags: list[str]
    """Those of a ruined model."""
    distance: float | None
    """Points; None where not all forget columns are there."""
    passes: bool


def trials(method: str) -> Sequence[Mapping[str, float]]:
    """Return what is tried for a method."""
    stem, term = plugins.split_method(method)
    return OWN.get(stem) or (RETAINING if term else ALONE)


def distance(values: Mapping[str, float | None], retrain: Mapping[str, float | None]) -> float | None:
    """Return the mean over the forget columns of how far a value lies from retrain's, else None."""
    pairs = [(values.get(name), retrain.get(name)) for name in FORGET]
    apart = [abs(value - other) for value, other in pairs if value is not None and other is not None]
    return sum(apart) / len(FORGET) if len(apart) == len(FORGET) else None


@dataclass(frozen=True)
class Choice:
    """What was chosen for a method."""

    tried: Sequence[Tried]
    best: Tried
    elsewhere: Mapping[int, bool]
    """Of those looked at on the other world, by their place among what was tried: whether they pass there."""


def choose(tried: Sequence[Tried], passes_elsewhere: Callable[[Tried], bool]) -> Choice:
    """Return the nearest to retrain that passes here and elsewhere, else the one that keeps most.

    Of equals it is the first.
    """
    elsewhere: dict[int, bool] = {}
    passing = [place for place, one in enumerate(tried) if one.passes]
    for place in sorted(passing, key=lambda place: tried[place].distance or 0.0):
        elsewhere[place] = passes_elsewhere(tried[place])
        if elsewhere[place]:
            return Choice(tried, tried[place], elsewhere)
    return Choice(tried, max(tried, key=lambda one: one.values[UTILITY] or 0.0), elsewhere)


# ── trying ───────────────────────────────────────────────────────────────────────────────────────
class Search:
    """Tries settings on one world; notes what came of each, so that nothing is tried twice."""

    def __init__(self, results: Path, seed: int) -> None:
        self.task = f"muse_mini-seed{seed}"
        self.home = results / "demo-settings" / self.task
        self.models = make_models(results / "models" / self.task, seed, ignore)
        self.target, self.retrain = (self.score(self.models[name], name) for name in ("target", "retrain"))

    def score(self, model: Path, name: str, *columns: str) -> StoredResult:
        """Score a model on some columns, or on all."""
        wanted = RunConfig(
            model=str(model),
            task=self.task,
            retrain=str(self.models["retrain"]),
            name=name,
            results=self.home,
            metrics=columns,
        )
        found = load(run(wanted, reuse=True, folder=self.home / "runs" / "-".join((name, *columns))).folder)
        assert found is not None
        return found

    def method(self, name: str) -> list[Tried]:
        """Return all that was tried for a method."""
        return [one for trial in trials(name) for one in self.trial(name, trial)]

    def passes(self, one: Tried) -> bool:
        """Tell whether a setting passes on this world."""
        trial = {name: value for name, value in one.setting.items() if name != "epochs"}
        *_, last = self.trial(one.method, trial, int(one.setting["epochs"]), last=True)
        return last.passes

    def trial(
        self, method: str, trial: Mapping[str, float], epochs: int = EPOCHS, last: bool = False
    ) -> list[Tried]:
        """Return what came of one trial's epochs, or of its last, from its note where there is one."""
        spec = plugins.task(self.task).unlearn
        stem, _ = plugins.split_method(method)
        params = spec.of(stem, method).params | {k: v for k, v in trial.items() if k not in SETTINGS}
        asked = {"trial": dict(trial), "epochs": epochs, "params": params}
        asked |= {"task": spec.model_dump(mode="json", exclude={"methods", "lr", "epochs", "lambda_"})}
        name = f"{method}-{fingerprint(asked)[:8]}"
        note = self.home / f"{name}.json"
        if note.is_file():
            return [Tried(**one) for one in json.loads(note.read_text(encoding="utf-8"))]
        out = unlearn(
            str(self.models["target"]),
            self.task,
            method,
            self.home / "models" / name,
            keep_checkpoints=plugins.leaves_epochs(method) and not last,
            lr=trial["lr"],
            epochs=epochs,
            lambda_=trial.get("lambda"),
            params=params,
        )
        models = [out] if last else models_by_epoch(out)
        found = self._epochs(method, trial, name, epochs, models)
        write_files(self.home, {note.name: json.dumps([asdict(one) for one in found], indent=1)})
        shutil.rmtree(out)
        return found

    def _epochs(
        self, method: str, trial: Mapping[str, float], name: str, epochs: int, models: Sequence[Path]
    ) -> list[Tried]:
        found: list[Tried] = []
        for model in models:
            epoch = epochs - len(models) + len(found) + 1
            found.append(self._look(method, {**trial, "epochs": epoch}, model, f"{name}-{epoch}"))
            if found[-1].flags:
                break
        return found

    def _look(self, method: str, setting: dict[str, float], model: Path, name: str) -> Tried:
        least = KEPT * (self.target.columns[UTILITY].value or 0.0)
        result = self.score(model, name, UTILITY)
        kept = (result.columns[UTILITY].value or 0.0) >= least
        if kept:
            result = self.score(model, name)
        *_, result = judged([self.target, self.retrain, result])
        flags = broken(flag for column in result.columns.values() for flag in column.flags)
        apart = distance(scores(result), scores(self.retrain))
        passes = kept and not flags and apart is not None
        return Tried(method, setting, scores(result), flags, apart, passes)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────
def to_csv(choices: Iterable[Choice]) -> str:
    """Return a line a setting; ``elsewhere`` is of those looked at on the other world."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["method", *SHOWN, *FORGET, UTILITY, "distance", "flags", "passes", "elsewhere", "chosen"]
    writer.writerow(head)
    said = {True: "yes", False: "no", None: ""}
    for choice in choices:
        for place, one in enumerate(choice.tried):
            setting = [one.setting.get(name, "") for name in SHOWN]
            numbers = [*(one.values.get(name) for name in (*FORGET, UTILITY)), one.distance]
            cells = ["" if value is None else f"{value:.2f}" for value in numbers]
            verdicts = [said[one.passes], said[choice.elsewhere.get(place)]]
            chosen = "yes" if one is choice.best else ""
            writer.writerow([one.method, *setting, *cells, ";".join(one.flags), *verdicts, chosen])
    return text.getvalue()


def with_settings(yaml: str, chosen: Mapping[str, Mapping[str, float]]) -> str:
    """Return the task's YAML with settings of some methods put over those under ``methods``."""
    block = re.search(r"^  methods:\n((?:    .+\n)*)", yaml, re.MULTILINE)
    assert block is not None
    known = parse_yaml(yaml, str(TASK))["unlearn"]["methods"]
    merged = {name: dict(own) for name, own in known.items()}
    for name, setting in chosen.items():
        merged[name] = merged.get(name, {}) | dict(setting)
    lines = (
        f"    {_quoted(name)}: {{{', '.join(f'{key}: {_number(value)}' for key, value in values.items())}}}\n"
        for name, values in sorted(merged.items())
    )
    return f"{yaml[: block.start(1)]}{''.join(lines)}{yaml[block.end(1) :]}"


def _quoted(name: str) -> str:
    return f'"{name}"' if "@" in name else name


def _number(value: float) -> str:
    """Return a number as YAML 1.1 reads one: 1e-4 would be a word."""
    if isinstance(value, int) or value >= 0.01:
        return str(value)
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa)}e{int(exponent)}"


def main() -> None:
    """Search, then write every setting tried to ``project/demo_settings.csv`` and the chosen to the task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--methods", help="comma-separated; else all, the demonstration's first")
    given = parser.parse_args()
    names = given.methods.split(",") if given.methods else list(dict.fromkeys((*METHODS, *methods())))
    search, other = (Search(given.results, seed) for seed in (SEED, OTHER))
    found = []
    for name in names:
        began = time.monotonic()
        found.append(choose(search.method(name), other.passes))
        best = found[-1].best
        print(f"{name}: {best.setting} {best.values}, {time.monotonic() - began:.0f} s", flush=True)
    write_files(given.results / "project", {CSV: to_csv(found)})
    text = TASK.read_text(encoding="utf-8")
    TASK.write_text(
        with_settings(text, {one.best.method: one.best.setting for one in found}), encoding="utf-8"
    )
    print(f"{TASK} and {given.results / 'project' / CSV}: written")


if __name__ == "__main__":
    main()
