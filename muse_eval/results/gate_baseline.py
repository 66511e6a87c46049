"""The regression gate's baseline: what each cell was, of what, and how far it may move."""

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from muse_eval.config import Spec
from muse_eval.errors import UserError
from muse_eval.reading import parse_json, read_text
from muse_eval.results.comparable import MISFITS, departed
from muse_eval.results.degenerate import FLAG
from muse_eval.results.measured import Measured, measured, otherwise
from muse_eval.results.runs import Number, StoredColumn, StoredResult, problem
from muse_eval.results.whole import fault

LEAST_TOLERANCE = 0.5
"""Points; below this, a move tells nothing on the hundred examples of a column."""
MOST_TOLERANCE = 100.0
"""Points; a cell that may move so far guards nothing, and is refused."""

Key = Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+$")]
"""``<task>/<name>``."""


class Expected(Spec, strict=True):
    """The value a column had, and how far it may move; both in points."""

    value: Number
    tolerance: Annotated[float, Field(ge=0, lt=MOST_TOLERANCE, allow_inf_nan=False)]
    flags: tuple[str, ...] = ()
    """What the cell was flagged with; a value flagged otherwise measures something else."""
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]
    """In which parameters it departed from the protocol's letter; other ones measure something else."""


class Baseline(Spec, strict=True):
    """The content of ``baseline.json``: run to column to what is expected of it."""

    schema_version: Literal[1, 2]
    runs: Annotated[dict[Key, dict[str, Expected]], Field(min_length=1)]
    measured: Annotated[dict[Key, Measured], Field(default_factory=dict)]
    """What the values of a run are of; absent of a run from before version 2."""


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
        UserError: no result has a value, a result contradicts its records, or the tolerance is negative, not
            finite or so large that nothing would fail.
    """
    if tolerance is not None and not (math.isfinite(tolerance) and 0 <= tolerance < MOST_TOLERANCE):
        raise UserError(
            f"the tolerance must be a number of points from 0 up, under {MOST_TOLERANCE:g}, not {tolerance}"
        )
    of = dict(known.measured) if known else {}
    runs = {key: dict(columns) for key, columns in known.runs.items()} if known else {}
    for result in sorted(results, key=lambda result: result.key):
        if problem_there := fault(result, deep=True):
            raise UserError(f"{result.key} is not taken: {problem_there}; score it again")
        now = measured(result)
        if now.columns:
            of[result.key] = _joined(of.get(result.key), now)
        for name, column in result.columns.items():
            if column.value is not None:
                columns = runs.setdefault(result.key, {})
                kept = columns[name].tolerance if name in columns else _tolerance(column)
                own = kept if tolerance is None else tolerance
                value = round(column.value, 2)
                columns[name] = Expected(
                    value=value,
                    tolerance=own,
                    flags=compared_flags(column.flags),
                    settings=departed(result, name),
                )
    if not runs:
        raise UserError("there is no result to make a baseline of; score a model first: muse-eval run")
    return Baseline(schema_version=2, runs=dict(sorted(runs.items())), measured=dict(sorted(of.items())))


def _joined(known: Measured | None, now: Measured) -> Measured:
    """Keep what is known of columns that were not measured now, where the rest of the run is the same."""
    if known is None or _run(known) != _run(now):
        return now
    return now.model_copy(update={"columns": {**known.columns, **now.columns}})


def _tolerance(column: StoredColumn) -> float:
    half = (column.ci[1] - column.ci[0]) / 2 if column.ci else 0.0
    # Up to the next tenth; the inner rounding keeps 2.0 from becoming 2.1 by a float's last digit.
    return min(max(LEAST_TOLERANCE, math.ceil(round(half * 10, 6)) / 10), MOST_TOLERANCE - 0.1)


def compared_flags(flags: Iterable[str]) -> tuple[str, ...]:
    """Return those of a cell's flags that say what it measures, sorted."""
    # These follow from the values and answers, which are compared already.
    return tuple(sorted({*flags} - {"saturated", FLAG, *MISFITS}))


def baseline_text(baseline: Baseline) -> str:
    """Return the text of ``baseline.json``, without the flags of cells that have none."""
    return baseline.model_dump_json(indent=2, exclude_defaults=True) + "\n"


def changes(before: Baseline | None, after: Baseline) -> list[str]:
    """Return a line for each cell that ``after`` has otherwise, such as ``t/npo verbmem_f 9.0 → 14.2``."""

    def told(key: str, name: str) -> str:
        new, old = after.runs[key][name], before.runs.get(key, {}).get(name) if before else None
        if before is None or old is None:
            return f"{key} {name} {new.value} (new)"
        parts = [] if old.value == new.value else [f"{old.value} → {new.value}"]
        if old.tolerance != new.tolerance:
            parts.append(f"tolerance {old.tolerance} → {new.tolerance}")
        for what, then, now in (("flags", old.flags, new.flags), ("settings", old.settings, new.settings)):
            if then != now:
                parts.append(f"{what} {then or 'none'} → {now or 'none'}")
        past, present = before.measured.get(key), after.measured.get(key)
        if past is None and present is not None:
            parts.append("what it is of is noted now")
        elif past and present and _of(past, name) != _of(present, name):
            parts.append(f"of something else: {_difference(present, past, name)}")
        return f"{key} {name} {', '.join(parts)}" if parts else ""

    return [line for key, columns in after.runs.items() for name in columns if (line := told(key, name))]


def _of(one: Measured, name: str) -> tuple[Any, ...]:
    return *_run(one), one.columns.get(name)


def _run(one: Measured) -> tuple[Any, ...]:
    return one.engine, one.retrain, one.limit, one.seed


def _difference(now: Measured, then: Measured, name: str) -> str:
    if name not in now.columns or name not in then.columns:
        return "it was not measured before"
    return otherwise(now, then, name, 0.0) or "its retrain AUC"
