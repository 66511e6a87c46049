"""What stands in a page of probes: each model's verdict, the table, a curve a probe, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muse_eval.reports.chosen import Chosen
from muse_eval.reports.examples import Column, link
from muse_eval.reports.pictures import Picture
from muse_eval.results import REFERENCES, Cell, StoredResult
from muse_eval.results.probe_table import probe_grid
from muse_eval.results.probe_verdict import RETRAIN, RULE, Course, deciding
from muse_eval.results.probed import courses

RULES = {
    **dict(part.split(": ", 1) for part in RULE.split("; ")),
    "not probed": "others on this page were put to probes, this model was not (muse-eval probe)",
    "cannot tell": "it was probed, and nothing can be concluded: no retrain model is beside it, a "
    "strength has no value, or examples are too few",
}
GONE = "holds"
"""The verdict that a page calls ``gone``."""
COLOURS = {"gone": "good", "hidden": "bad", "not unlearned": "bad"}


@dataclass(frozen=True)
class Standing:
    """What one model comes to under all probes."""

    name: str
    """``gone``, ``hidden``, ``not unlearned``, ``cannot tell`` or ``not probed``."""
    of: str
    rule: str
    colour: str
    sentence: str


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    cells: list[Cell]
    example: str
    """The link of the example that gained most; empty where there is none."""


@dataclass(frozen=True)
class Probes:
    """The page's part on probes; empty where nothing was probed."""

    courses: list[Course]
    runs: Mapping[tuple[str, str, str], StoredResult]
    """Model, probe and strength to the run."""

    @property
    def beside(self) -> dict[str, dict[str, list[str]]]:
        """Column to the runs of its worst strengths to the runs that are shown with each."""
        found: dict[str, dict[str, list[str]]] = {}
        for course in self.courses:
            own = self._run(course, course.model)
            if course.model in REFERENCES or own is None:
                continue
            compared = course.worst is not None and course.worst.retrain is not None
            base = self._run(course, RETRAIN) if compared else None
            shown = [RETRAIN, course.model, own.name, *([base.name] if base else [])]
            found.setdefault(course.column, {})[own.name] = shown
        return found

    def evidence(self, column: str) -> dict[str, StoredResult]:
        """Return the runs whose examples of a column are shown, by name."""
        names = {name for shown in self.beside.get(column, {}).values() for name in shown}
        return {one.name: one for one in self.runs.values() if one.name in names}

    def _run(self, course: Course, model: str) -> StoredResult | None:
        """Return a model's run at a course's worst strength."""
        worst = course.worst
        return None if worst is None else self.runs.get((model, course.probe, worst.strength))

    # ── what is shown ────────────────────────────────────────────────────────────────────────────
    def standing(self, model: str) -> Standing | None:
        """Return what a model comes to; None of a reference, and where no model was probed."""
        if not self.courses or model in REFERENCES:
            return None
        own = [one for one in self.courses if one.model == model]
        if not own:
            return Standing("not probed", "", RULES["not probed"], "plain", "")
        decides = deciding(own)
        probes = ", ".join(dict.fromkeys(one.probe for one in own))
        name = "gone" if decides.verdict == GONE else decides.verdict
        of = {"gone": f"under {probes}", "not unlearned": ""}.get(name, decides.why)
        return Standing(name, of, RULES[decides.verdict], COLOURS.get(name, "plain"), _sentence(own, probes))

    def lines(self, evidence: Sequence[Column]) -> list[Line]:
        """Return the table's lines, each with the example behind it."""
        told = [one for one in self.courses if one.model != RETRAIN]
        columns = {one.name: one for one in evidence}
        laid = probe_grid(self.courses).lines
        return [
            Line(list(cells), self._example(course, columns.get(course.column)))
            for course, cells in zip(told, laid, strict=True)
        ]

    def _example(self, course: Course, column: Column | None) -> str:
        run = self._run(course, course.model)
        if column is None or run is None or run.name not in column.block.get("beside", {}):
            return ""
        told = [one for one in column.block["examples"] if run.name in one["runs"]]
        return link(column, max(told, key=lambda one: _gain(one["runs"], course.model, run.name)), run.name)

    @property
    def header(self) -> list[str]:
        """The table's head."""
        return list(probe_grid(self.courses).header)

    @property
    def notes(self) -> list[str]:
        """What the table has to be read with."""
        return list(probe_grid(self.courses).notes)

    def pictures(self, names: Sequence[str]) -> list[Picture]:
        """Return a picture for each probe; of the page's names each keeps its colour."""
        from muse_eval.results.probe_figure import draw_probes

        among = [*REFERENCES, *(name for name in names if name not in REFERENCES)]
        found = []
        for probe in dict.fromkeys(one.probe for one in self.courses if one.steps):
            own = [one for one in self.courses if one.probe == probe]
            chart = draw_probes(own, among)
            found.append(Picture(f"probe-{probe}", f"Under {probe}", CAPTION, chart, _facts(own)))
        return found


CAPTION = (
    "The score before the probe and at each of its strengths, with 95 % intervals: what rises where "
    "retrain's does not was hidden. Strengths that are joined are degrees, the others kinds."
)


def probes(chosen: Chosen) -> Probes:
    """Return what is known of the models of a page under probes."""
    runs = {
        (str(one.probing["of"]), str(one.probing["name"]), str(one.probing["strength"])): one
        for one in chosen.probed
    }
    return Probes(courses(chosen.probed), runs)


def _sentence(own: Sequence[Course], probes: str) -> str:
    hidden = [f"{one.title} {one.why} ({one.probe})" for one in own if one.verdict == "hidden"]
    above = [one.title for one in own if one.verdict == "not unlearned"]
    if hidden:
        return f"Under probes: {'; '.join(hidden)}."
    if above:
        titles = ", ".join(dict.fromkeys(above))
        return f"Probed with {probes}: {titles} scores above retrain before any probe."
    if all(one.verdict == GONE for one in own):
        whys = "; ".join(dict.fromkeys(f"{one.title} under {one.probe}: {one.why}" for one in own))
        return f"Probed with {probes}: no gain beyond retrain's could be shown. {whys}."
    return f"Probed with {probes}: {deciding(own).why}."


def _gain(runs: Mapping[str, Any], model: str, probed: str) -> float:
    before, after = ((runs.get(name) or {}).get("score") or 0.0 for name in (model, probed))
    return float(after - before)


def _facts(courses: Sequence[Course]) -> list[list[str]]:
    """Return the numbers of one probe's curves, a line for each model and column."""
    longest = max(courses, key=lambda course: len(course.steps))
    strengths = [step.strength for step in longest.steps]
    lines = []
    for course in courses:
        known = {step.strength: f"{step.value:.1f}" for step in course.steps}
        cells = [known.get(strength, "") for strength in strengths]
        now = "n/a" if course.now is None else f"{course.now:.1f}"
        lines.append([f"{course.model}, {course.title}", now, *cells])
    return [["model, column", "now", *strengths], *lines]
