"""How a comparison of runs reads: lines of at most 80 characters, and plain values."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from muse_eval.errors import counted
from muse_eval.printable import one_line
from muse_eval.results.compared import ColumnComparison, Comparison, Pair, Side
from muse_eval.results.rows import ARROWS
from muse_eval.statistics import Difference

WIDTH = 80
LEAST_P = 0.0001
FROM_RETRAIN = "distance to retrain"


def to_json(found: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values; differences are in points, p unrounded."""
    columns = {}
    for column in found.columns:
        whole = asdict(column)
        pairs = [{**asdict(pair), "verdict": verdict(column, pair, found.ruined)} for pair in column.pairs]
        columns[whole.pop("name")] = {**whole, "pairs": pairs}
    return {"task": found.task, "runs": found.runs, "columns": columns, "notes": found.notes}


def verdict(column: ColumnComparison, pair: Pair, ruined: Mapping[str, Sequence[str]]) -> str:
    """Return a pair's verdict in words; of a ruined model no nearer value is called a success."""
    thing = _thing(column)
    if pair.better is not None:
        gap = pair.judged if pair.better == pair.other else _turned(pair.judged)
        how = "nearer to retrain" if column.judged_by.startswith("distance") else "better"
        but = f", but it is {', '.join(flags)}" if (flags := ruined.get(pair.better)) else ""
        return f"{pair.better} is {how} by {_gap(gap)}{but}"
    if column.goal is None:
        return "the task does not say which way is better"
    what = (
        "no difference in distance to retrain"
        if column.judged_by.startswith(FROM_RETRAIN)
        else "no difference"
    )
    least = "n/a, no resample differs" if pair.judged.least is None else f"{pair.judged.least:.1f}"
    return f"{what} that {counted(column.n, thing)} could show (smallest: {least})"


def lines(found: Comparison) -> list[str]:
    """Return a comparison as lines; nothing in them can command a terminal."""
    wide = max(map(len, map(one_line, found.runs)))
    told = []
    for column in found.columns:
        head = (
            f"{column.title}{ARROWS[column.goal]}, {counted(column.n, _thing(column))}, "
            f"judged by {column.judged_by}"
        )
        told += ["", *_wrapped(head, "")]
        told += [line for name, side in column.sides.items() for line in _side(name, side, wide)]
        told += [line for pair in column.pairs for line in _pair(column, pair, found)]
        told += [line for note in column.notes for line in _wrapped(f"note: {note}", "  ")]
    told += ["", *(line for note in found.notes for line in _wrapped(f"note: {note}", ""))]
    how = "differences are paired by example, with 95 % intervals; p is two-sided, of what the verdict says"
    return [
        *told[1:],
        *_wrapped(how + (", adjusted by Holm over a column's pairs" if len(found.runs) > 2 else ""), ""),
    ]


def _thing(column: ColumnComparison) -> str:
    if column.pairs and column.pairs[0].apart:
        return "text"
    return "question" if column.title.lower().startswith("knowmem") else "example"


def _side(name: str, side: Side, wide: int) -> Iterable[str]:
    text = f"{side.value:7.1f}"
    if side.interval is not None:
        text += f" [{side.interval[0]:.1f}, {side.interval[1]:.1f}]"
    if side.from_retrain is not None:
        text += f"  from retrain {_signed(side.from_retrain)}"
    if side.rates:
        rates = " and ".join(f"{tpr:.0%} at {float(fpr):.0%}" for fpr, tpr in side.rates.items())
        text += f"  forget texts found: {rates} false alarms"
    if side.flags:
        text += f"  ({', '.join(side.flags)})"
    # The name is padded behind one_line, which takes spaces together.
    first, *rest = textwrap.wrap(one_line(text), max(30, WIDTH - wide - 12)) or [""]
    number, _, more = first.partition(" ")
    return [
        f"  {one_line(name):<{wide}}  {number:>6} {more}".rstrip(),
        *(" " * (wide + 11) + line for line in rest),
    ]


def _pair(column: ColumnComparison, pair: Pair, found: Comparison) -> Iterable[str]:
    p = "p < 0.0001" if pair.p < LEAST_P else f"p {pair.p:.4f}"
    holm = " (Holm)" if len(found.runs) > 2 else ""
    yield from _wrapped(f"{pair.other} − {pair.one}: {_signed(pair.difference)}", "  ")
    yield from _wrapped(f"{verdict(column, pair, found.ruined)}, {p}{holm}", "    ")
    if pair.apart:
        apart = (f"{split} {distance:.2f} (p {_p(p)})" for split, (distance, p) in pair.apart.items())
        yield from _wrapped(f"scores apart (Kolmogorov–Smirnov): {', '.join(apart)}", "    ")


def _p(p: float) -> str:
    return "< 0.0001" if p < LEAST_P else f"{p:.4f}"


def _gap(gap: Difference) -> str:
    return f"{gap.value:.1f} [{gap.low + 0.0:.1f}, {gap.high:.1f}]"


def _signed(gap: Difference) -> str:
    return f"{gap.value:+.1f} [{gap.low:.1f}, {gap.high:.1f}]"


def _turned(gap: Difference) -> Difference:
    return Difference(-gap.value, -gap.high, -gap.low, gap.p, gap.least)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        one_line(text), WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
    )
