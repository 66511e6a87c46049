"""How the regression gate's report reads: a line a column, one in all, plain values."""

from dataclasses import asdict
from itertools import groupby
from typing import Any

from muse_eval.errors import counted, listed
from muse_eval.results.gate import Comparison, Report, points


def lines(report: Report) -> list[str]:
    """Return one line per column, such as ``t/npo verbmem_f 9.0 → 14.2 (+5.2, tolerance ±2.0): worse``.

    What is absent is one line a task.
    """
    return [*(_line(row) for row in report.rows if not row.absent), *_absent_lines(report)]


def _absent_lines(report: Report) -> list[str]:
    verdict = "cannot tell" if report.whole else "not compared"
    told = []
    for task, some in groupby(report.rows, key=lambda row: row.run.partition("/")[0]):
        rows = list(some)
        columns: dict[str, list[str]] = {}
        for row in rows:
            if row.absent:
                columns.setdefault(row.run.partition("/")[2], []).append(row.column)
        gone = [name for name in columns if all(row.absent for row in rows if row.run == f"{task}/{name}")]
        partly = [f"{name} {', '.join(columns[name])}" for name in columns if name not in gone]
        runs = len({row.run for row in rows})
        parts = [f"{len(gone)} of {runs} not there ({listed('run', gone)})"] if gone else []
        parts += [f"not scored ({listed('column', partly)})"] if partly else []
        if parts:
            told.append(f"{task}: {'; '.join(parts)}: {verdict}")
    return told


def _line(row: Comparison) -> str:
    then = "n/a" if row.baseline is None else _short(row.baseline)
    start = f"{row.run} {row.column} {then} →"
    if row.now is None or row.moved is None or row.baseline is None:
        return f"{start} {'n/a' if row.now is None else _short(row.now)} ({row.why}): cannot tell"
    turned = row.moved != points(row.now - row.baseline)
    what = "distance from 0 " if turned else ""
    sign = "+" if row.moved >= 0 else "-"
    moved = f"{what}{sign}{_short(abs(row.moved))}"
    return f"{start} {_short(row.now)} ({moved}, tolerance ±{_short(row.tolerance)}): {row.verdict}"


def _short(value: float) -> str:
    """Print with two decimals, or one where the second is 0."""
    text = f"{round(value, 2) + 0.0:.2f}"
    return text.removesuffix("0")


def summary(report: Report) -> str:
    """Say in one line what came out."""
    left_out = 0 if report.whole else len(report.absent)
    absent = len({row.run for row in report.absent})
    counts = [
        (report.count("worse", "moved"), "regressed"),
        (report.count("missing") - left_out, "cannot be told"),
        (report.count("better"), "better (take it over with --update)"),
        (report.count("ok"), "within tolerance"),
        (left_out, f"not compared ({counted(absent, 'run')}; --all wants the whole baseline)"),
    ]
    parts = [f"{number} {what}" for number, what in counts if number]
    if report.unlisted:
        parts.append(f"not in the baseline: {', '.join(report.unlisted)}")
    if left_out == len(report.rows) > 0:
        parts[0] = f"none of the baseline's {counted(absent, 'run')} was scored here (make demo scores some)"
    verdict = ("fine", "regression", "cannot tell")[report.exit_code]
    compared = report.count("ok", "better", "worse", "moved")
    of_all = (
        f"; {compared} of the baseline's {counted(report.cells, 'cell')} compared" if report.cells else ""
    )
    return f"{verdict}: {', '.join(parts) or 'nothing to compare'}{of_all}"


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as plain values."""
    return {
        "exit_code": report.exit_code,
        "summary": summary(report),
        "rows": [asdict(row) for row in report.rows],
        "unlisted": list(report.unlisted),
        "whole": report.whole,
        "notes": list(report.notes),
    }
