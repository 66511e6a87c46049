"""What a tune came to: its trials, ranked, as a table for the terminal and as CSV."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from muse_eval.config import TaskSpec
from muse_eval.results import ARROWS, Cell, Grid, StoredResult, asked_notes, composite, plain_cell, remarks
from muse_eval.results.best import best_cells
from muse_eval.results.cells import csv_text
from muse_eval.results.degenerate import broken
from muse_eval.results.rows import row
from muse_eval.tuning.grid import Point, short


@dataclass(frozen=True)
class Trial:
    """One setting and what came of it."""

    name: str
    """Fingerprint of everything that decides its numbers; it names the trial's folders."""
    point: Point
    result: StoredResult | None
    """None where it failed."""
    seconds: float | None = None
    """Spent on training and on the model's answers."""
    failure: str = ""
    final: bool = True
    """Whether trying again would come to the same."""

    def value(self, name: str) -> float | None:
        """Return a composite of its scores; None where it failed or one of them is undefined."""
        if self.result is None:
            return None
        return composite(name, {key: column.value for key, column in self.result.columns.items()})

    @property
    def flags(self) -> list[str]:
        """What its numbers have to be read with, over all columns."""
        columns = self.result.columns.values() if self.result else ()
        return list(dict.fromkeys(flag for column in columns for flag in column.flags))

    def rank_value(self, name: str, flagged: bool) -> float | None:
        """Return what it is ranked by: the composite, of a ruined model only where ``flagged`` says so."""
        return None if broken(self.flags) and not flagged else self.value(name)


@dataclass(frozen=True)
class Tuned:
    """What a tune came to so far."""

    task: TaskSpec
    names: tuple[str, ...]
    """What was tuned, in the order of the grid."""
    composite: str
    trials: list[Trial]
    """From best to worst; then those of ruined models, those without a composite, and those that failed."""
    folder: Path
    """Holds ``trials.csv``, and a folder of evidence for each trial."""
    model: Path | None = None
    """The best one's weights, where they are kept."""
    command: str = ""
    """What makes the best one's weights again."""
    rank_flagged: bool = False
    """Whether ruined models, collapsed or degenerate, are ranked too."""
    retrain: StoredResult | None = None
    """The retrain model's stored run, which forget columns are judged by; None: it is not known."""

    @property
    def best(self) -> Trial | None:
        """The first in rank, where there is any with a composite."""
        first = next(iter(self.trials), None)
        ranked = first and first.rank_value(self.composite, self.rank_flagged) is not None
        return first if ranked else None

    def passes_over(self, trial: Trial) -> bool:
        """Tell whether a trial has no rank: it failed, or ruined its model."""
        return trial.result is None or (bool(broken(trial.flags)) and not self.rank_flagged)


def rank(trials: Iterable[Trial], name: str, flagged: bool = False) -> list[Trial]:
    """Order trials from the highest composite to the lowest, then those without one, then failed ones.

    Ruined models come behind the others that have a composite, unless ``flagged`` says that they rank among
    them. Among equals the one that was tried first goes first.
    """

    def key(trial: Trial) -> tuple[bool, bool, bool, float]:
        value = trial.value(name)
        passed = trial.rank_value(name, flagged) is None
        return trial.result is None, value is None, passed, -(value or 0.0)

    return sorted(trials, key=key)


def table(tuned: Tuned) -> Grid:
    """Lay out the trials that were scored: rank, setting, columns, composite, flags; the best marked."""
    columns = tuned.task.columns
    lines: list[list[Cell]] = []
    notes: dict[str, None] = {}
    scored = [(trial, trial.result) for trial in tuned.trials if trial.result is not None]
    bold = best_cells(columns, [row(result) for _, result in scored], tuned.retrain)
    for place, (trial, result) in enumerate(scored, start=1):
        found, value, best = result.columns, trial.value(tuned.composite), trial is tuned.best
        for column in found.values():
            notes |= dict.fromkeys(
                f"n/a: {text}" if column.value is None else text for text in remarks(column)
            )
        notes |= dict.fromkeys(asked_notes(result))
        cells = [
            "" if tuned.passes_over(trial) else str(place),
            *(short(trial.point[name]) for name in tuned.names),
        ]
        numbers = [plain_cell(found[name], (place - 1, name) in bold.cells) for name in columns]
        last = ["n/a" if value is None else f"{value:.2f}", ", ".join(trial.flags)]
        lines.append(
            [*(Cell(text, best=best) for text in cells), *numbers, *(Cell(text, best=best) for text in last)]
        )
    titles = [f"{spec.title}{ARROWS[spec.goal]}" for spec in columns.values()]
    return Grid(
        ["rank", *tuned.names, *titles, f"{tuned.composite} ↑", "flags"], lines, [*notes, *bold.notes]
    )


def to_csv(tuned: Tuned) -> str:
    """Return a line for each trial, in the order of their ranks; numbers are unrounded."""
    parts = ("", "_low", "_high", "_flags")
    columns = [f"{name}{part}" for name in tuned.task.columns for part in parts]
    lines: list[Sequence[object]] = [
        ["rank", "trial", *tuned.names, *columns, tuned.composite, "seconds", "failure"]
    ]
    for place, trial in enumerate(tuned.trials, start=1):
        cells: list[object] = ["" if tuned.passes_over(trial) else place, trial.name]
        cells += [trial.point[name] for name in tuned.names]
        for name in tuned.task.columns:
            column = trial.result.columns[name] if trial.result else None
            low, high = (column and column.ci) or (None, None)
            cells += [column and column.value, low, high, ";".join(column.flags) if column else ""]
        lines.append([*cells, trial.value(tuned.composite), trial.seconds, trial.failure])
    return csv_text(lines)
