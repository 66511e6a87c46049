"""The regression gate: stored results against a baseline with tolerances."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from muse_eval.config import Spec
from muse_eval.errors import UserError
from muse_eval.reading import parse_json, read_text
from muse_eval.results.comparable import MISFITS, departed
from muse_eval.results.rows import Goal, stored_headings, task_spec
from muse_eval.results.runs import REFERENCES, Number, StoredColumn, StoredResult, problem

LEAST_TOLERANCE = 0.5
"""Points; below this, a move tells nothing on the hundred examples of a column."""

Key = Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+$")]
"""``<task>/<name>``."""
Verdict = Literal["ok", "better", "worse", "moved", "missing"]


class Expected(Spec, strict=True):
    """The value a column had, and how far it may move; both in points."""

    value: Number
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    flags: tuple[str, ...] = ()
    """What the cell was flagged with; a value flagged otherwise measures something else."""
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]
    """In which parameters it departed from the protocol's letter; other ones measure something else."""


class Baseline(Spec, strict=True):
    """The content of ``baseline.json``: run to column to what is expected of it."""

    schema_version: Literal[1]
    runs: Annotated[dict[Key, dict[str, Expected]], Field(min_length=1)]


@dataclass(frozen=True)
class Comparison:
    """One column of one run, then and now."""

    run: str
    column: str
    baseline: float
    now: float | None
    moved: float | None
    """Now − baseline in points; for a column whose ideal is 0, how much farther from 0 it is."""
    tolerance: float
    verdict: Verdict
    why: str = ""
    """Why nothing can be told, where the verdict is ``missing``."""
    absent: bool = False
    """Whether the run was not scored here, or not on this column."""


@dataclass(frozen=True)
class Report:
    """Every column of the baseline compared, and the runs that the baseline does not know."""

    rows: tuple[Comparison, ...]
    unlisted: tuple[str, ...] = ()
    whole: bool = True
    """Whether all of the baseline must be there; else what is absent is named and left out."""

    @property
    def absent(self) -> tuple[Comparison, ...]:
        """What is in the baseline and was not scored here."""
        return tuple(row for row in self.rows if row.absent)

    def count(self, *verdicts: Verdict) -> int:
        """Count the rows with one of these verdicts."""
        return sum(row.verdict in verdicts for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 fine, 1 regression, 2 cannot tell; a regression outweighs what cannot be told."""
        if self.count("worse", "moved"):
            return 1
        untold = self.count("missing") - (0 if self.whole else len(self.absent))
        return 2 if untold or len(self.absent) == len(self.rows) else 0


# ── the baseline ─────────────────────────────────────────────────────────────────────────────────
def load_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        UserError: the file is missing, not JSON, or holds an unknown key, a wrong value or no run.
    """
    if not path.exists():
        raise UserError(f"baseline {path} does not exist; write one with: muse-eval check --update")
    try:
        text = read_text(path, "baseline")
        baseline = Baseline.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"baseline {path}: {problem(error)}") from None
    parse_json(text, f"baseline {path}")
    return baseline


def make_baseline(
    results: Iterable[StoredResult], tolerance: float | None = None, known: Baseline | None = None
) -> Baseline:
    """Take what was measured as the baseline; undefined cells are left out.

    Each tolerance is the one given, else the one the ``known`` baseline has for the cell, else the
    half-width of the cell's 95 % interval, at least 0.5. Known cells that were not measured now stay.

    Raises:
        UserError: no result has a value, or the tolerance is negative or not finite.
    """
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance >= 0):
        raise UserError(f"the tolerance must be a number of points from 0 up, not {tolerance}")
    runs = {key: dict(columns) for key, columns in known.runs.items()} if known else {}
    for result in sorted(results, key=lambda result: result.key):
        for name, column in result.columns.items():
            if column.value is not None:
                columns = runs.setdefault(result.key, {})
                kept = columns[name].tolerance if name in columns else _tolerance(column)
                own = kept if tolerance is None else tolerance
                value = round(column.value, 2)
                columns[name] = Expected(
                    value=value,
                    tolerance=own,
                    flags=_flags(column.flags),
                    settings=departed(result, name),
                )
    if not runs:
        raise UserError("there is no result to make a baseline of; score a model first: muse-eval run")
    return Baseline(schema_version=1, runs=dict(sorted(runs.items())))


def _tolerance(column: StoredColumn) -> float:
    half = (column.ci[1] - column.ci[0]) / 2 if column.ci else 0.0
    # Up to the next tenth; the inner rounding keeps 2.0 from becoming 2.1 by a float's last digit.
    return max(LEAST_TOLERANCE, math.ceil(round(half * 10, 6)) / 10)


def _flags(flags: Iterable[str]) -> tuple[str, ...]:
    # These follow from the values and answers, which are compared already.
    return tuple(sorted({*flags} - {"saturated", *MISFITS}))


def baseline_text(baseline: Baseline) -> str:
    """Return the text of ``baseline.json``, without the flags of cells that have none."""
    return baseline.model_dump_json(indent=2, exclude_defaults=True) + "\n"


# ── the comparison ───────────────────────────────────────────────────────────────────────────────
def only(baseline: Baseline, patterns: Iterable[str]) -> Baseline:
    """Return the part of a baseline whose runs match one of the patterns (``muse_mini/*``).

    Raises:
        UserError: a pattern matches none.
    """
    kept: dict[str, dict[str, Expected]] = {}
    for pattern in patterns:
        found = {key: columns for key, columns in baseline.runs.items() if fnmatchcase(key, pattern)}
        if not found:
            raise UserError(f"--only {pattern} matches no run of the baseline: {', '.join(baseline.runs)}")
        kept |= found
    return baseline.model_copy(update={"runs": dict(sorted(kept.items()))})


def compare(results: Iterable[StoredResult], baseline: Baseline, whole: bool = True) -> Report:
    """Compare every column of the baseline with its result.

    A cell flagged otherwise than in the baseline cannot be told: the two measure different things.
    The target and the retrain model are references: any move beyond tolerance counts, whichever way.

    Args:
        results: the runs that were scored here.
        baseline: what is expected of them.
        whole: whether all of the baseline must be there; else what is absent is named and left out.

    Raises:
        UserError: a result does not say which way is better.
    """
    found = {result.key: result for result in results}
    rows = tuple(
        _compare(found.get(run), run, column, expected)
        for run, columns in sorted(baseline.runs.items())
        for column, expected in columns.items()
    )
    return Report(rows, tuple(sorted(found.keys() - baseline.runs.keys())), whole)


def check(
    results: Iterable[StoredResult], baseline: Baseline, patterns: Iterable[str] = (), whole: bool = False
) -> Report:
    """Compare with a baseline, or with those of its runs that match a pattern, which must then be there.

    Raises:
        UserError: a pattern matches none, or a result does not say which way is better.
    """
    chosen = tuple(patterns)
    if not chosen:
        return compare(results, baseline, whole=whole)
    part_of_it = only(baseline, chosen)
    return compare((result for result in results if result.key in part_of_it.runs), part_of_it)


def _compare(result: StoredResult | None, run: str, name: str, expected: Expected) -> Comparison:
    then, tolerance = expected.value, expected.tolerance
    column = result.columns.get(name) if result else None
    if result is None or column is None or column.value is None:
        why = "no such run" if result is None else "not scored"
        if column is not None:
            why = column.reason or "undefined"
        return Comparison(run, name, then, None, None, tolerance, "missing", why, absent=column is None)
    now = column.value
    why = _asked_otherwise(departed(result, name), expected.settings)
    if why:
        return Comparison(run, name, then, now, None, tolerance, "missing", why)
    flags, known = _flags(column.flags), _flags(expected.flags)
    if flags != known:
        why = f"flags now: {', '.join(flags) or 'none'}; in the baseline: {', '.join(known) or 'none'}"
        return Comparison(run, name, then, now, None, tolerance, "missing", why)
    if result.name in REFERENCES:
        moved = points(now - then)
        verdict: Verdict = "moved" if abs(moved) > tolerance else "ok"
        return Comparison(run, name, then, now, moved, tolerance, verdict)
    goal = _goal(result, name)
    moved = points(abs(now) - abs(then) if goal == "zero" else now - then)
    badly = -moved if goal == "higher" else moved
    verdict = "worse" if badly > tolerance else "better" if badly < -tolerance else "ok"
    return Comparison(run, name, then, now, moved, tolerance, verdict)


def _asked_otherwise(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Name the parameters that differ between a run and its baseline; empty where none does."""

    def word(values: Mapping[str, Any], name: str) -> str:
        return json.dumps(values[name]) if name in values else "its default"

    differing = [name for name in sorted({*now, *then}) if now.get(name) != then.get(name)]
    told = (f"{name} is {word(now, name)} now, {word(then, name)} in the baseline" for name in differing)
    return "; ".join(told)


def points(moved: float) -> float:
    """Round a move as it is printed: one of exactly the tolerance is within it whatever its last digits."""
    return round(moved, 2)


def _goal(result: StoredResult, column: str) -> Goal:
    """Return which way is better, as the task had it when the run was scored, or as it is installed.

    Raises:
        UserError: neither tells.
    """
    spec = task_spec(result.task)
    stored = stored_headings(result).get(column) or (spec.columns.get(column) if spec else None)
    if stored is None or stored.goal is None:
        raise UserError(
            f"{result.key} does not say which way is better for {column!r}; score it again, "
            "or remove it from the baseline"
        )
    return stored.goal
