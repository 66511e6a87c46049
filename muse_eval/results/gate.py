"""The regression gate: stored results against a baseline with tolerances."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from muse_eval.errors import UserError, listed
from muse_eval.results.comparable import departed
from muse_eval.results.gate_baseline import (
    LEAST_TOLERANCE,
    Baseline,
    Expected,
    baseline_text,
    changes,
    compared_flags,
    load_baseline,
    make_baseline,
    only,
)
from muse_eval.results.measured import Measured, differs, installed_goal, measured, otherwise
from muse_eval.results.rows import Goal, stored_headings
from muse_eval.results.runs import REFERENCES, StoredResult
from muse_eval.results.whole import fault

__all__ = [
    "LEAST_TOLERANCE",
    "Baseline",
    "Comparison",
    "Expected",
    "Report",
    "baseline_text",
    "changes",
    "check",
    "compare",
    "load_baseline",
    "make_baseline",
    "only",
    "points",
]

Verdict = Literal["ok", "better", "worse", "moved", "missing"]


@dataclass(frozen=True)
class Comparison:
    """One column of one run, then and now."""

    run: str
    column: str
    baseline: float | None
    """None where the baseline does not have the column."""
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
    notes: tuple[str, ...] = ()
    """What the verdicts have to be read with, a line each."""
    every: bool = False
    """Whether every run that is there must be in the baseline."""
    cells: int = 0
    """How many cells the whole baseline has; 0 where only a part of it is known."""

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
        unguarded = self.every and self.unlisted
        return 2 if untold or unguarded or len(self.absent) == len(self.rows) else 0


# ── the comparison ───────────────────────────────────────────────────────────────────────────────
def compare(results: Iterable[StoredResult], baseline: Baseline, whole: bool = True) -> Report:
    """Compare every column of the baseline with its result.

    A result that contradicts its records, a cell flagged otherwise than in the baseline, and one of other
    examples, data, parameters or engine cannot be told. Other weights and other code are told and compared.
    The target and the retrain model are references: any move beyond tolerance counts, whichever way.

    Args:
        results: the runs that were scored here.
        baseline: what is expected of them.
        whole: whether all of the baseline must be there; else what is absent is named and left out.

    Raises:
        UserError: a result does not say which way is better.
    """
    found = {result.key: result for result in results}
    rows: list[Comparison] = []
    now: dict[str, Measured] = {}
    for run, columns in sorted(baseline.runs.items()):
        result = found.get(run)
        if result is None:
            rows += [_absent(run, name, expected, "no such run") for name, expected in columns.items()]
            continue
        now[run] = measured(result)
        rows += _of_run(result, columns, now[run], baseline.measured.get(run))
    return Report(
        tuple(rows), tuple(sorted(found.keys() - baseline.runs.keys())), whole, _notes(baseline, now)
    )


def check(
    results: Iterable[StoredResult],
    baseline: Baseline,
    patterns: Iterable[str] = (),
    whole: bool = False,
    every: bool = False,
) -> Report:
    """Compare with a baseline, or with those of its runs that match a pattern, which must then be there.

    With ``every``, each of the results must be in the baseline, whatever the patterns.

    Raises:
        UserError: a pattern matches none, or a result does not say which way is better.
    """
    chosen, found = tuple(patterns), list(results)
    cells = sum(map(len, baseline.runs.values()))
    if not chosen:
        return replace(compare(found, baseline, whole=whole), every=every, cells=cells)
    part_of_it = only(baseline, chosen)
    report = compare((result for result in found if result.key in part_of_it.runs), part_of_it)
    unlisted = sorted({result.key for result in found} - baseline.runs.keys()) if every else ()
    return replace(report, unlisted=tuple(unlisted), every=every, cells=cells)


def _notes(baseline: Baseline, now: Mapping[str, Measured]) -> tuple[str, ...]:
    then = baseline.measured
    pairs = [(run, one, then[run]) for run, one in now.items() if run in then]
    weights = [run for run, one, other in pairs if one.weights != other.weights]
    code = [run for run, one, other in pairs if one.code != other.code]
    old = [run for run in now if run not in then]
    told = []
    if weights:
        told.append(f"other weights than in the baseline, their values compared: {listed('run', weights)}")
    if code:
        told.append(f"scored by other code than in the baseline, values compared: {listed('run', code)}")
    if old:
        told.append(
            f"the baseline, of an older form, has nothing but values of {listed('run', old)}: n, data, "
            "parameters and engine are not compared; --update notes them"
        )
    return tuple(told)


def _absent(run: str, name: str, expected: Expected, why: str) -> Comparison:
    return Comparison(run, name, expected.value, None, None, expected.tolerance, "missing", why, absent=True)


def _of_run(
    result: StoredResult, columns: Mapping[str, Expected], now: Measured, then: Measured | None
) -> list[Comparison]:
    """Compare one run's columns; of one that is not whole nothing can be told."""
    problem, rows = fault(result, deep=True), []
    for name, expected in columns.items():
        column = result.columns.get(name)
        if column is None:
            rows.append(_absent(result.key, name, expected, "not scored"))
            continue
        told = Comparison(
            result.key, name, expected.value, column.value, None, expected.tolerance, "missing", problem
        )
        if column.value is None:
            told = replace(told, why=column.reason or "undefined")
        elif not problem:
            goal = _goal(result, name, then)
            told = replace(told, why=_untold(result, name, expected, now, then, goal))
            if not told.why:
                told = _judged(told, column.value, result.name in REFERENCES, goal)
        rows.append(told)
    # A baseline of an older form may have been made before a column could be scored.
    more = [name for name in now.columns if name not in columns] if then else []
    return rows + [
        Comparison(
            result.key, name, None, result.columns[name].value, None, 0.0, "missing", "not in the baseline"
        )
        for name in more
    ]


def _untold(
    result: StoredResult,
    name: str,
    expected: Expected,
    now: Measured,
    then: Measured | None,
    goal: Goal | None,
) -> str:
    """Say why a column's move would tell nothing; empty where it tells."""
    column = result.columns[name]
    if why := _asked_otherwise(departed(result, name), expected.settings):
        return why
    if then and name in then.columns and (why := otherwise(now, then, name, expected.tolerance)):
        return why
    stored = stored_headings(result).get(name)
    if installed := installed_goal(result.task, name):
        for there in (stored.goal if stored else None, goal):
            if there is not None and there != installed:
                return f"its goal is {there}, the task's is {installed}"
    flags, known = compared_flags(column.flags), compared_flags(expected.flags)
    if flags != known:
        return f"flags now: {', '.join(flags) or 'none'}; in the baseline: {', '.join(known) or 'none'}"
    return _bounds(expected, goal)


def _bounds(expected: Expected, goal: Goal | None) -> str:
    """Say why a baseline's cell guards nothing: a value that cannot be, or a tolerance that lets all pass."""
    value, tolerance = expected.value, expected.tolerance
    if goal in ("lower", "higher"):
        if not 0 <= value <= 100:
            return f"the baseline's value {value:g} is no percentage"
        if value - tolerance <= 0 and value + tolerance >= 100:
            return f"the baseline's tolerance {tolerance:g} lets every value pass"
    elif goal == "zero" and value < -100:
        return f"the baseline's value {value:g} is below -100"
    return ""


def _judged(told: Comparison, now: float, reference: bool, goal: Goal | None) -> Comparison:
    then, tolerance = told.baseline or 0.0, told.tolerance
    if reference:
        moved = points(now - then)
        verdict: Verdict = "moved" if abs(moved) > tolerance else "ok"
        return replace(told, moved=moved, verdict=verdict)
    moved = points(abs(now) - abs(then) if goal == "zero" else now - then)
    badly = -moved if goal == "higher" else moved
    verdict = "worse" if badly > tolerance else "better" if badly < -tolerance else "ok"
    return replace(told, moved=moved, verdict=verdict)


def _asked_otherwise(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Name the parameters that differ between a run and its baseline; empty where none does."""
    return differs("", now, then, absent="its default")


def points(moved: float) -> float:
    """Round a move as it is printed: one of exactly the tolerance is within it whatever its last digits."""
    return round(moved, 2)


def _goal(result: StoredResult, column: str, then: Measured | None) -> Goal | None:
    """Return which way is better: by the baseline, else the task as installed, else as it was scored.

    None of a reference of an unknown task, which needs none.

    Raises:
        UserError: none of them tells.
    """
    of = then.columns.get(column) if then else None
    stored = stored_headings(result).get(column)
    known = (of and of.goal) or installed_goal(result.task, column) or (stored.goal if stored else None)
    if known is None and result.name not in REFERENCES:
        raise UserError(
            f"{result.key} does not say which way is better for {column!r}; score it again, "
            "or remove it from the baseline"
        )
    return known
