"""Probed runs, read: each model's scores at every strength beside retrain's, example by example."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from muse_eval.config import canonical_json
from muse_eval.results.comparable import data_of, stored_params
from muse_eval.results.lineage import Probing, part, start_of
from muse_eval.results.probe_verdict import NONE_BESIDE, RETRAIN, Course, Ratio, Step, adjusted, judge
from muse_eval.results.runs import StoredResult
from muse_eval.results.scores import ScoreReader, Scores, minus

Floats = NDArray[np.float64]
NEEDED = {field.name for field in fields(Probing)}


@dataclass(frozen=True)
class _Raw:
    """The scores behind a course; of retrain none where it is not there, or of other examples."""

    course: Course
    now: Scores | None
    after: tuple[Scores, ...] = ()
    base_now: Scores | None = None
    base_after: tuple[Scores | None, ...] = ()


@dataclass(frozen=True)
class _Under:
    """A model under one protocol of a probe."""

    start: StoredResult
    """The model before all probes."""
    protocol: str
    runs: Mapping[str, StoredResult]
    """Strength to run, from the weakest on."""
    strengths: Sequence[str]
    """All that there were to be."""

    @property
    def rank(self) -> tuple[bool, float]:
        """What tells which of several protocols is shown: a whole one, of these the newest."""
        folders = [run.folder for run in self.runs.values() if run.folder is not None]
        newest = max(((folder / "result.json").stat().st_mtime for folder in folders), default=0.0)
        return self.runs.keys() >= {*self.strengths}, newest


def courses(runs: Iterable[StoredResult]) -> list[Course]:
    """Return the courses of probed runs of one task: models in the order given, retrain's own among them.

    Runs count whose model was made from the one that is stored as it was before. Retrain is beside where it
    was put to the very same probe. Of several protocols of one probe that one counts that retrain was put
    to, else that is whole, else that is newest. What has no value stays, with the reason.
    """
    found = [run for run in runs if run.probing.keys() >= NEEDED]
    starts = {str(run.probing["of"]): run for run in found if not run.probing["name"]}
    kinds: dict[tuple[str, str], dict[str, list[StoredResult]]] = {}
    for run in found:
        of, name = str(run.probing["of"]), str(run.probing["name"])
        if name and of in starts and run.probing["start"] == start_of(starts[of].config):
            kinds.setdefault((of, name), {}).setdefault(_protocol(run), []).append(run)
    reader = ScoreReader()
    raw: list[_Raw] = []
    for model in starts:
        for probe in (probe for of, probe in kinds if of == model):
            under = [_gathered(starts[model], key, own) for key, own in kinds[model, probe].items()]
            theirs = kinds.get((RETRAIN, probe), {})
            shown = max(under, key=lambda one: (one.protocol in theirs, *one.rank))
            base = None
            if RETRAIN in starts and model != RETRAIN:
                base = _gathered(starts[RETRAIN], shown.protocol, theirs.get(shown.protocol, []))
            left = {place for one in under for place in one.runs} - {*shown.runs}
            raw += _courses(reader, shown, base, sorted(left, key=lambda one: (len(one), one)))
    return _judged(raw)


def _protocol(run: StoredResult) -> str:
    return canonical_json([run.probing["params"], run.probing["done"]])


def _gathered(start: StoredResult, protocol: str, runs: Sequence[StoredResult]) -> _Under:
    ordered = sorted(runs, key=lambda run: run.probing["place"])
    strengths = [str(one) for run in ordered[:1] for one in run.probing["strengths"]]
    return _Under(start, protocol, {str(run.probing["strength"]): run for run in ordered}, strengths)


def _courses(reader: ScoreReader, under: _Under, base: _Under | None, left: Sequence[str]) -> Iterator[_Raw]:
    """Give the scores of one model under one probe, column by column."""
    told = next(iter(under.runs.values())).probing
    for column in dict.fromkeys(name for run in under.runs.values() for name in run.columns):
        spec = part(part(part(under.start.config, "task"), "columns"), column)
        plain = Course(
            str(told["of"]), str(told["name"]), column, str(spec.get("title", column)),
            0, None, None, None, None, None, (), left=tuple(left),
        )  # fmt: skip
        now = _scores(reader, under.start, column)
        if isinstance(now, str):
            yield _Raw(replace(plain, lacks=f"no value before the probe: {now}"), None)
            continue
        yield _raw(reader, plain, now, under, base)


def _raw(reader: ScoreReader, plain: Course, now: Scores, under: _Under, base: _Under | None) -> _Raw:
    column, lacks = plain.column, []
    base_now: Scores | None = None
    if base is not None:
        told = _like(reader, base.start, under.start, column, now)
        base_now = told if isinstance(told, Scores) else None
        if not base.runs:
            lacks.append("retrain was not put to the same probe in the same way")
        elif isinstance(told, str):
            lacks.append(f"retrain has no value before the probe: {told}")
    elif plain.model != RETRAIN:
        lacks.append(NONE_BESIDE)
    steps, after, base_after = [], [], []
    for strength in under.strengths or under.runs:
        run = under.runs.get(strength)
        scores = _like(reader, run, under.start, column, now)
        if run is None or isinstance(scores, str):
            says = f"at strength {strength}" if run is None else run.probing["says"]
            lacks.append(f"no value {says}: {scores}")
            continue
        theirs: Scores | None = None
        if base is not None and base.runs and base_now is not None:
            found = _like(reader, base.runs.get(strength), run, column, scores)
            theirs = found if isinstance(found, Scores) else None
            if isinstance(found, str):
                lacks.append(f"retrain has no value {run.probing['says']}: {found}")
        steps.append(_step(run, column, now, scores, base_now, theirs))
        after.append(scores)
        base_after.append(theirs)
    low, high = under.start.columns[column].ci or (now.value, now.value)
    course = replace(
        plain,
        n=now.n,
        now=now.value,
        low=low,
        high=high,
        retrain=base_now.value if base_now else None,
        apart=minus(now, base_now) if base_now else None,
        steps=tuple(steps),
        lacks=lacks[0] if lacks else "",
    )
    return _Raw(course, now, tuple(after), base_now, tuple(base_after))


def _scores(reader: ScoreReader, run: StoredResult | None, column: str) -> Scores | str:
    """Return a run's scores in a column, or why there are none."""
    if run is None or column not in run.columns:
        return "it was not scored"
    stored = run.columns[column]
    return reader.of(run, column) if stored.value is not None else stored.reason or "it is undefined"


def _like(
    reader: ScoreReader, run: StoredResult | None, other: StoredResult, column: str, others: Scores
) -> Scores | str:
    """Return a run's scores that another's are compared with, or why there are none."""
    found = _scores(reader, run, column)
    if run is None or isinstance(found, str):
        return str(found)
    return found if _alike(run, other, column, found, others) else "it was scored on other examples"


def _alike(one: StoredResult, other: StoredResult, column: str, scores: Scores, others: Scores) -> bool:
    """Tell whether two runs scored the same examples alike; a probe may ask about them in other words."""
    places = ([example[:2] for example in found.examples] for found in (scores, others))
    return (
        data_of(one, column) == data_of(other, column)
        and stored_params(one, column) == stored_params(other, column)
        and next(places) == next(places)
    )


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
    if raw.now is None or course.worst is None:
        return course
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
