"""What each model's numbers say, in plain sentences, and badges that each carry their rule."""

from collections.abc import Iterator
from dataclasses import dataclass

from muse_eval.printable import one_line
from muse_eval.reports.chosen import Chosen
from muse_eval.reports.distances import Distances
from muse_eval.reports.probes import Probes
from muse_eval.results import RunRow, StoredResult, part
from muse_eval.results.rows import FLAGS
from muse_eval.results.runs import StoredColumn

RULES = {
    "reference": "a model that the others are compared with",
    "like retrain": "no forget column lies apart from retrain's, and no other badge applies",
    "remembers": "a forget column lies on the target's side of retrain's: the whole 95 % interval of their "
    "difference does, paired by example",
    "past retrain": "a forget column lies beyond retrain's, the whole interval of their difference: more is "
    "gone than a model lacks that never saw the text",
    "utility lost": "the whole 95 % interval of a retain column lies under nine tenths of the target's value",
    "limited": "only the first examples were scored: it is not compared",
    "no retrain": "no retrain model was scored alike on the same data: nothing says what forgetting is",
    "undefined": "a column has no value: why stands below the table",
}
"""What each badge of ours means; a flag's badge has the flag's own rule."""
COLOURS = {"like retrain": "good", "reference": "plain", "remembers": "bad", "no retrain": "plain"}
BADGE_FLAGS = ("gated", "degenerate", "collapsed", "unanswered", "saturated")
"""Flags of a cell that say something of the whole model."""
RETAINED = 0.9
CERTAIN = 0.005
"""Percent within which the ends of an interval and a value count as the same: what a table shows as equal."""


@dataclass(frozen=True)
class Badge:
    """A word on a model."""

    name: str
    of: str
    """The titles of the columns that it is about; empty where it is about the model."""
    rule: str
    colour: str
    """``good``, ``warn``, ``bad`` or ``plain``."""


@dataclass(frozen=True)
class Verdict:
    """What one model's numbers say."""

    name: str
    badges: list[Badge]
    sentences: list[str]
    probed: str = ""
    """What it comes to under probes; leads to them."""


def verdicts(chosen: Chosen, distances: Distances, probes: Probes | None = None) -> list[Verdict]:
    """Return a verdict for each model, in the table's order."""
    found = []
    for row in chosen.rows:
        badges, said = _badges(chosen, distances, row), list(_sentences(chosen, row))
        standing = probes.standing(row["name"]) if probes else None
        if standing is None:
            found.append(Verdict(row["name"], badges, said))
            continue
        first = Badge(standing.name, standing.of, standing.rule, standing.colour)
        found.append(Verdict(row["name"], [first, *badges], said, standing.sentence))
    return found


# ── badges ───────────────────────────────────────────────────────────────────────────────────────
def _badges(chosen: Chosen, distances: Distances, row: RunRow) -> list[Badge]:
    found: dict[str, list[str]] = {}
    for name, column in _named(chosen, distances, row):
        found.setdefault(name, []).append(one_line(chosen.headings[column].title) if column else "")
    return [
        Badge(
            name,
            ", ".join(filter(None, of)),
            rule(name),
            COLOURS.get(name, "warn" if name in RULES else "bad"),
        )
        for name, of in found.items()
    ]


def rule(name: str) -> str:
    """Return what a badge means."""
    return RULES.get(name) or FLAGS.get(name, name)


def _named(chosen: Chosen, distances: Distances, row: RunRow) -> Iterator[tuple[str, str]]:
    """Yield each badge's name, and the column that it is about or an empty text."""
    if row["name"] not in chosen.unlearned:
        yield "reference", ""
        return
    flags = {flag for cell in row["columns"].values() for flag in cell.flags}
    if "limited" in flags:
        yield "limited", ""
        return
    found = [
        *((flag, "") for flag in BADGE_FLAGS if flag in flags),
        *_against_references(chosen, distances, row),
    ]
    found += [("undefined", name) for name, cell in row["columns"].items() if cell.value is None]
    yield from found or [("like retrain", "")]


def _against_references(chosen: Chosen, distances: Distances, row: RunRow) -> Iterator[tuple[str, str]]:
    compared = 0
    metrics = part(part(chosen.runs[row["name"]].config, "task"), "columns")
    for name, cell in row["columns"].items():
        heading = chosen.headings.get(name)
        target = chosen.reference("target", row, name)
        if heading is None or cell.value is None or part(metrics, name).get("metric") == "fluency":
            # How fluent a model is tells neither what it knows nor what it lost.
            continue
        if heading.goal == "higher":
            kept = target.columns[name].value if target else None
            if kept is not None and _ends(cell)[1] < RETAINED * kept - CERTAIN:
                yield "utility lost", name
            continue
        away = distances.of(row, name) if heading.goal == "lower" else None
        attacked = isinstance(part(row["stored"].extras, name).get("attack"), str)
        if away is None and not (heading.goal == "zero" and attacked):
            continue
        compared += heading.goal == "lower"
        # PrivLeak is a distance to retrain, and its interval a paired one, already.
        low, high = _ends(cell) if away is None else (away.low, away.high)
        more, less = (
            ("remembers", "past retrain") if heading.goal == "lower" else ("past retrain", "remembers")
        )
        if low > CERTAIN:
            yield more, name
        elif high < -CERTAIN:
            yield less, name
    if not compared:
        yield "no retrain", ""


def _ends(cell: StoredColumn) -> tuple[float, float]:
    assert cell.value is not None
    return cell.ci or (cell.value, cell.value)


# ── sentences ────────────────────────────────────────────────────────────────────────────────────
def _sentences(chosen: Chosen, row: RunRow) -> Iterator[str]:
    metrics = part(part(row["stored"].config, "task"), "columns")
    several = sum(part(metrics, name).get("metric") == "privleak" for name in row["columns"]) > 1
    for name, cell in row["columns"].items():
        heading = chosen.headings[name]
        metric = part(metrics, name).get("metric")
        if cell.value is None:
            yield f"{heading.title} is undefined: {cell.reason or 'no reason is stored'}."
        elif metric == "privleak":
            said = _leak(chosen, row, name)
            yield f"{heading.title}: {said[0].lower()}{said[1:]}" if several else said
        elif metric == "verbmem":
            yield (
                f"It continues the forget text with {_percent(cell.value)} of the true words in their order"
                f"{_beside(chosen, row, name, 'which never saw it')}."
            )
        elif metric == "knowmem" and heading.goal == "higher":
            said = f"Its answers about what should stay are {_percent(cell.value)} right"
            yield f"{said}{_beside(chosen, row, name)}."
        elif metric == "knowmem":
            said = f"Its answers about the forget text are {_percent(cell.value)} right"
            yield f"{said}{_beside(chosen, row, name)}."
        else:
            yield f"{heading.title} is {cell.value:.2f}{_beside(chosen, row, name)}."


def _leak(chosen: Chosen, row: RunRow, name: str) -> str:
    """Say how well a membership attack tells forget texts from texts never seen."""
    own = _auc(row["stored"], name)
    if own is None:
        return f"{chosen.headings[name].title} is {row['columns'][name].value:.2f}."
    said = (
        "Shown a forget text and one never seen, a membership attack picks the forget text in "
        f"{_percent(100 * (1 - own))} of the pairs; 50\u00a0% is guessing"
    )
    retrain = chosen.retrain_of(row, name)
    theirs = _auc(retrain, name) if retrain else None
    return f"{said}." if theirs is None else f"{said} (retrain: {_percent(100 * (1 - theirs))})."


def _auc(result: StoredResult, column: str) -> float | None:
    """Return the headline attack's AUC of a column, forget against holdout."""
    told = part(result.extras, column) or result.extras
    found = part(told, "auc").get(f"forget_holdout_{told.get('attack', 'Min-40%')}")
    return found if isinstance(found, float | int) else None


def _beside(chosen: Chosen, row: RunRow, column: str, why: str = "") -> str:
    """Return what the models that it is compared with come to, in brackets."""
    retrain = chosen.retrain_of(row, column)
    if row["name"] == "retrain" or retrain is None or (value := retrain.columns[column].value) is None:
        return ""
    return f" (retrain{f', {why},' if why else ':'} {_percent(value)})"


def _percent(value: float) -> str:
    """Return a share in whole percent; under 10 with a decimal, so that little is not nothing."""
    return f"{value:.0f}\u00a0%" if value >= 9.95 else f"{value:.1f}\u00a0%"
