"""The best set of each column of a table: the rows not significantly worse than its best one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from muse_eval.errors import counted, listed
from muse_eval.results.comparable import competes, is_best, rivals
from muse_eval.results.rows import Goal, Heading, RunRow
from muse_eval.results.runs import StoredResult
from muse_eval.results.scores import ScoreReader, Scores, away, minus, run_beside
from muse_eval.statistics import best_set, holm, pairs_of

BOLD = "bold: not significantly worse than the best (paired by example, Holm over the column's pairs, 5 %)"
NEAREST = (
    "forget columns are judged by their distance to retrain: a score of 0 is over-unlearning, not the goal"
)
BY_VALUE = "bold by value alone in {columns}: {why}"


@dataclass(frozen=True)
class Best:
    """Which cells of a table are the best, and what has to be said of it."""

    cells: frozenset[tuple[int, str]]
    """The row's place in the table, and the column."""
    notes: list[str]


@dataclass(frozen=True)
class _Found:
    """A column's best rows among rivals."""

    places: list[int]
    least: float | None = None
    """The smallest difference that every pair with the best could have shown."""
    by_distance: bool = False
    problem: str = ""


def best_cells(
    columns: Mapping[str, Heading], rows: Sequence[RunRow], retrain: StoredResult | None = None
) -> Best:
    """Return each column's best set; by value alone, and told so, where examples cannot be compared.

    Args:
        columns: the table's.
        rows: the table's.
        retrain: the retrain model's run where it is neither in the table nor beside its rows on the disk.
    """
    reader, cells = ScoreReader(), set()
    least: dict[str, float] = {}
    problems: dict[str, list[str]] = {}
    by_distance = False
    for name, heading in columns.items():
        for group in _groups(name, rows):
            found = _best_of(reader, name, heading.goal, group, rows, retrain)
            cells |= {(place, name) for place in found.places}
            by_distance |= found.by_distance
            if found.least is not None:
                least[heading.title] = max(found.least, least.get(heading.title, 0.0))
            if found.problem:
                problems.setdefault(found.problem, []).append(heading.title)
    return Best(frozenset(cells), [*_told(least, by_distance), *_by_value(problems)])


def _told(least: Mapping[str, float], by_distance: bool) -> Iterable[str]:
    if least:
        yield BOLD
        if by_distance:
            yield NEAREST
        shown = ", ".join(f"{title} {value:.1f}" for title, value in least.items())
        yield f"smallest difference from the best that could be shown (points, power 80 %, one pair): {shown}"


def _by_value(problems: Mapping[str, Sequence[str]]) -> Iterable[str]:
    return (
        BY_VALUE.format(columns=", ".join(dict.fromkeys(titles)), why=why) for why, titles in problems.items()
    )


def _groups(column: str, rows: Sequence[RunRow]) -> Iterable[list[int]]:
    """Yield the places of rows that compete with each other in a column."""
    seen: set[int] = set()
    for place, row in enumerate(rows):
        if place in seen or not competes(row, column, rows):
            continue
        same = {id(other) for other in rivals(row, column, rows)}
        group = [at for at, one in enumerate(rows) if id(one) in same and competes(one, column, rows)]
        seen |= set(group)
        yield group


def _best_of(
    reader: ScoreReader,
    column: str,
    goal: Goal | None,
    group: list[int],
    rows: Sequence[RunRow],
    beside: StoredResult | None,
) -> _Found:
    if goal is None or len(group) == 1:
        return _Found(group if goal is not None else [])
    scores = [reader.of(rows[place]["stored"], column) for place in group]
    if problem := _problem(scores):
        alone = [place for place in group if is_best(rows[place], column, goal, rows)]
        on_disk = any(rows[place]["stored"].folder is not None for place in group)
        return _Found(alone, problem=problem if on_disk else "")
    known = [one for one in scores if isinstance(one, Scores)]
    retrain = _retrain(reader, column, rows[group[0]], rows, beside) if goal == "lower" else None
    ideal = [away(one, goal, retrain) for one in known]
    first = min(range(len(ideal)), key=lambda at: ideal[at].value)
    others = [at for at in range(len(ideal)) if at != first]
    gaps = [minus(ideal[at], ideal[first]) for at in others]
    kept = best_set(holm([gap.p for gap in gaps], pairs_of(len(ideal))))
    places = [group[first], *(group[at] for at, stays in zip(others, kept, strict=True) if stays)]
    least = max((gap.least for gap in gaps if gap.least is not None), default=None)
    return _Found(places, least, retrain is not None)


def _problem(scores: Sequence[Scores | str]) -> str:
    for one in scores:
        if isinstance(one, str):
            return one
    if len({one.examples for one in scores if isinstance(one, Scores)}) > 1:
        return "the runs are of other examples"
    return ""


def _retrain(
    reader: ScoreReader, column: str, row: RunRow, rows: Sequence[RunRow], beside: StoredResult | None
) -> Scores | None:
    """Return the retrain model's scores of the same examples: its run in the table, else the one beside."""
    stored = [one["stored"] for one in rows if one["name"] == "retrain"]
    runs = stored or filter(None, [beside or run_beside(row["stored"], "retrain")])
    found = (reader.against(run, row["stored"], column) for run in runs)
    return next((one for one in found if one is not None), None)


def mixed(rows: Sequence[RunRow]) -> list[str]:
    """Say which runs had which engine, precision and limit, where a table mixes them."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        limit = "" if row["limit"] is None else f", first {counted(row['limit'], 'example')}"
        kind = f"{row['engine']} {row['dtype']}".strip() or "engine not stored"
        kinds.setdefault(kind + limit, []).append(row["name"])
    if len(kinds) < 2:
        return []
    told = (f"{kind}: {listed('run', names)}" for kind, names in kinds.items())
    return [f"scored differently: {'; '.join(told)}"]
