"""The two CSVs and the table of docs/protocol.md: every model's scores, and what they say of the scores."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import mean

import numpy as np

from benchmarks.meta.plan import AS_RECIPE
from benchmarks.meta.readings import AUC, Reading, readings
from benchmarks.meta.trust import (
    Drawn,
    Estimate,
    Seen,
    faithfulness,
    harmonic,
    mean_over,
    quantization,
    relearning,
)
from benchmarks.meta.work import NOW, QUANTIZED, RELEARNED, Values
from muse_eval.results.utility import KEPT

PART = "metric-trust"
UNMEASURED = "Not measured yet: `make meta`."
UTILITY = "knowmem_r"
LEFT_OUT = (5, 10, 30, 50)
"""Shares of Min-k% that are in the CSV alone; those beside them say the same."""
KEYS = ("world", "group", "made", "state")


@dataclass(frozen=True)
class Scored:
    """One model in one state, and its scores."""

    seed: int
    group: str
    made: str
    state: str
    values: Values


@dataclass(frozen=True)
class Trust:
    """What the models say of one score."""

    measure: str
    kind: str
    reads: str
    """The direction that is read as knowledge."""
    n_with: int
    n_without: int
    mean_with: float | None
    """Of the score itself."""
    mean_without: float | None
    mean_unlearned: float | None
    faithfulness: Estimate
    n_relearning: int
    """Unlearned models whose ratio is defined."""
    relearning: Estimate
    n_quantization: int
    quantization: Estimate
    aggregate: Estimate


# ── every model ──────────────────────────────────────────────────────────────────────────────────
def models_csv(models: Sequence[Scored]) -> str:
    """Return a line a model and state, six significant digits of each score."""
    names = list(dict.fromkeys(name for one in models for name in one.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*KEYS, *names])
    for one in models:
        cells = [one.values.get(name) for name in names]
        keys = [one.seed, one.group, one.made, one.state]
        writer.writerow([*keys, *("" if value is None else f"{value:.6g}" for value in cells)])
    return text.getvalue()


def read_models(text: str) -> list[Scored]:
    """Read what ``models_csv`` wrote."""
    found = []
    for row in csv.DictReader(io.StringIO(text)):
        world, group, made, state = (row.pop(key) for key in KEYS)
        values = {name: float(value) if value else None for name, value in row.items()}
        found.append(Scored(int(world), group, made, state, values))
    return found


# ── every score ──────────────────────────────────────────────────────────────────────────────────
def judge(models: Sequence[Scored]) -> list[Trust]:
    """Say of every score how far it is to be trusted."""
    names = dict.fromkeys(name for one in models for name in one.values)
    drawn = Drawn.of(sorted({one.seed for one in models}))
    return [_trust(reading, models, drawn) for reading in readings(names)]


def _trust(reading: Reading, models: Sequence[Scored], drawn: Drawn) -> Trust:
    def of(group: str) -> list[Scored]:
        return [
            one
            for one in models
            if (one.group, one.state) == (group, NOW) and one.values.get(reading.source) is not None
        ]

    def seen(found: Iterable[Scored]) -> Seen:
        listed = list(found)
        leaks = [reading.leak(value) for one in listed if (value := one.values[reading.source]) is not None]
        return Seen([one.seed for one in listed], leaks)

    def average(found: Sequence[Scored]) -> float | None:
        return mean(one.values[reading.source] or 0.0 for one in found) if found else None

    having, lacking, unlearned = of("with"), of("without"), of("unlearned")
    right = (
        faithfulness(seen(having), seen(lacking), drawn)
        if having and lacking
        else np.full(len(drawn.counts), np.nan)
    )
    relearned = _ratios(reading, models, RELEARNED)
    rounded = _ratios(reading, models, QUANTIZED)
    again, coarse = mean_over(relearned, drawn), mean_over(rounded, drawn)
    return Trust(
        measure=reading.name,
        kind=reading.kind,
        reads=reading.says,
        n_with=len(having),
        n_without=len(lacking),
        mean_with=average(having),
        mean_without=average(lacking),
        mean_unlearned=average(unlearned),
        faithfulness=Estimate.of(right),
        n_relearning=len(relearned.leaks),
        relearning=Estimate.of(again),
        n_quantization=len(rounded.leaks),
        quantization=Estimate.of(coarse),
        aggregate=Estimate.of(harmonic(right, harmonic(again, coarse))),
    )


def _ratios(reading: Reading, models: Sequence[Scored], state: str) -> Seen:
    """Return R (or Q) of every unlearned model that kept its utility and has one."""
    leaks = {
        (one.seed, one.group, one.made, one.state): reading.leak(value)
        for one in models
        if (value := one.values.get(reading.source)) is not None
    }
    seeds, ratios = [], []
    for one in kept(models):
        before, after = (leaks.get((one.seed, one.group, one.made, when)) for when in (NOW, state))
        if before is None or after is None:
            continue
        ratio = (
            quantization(before, after)
            if state == QUANTIZED
            else _relearning(leaks, one.seed, after - before)
        )
        if ratio is not None:
            seeds.append(one.seed)
            ratios.append(ratio)
    return Seen(seeds, ratios)


def _relearning(leaks: Mapping[tuple[int, str, str, str], float], seed: int, gain: float) -> float | None:
    own = {key[3]: leak for key, leak in leaks.items() if key[:2] == (seed, "retrain")}
    return relearning(own[RELEARNED] - own[NOW], gain) if {RELEARNED, NOW} <= own.keys() else None


def kept(models: Sequence[Scored]) -> list[Scored]:
    """Return the unlearned models whose KnowMem Dr is at least 0.8 × that of their world's target."""
    targets = {
        one.seed: one.values[UTILITY] or 0.0 for one in models if (one.group, one.made) == ("with", AS_RECIPE)
    }
    return [
        one
        for one in models
        if (one.group, one.state) == ("unlearned", NOW)
        and (one.values[UTILITY] or 0.0) >= KEPT * targets.get(one.seed, 0.0)
    ]


# ── writing ──────────────────────────────────────────────────────────────────────────────────────
def trust_csv(found: Sequence[Trust]) -> str:
    """Return a line a score, every figure with the ends of its interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(name for name, _ in _cells(found[0]))
    for one in found:
        writer.writerow(cell for _, cell in _cells(one))
    return text.getvalue()


def _cells(one: Trust) -> list[tuple[str, str]]:
    cells: list[tuple[str, str]] = []
    for field in fields(one):
        value = getattr(one, field.name)
        if isinstance(value, Estimate):
            ends = {"": value.value, "_low": value.low, "_high": value.high}
            cells += [(f"{field.name}{end}", _number(figure, ".4f")) for end, figure in ends.items()]
        elif isinstance(value, float) or value is None:
            cells.append((field.name, _number(value, ".4g")))
        else:
            cells.append((field.name, str(value)))
    return cells


def markdown(found: Sequence[Trust], models: Sequence[Scored]) -> str:
    """Return the table of docs/protocol.md with the counts above it."""
    unlearned = [one for one in models if (one.group, one.state) == ("unlearned", NOW)]
    methods = ", ".join(f"`{name}`" for name in dict.fromkeys(one.made for one in unlearned))
    worlds = len({one.seed for one in models})
    lines = [
        f"{worlds} worlds, {max(one.n_with for one in found)} models with the knowledge, "
        f"{max(one.n_without for one in found)} without, {len(unlearned)} unlearned ({methods}), "
        f"of which {len(kept(models))} keep their utility.",
        "",
        "| score | knowledge is | mean with | mean without | faithfulness | R (n) | Q (n) | aggregate |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        if any(one.measure.startswith(f"{AUC}Min-{share}%") for share in LEFT_OUT):
            continue
        cells = [
            f"`{one.measure}`",
            one.reads,
            _number(one.mean_with, ".2f"),
            _number(one.mean_without, ".2f"),
            _with_ends(one.faithfulness),
            f"{_number(one.relearning.value, '.2f') or 'n/a'} ({one.n_relearning})",
            f"{_number(one.quantization.value, '.2f') or 'n/a'} ({one.n_quantization})",
            _with_ends(one.aggregate),
        ]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _with_ends(found: Estimate) -> str:
    if found.value is None:
        return "n/a"
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
