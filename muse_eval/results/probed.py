"""Probed runs, read: each model's scores at every strength beside retrain's, example by example."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from muse_eval.results.comparable import data_of
from muse_eval.results.lineage import NOW, Probing, part
from muse_eval.results.probe_verdict import RETRAIN, Course, Ratio, Step, adjusted, judge
from muse_eval.results.runs import StoredResult
from muse_eval.results.scores import ScoreReader, Scores, minus

Floats = NDArray[np.float64]
NEEDED = {field.name for field in fields(Probing)}


@dataclass(frozen=True)
class _Raw:
    """The scores behind a course; of retrain none where it is not there, or of other examples."""

    course: Course
    now: Scores
    after: tuple[Scores, ...]
    base_now: Scores | None
    base_after: tuple[Scores | None, ...]


def courses(runs: Iterable[StoredResult]) -> list[Course]:
    """Return the courses of probed runs of one task: models in the order given, retrain's own among them.

    A strength counts where the model was scored before the probe on the same examples. Retrain is beside
    where it was put to the very same probe.
    """
    found = [run for run in runs if run.probing.keys() >= NEEDED]
    reader, raw = ScoreReader(), []
    by_place = {_place(run): run for run in found}
    for model in dict.fromkeys(str(run.probing["of"]) for run in found):
        own = [run for run in found if run.probing["of"] == model and run.probing["name"]]
        for probe in dict.fromkeys(str(run.probing["name"]) for run in own):
            under = sorted(
                (run for run in own if run.probing["name"] == probe), key=lambda run: run.probing["place"]
            )
            raw += _under(reader, model, probe, under, by_place)
    return _judged(raw)


def _place(run: StoredResult) -> tuple[str, str, str]:
    told = run.probing
    return str(told["of"]), str(told["name"]), str(told["strength"])


def _under(
    reader: ScoreReader,
    model: str,
    probe: str,
    under: Sequence[StoredResult],
    by_place: Mapping[tuple[str, str, str], StoredResult],
) -> list[_Raw]:
    """Return the scores of one model under one probe, column by column."""
    start = by_place.get((model, "", NOW))
    if start is None:
        return []
    found = []
    for column in under[-1].columns:
        now = _scores(reader, start, column)
        kept = [
            (run, scores)
            for run in under
            if now and (scores := _scores(reader, run, column)) and _alike(start, run, column, now, scores)
        ]
        if now is None or not kept:
            continue
        base_now = None
        if model != RETRAIN:
            base_now = _beside(reader, by_place.get((RETRAIN, "", NOW)), start, column, now)
        base_after = [
            base_now
            and _beside(
                reader, by_place.get((RETRAIN, probe, str(run.probing["strength"]))), run, column, now
            )
            for run, _ in kept
        ]
        spec = part(part(part(start.config, "task"), "columns"), column)
        low, high = start.columns[column].ci or (now.value, now.value)
        course = Course(
            model,
            probe,
            column,
            str(spec.get("title", column)),
            now.n,
            now.value,
            low,
            high,
            base_now.value if base_now else None,
            minus(now, base_now) if base_now else None,
            tuple(
                _step(run, column, now, after, base_now, base)
                for (run, after), base in zip(kept, base_after, strict=True)
            ),
        )
        found.append(_Raw(course, now, tuple(after for _, after in kept), base_now, tuple(base_after)))
    return found


def _scores(reader: ScoreReader, run: StoredResult, column: str) -> Scores | None:
    found = reader.of(run, column) if column in run.columns else None
    return found if isinstance(found, Scores) else None


def _beside(
    reader: ScoreReader, retrain: StoredResult | None, run: StoredResult, column: str, own: Scores
) -> Scores | None:
    """Return retrain's scores where it was asked the same in the same way, else none."""
    if retrain is None or column not in retrain.columns:
        return None
    found = _scores(reader, retrain, column)
    asked_alike = retrain.probing.get("params") == run.probing.get("params")
    return found if found and asked_alike and _alike(retrain, run, column, found, own) else None


def _alike(one: StoredResult, other: StoredResult, column: str, scores: Scores, others: Scores) -> bool:
    """Tell whether two runs scored the same examples; a probe may ask about them in other words."""
    places = ([example[:2] for example in found.examples] for found in (scores, others))
    return data_of(one, column) == data_of(other, column) and next(places) == next(places)


def _step(
    run: StoredResult, column: str, now: Scores, after: Scores, base_now: Scores | None, base: Scores | None
) -> Step:
    low, high = run.columns[column].ci or (after.value, after.value)
    told = run.probing
    plain = Step(str(told["strength"]), str(told["says"]), after.value, low, high)
    if base_now is None or base is None:
        return plain
    return replace(
        plain,
        retrain=base.value,
        more=minus(gain(after, now), gain(base, base_now)),
        above=minus(after, base),
    )


def gain(after: Scores, now: Scores) -> Scores:
    """Return what a model has gained, example by example and in every resample."""
    each = None if after.each is None or now.each is None else after.each - now.each
    return replace(now, value=after.value - now.value, drawn=after.drawn - now.drawn, each=each)


# ── what it comes to ─────────────────────────────────────────────────────────────────────────────
def _judged(raw: Sequence[_Raw]) -> list[Course]:
    """Return the courses with their ratios and verdicts; p is adjusted over each model's probe."""
    found = {}
    for key in dict.fromkeys((one.course.model, one.course.probe) for one in raw):
        group = [one for one in raw if (one.course.model, one.course.probe) == key]
        family = [one.course for one in group]
        for one, course in zip(group, adjusted(family), strict=True):
            found[id(one)] = judge(_with_ratios(course, one))
    return [found[id(one)] for one in raw]


def _with_ratios(course: Course, raw: _Raw) -> Course:
    at = course.steps.index(course.worst)
    after, base = raw.after[at], raw.base_after[at]
    kept = _ratio(raw.now.value, after.value, raw.now.drawn, after.drawn)
    if raw.base_now is None or base is None:
        return replace(course, kept=kept)
    own, theirs = gain(after, raw.now), gain(base, raw.base_now)
    return replace(course, kept=kept, gained=_ratio(theirs.value, own.value, theirs.drawn, own.drawn))


def _ratio(above: float, below: float, drawn_above: Floats, drawn_below: Floats) -> Ratio:
    """Return above / below, at most 1 and at least 0, and 1 where nothing is below, with its interval."""

    def clipped(one: Floats, other: Floats) -> Floats:
        divided = np.divide(one, other, out=np.ones_like(other), where=other > 0)
        return np.asarray(np.clip(divided, 0.0, 1.0))

    value = clipped(np.asarray([above], float), np.asarray([below], float))[0]
    low, high = np.percentile(clipped(drawn_above, drawn_below), [2.5, 97.5])
    return Ratio(float(value), float(low), float(high))
