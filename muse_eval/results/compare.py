"""Stored runs side by side: whether one is better than another, example by example, or nothing shows it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from muse_eval.errors import UserError, unknown_name
from muse_eval.results.best import mixed
from muse_eval.results.comparable import NEVER_BEST, data_of, stored_params
from muse_eval.results.compared import ColumnComparison, Comparison, Pair, Side
from muse_eval.results.evidence import find_run
from muse_eval.results.judged import judged
from muse_eval.results.lineage import part
from muse_eval.results.measured import differs
from muse_eval.results.rows import Goal, RunRow, headings, row
from muse_eval.results.runs import StoredResult, load
from muse_eval.results.scores import ScoreReader, Scores, away, minus, run_beside
from muse_eval.results.whole import fault
from muse_eval.statistics import best_set, holm, kolmogorov_smirnov, tpr_at

RATES = (0.01, 0.10)
"""False-positive rates at which a membership attack's true-positive rate is told."""
AUC_NEAR = 0.01
"""How far two answers of one retrain model may be apart: batches of other sizes change last digits."""


def compare(
    names: Sequence[str | Path], results: str | Path = "results", *, columns: Sequence[str] = ()
) -> Comparison:
    """Compare stored runs example by example, pair by pair, in each column that all of them have.

    Args:
        names: two runs or more: each a name, ``TASK/NAME``, or a folder.
        results: the results folder that names are looked up in.
        columns: those to compare; empty: all.

    Raises:
        UserError: fewer than two runs, one that is not there or not whole, or what cannot be compared.

    Example:
        ``compare(["npo_gdr", "simnpo_gdr"]).columns[0].pairs[0].better``
    """
    given = [_run(Path(results), str(name)) for name in names]
    beside = [run for role in ("target", "retrain") for one in given if (run := run_beside(one, role))]
    runs = judged([*given, *beside])[: len(given)]
    if len({one.folder and one.folder.resolve() for one in runs}) < max(2, len(runs)):
        raise UserError("compare takes two different runs or more")
    table = [row(one) for one in runs]
    labels = _labels(runs)
    known = headings(runs[0].task, table)
    shared = [name for name in known if all(name in one.columns for one in runs)]
    for name in columns:
        if name not in shared:
            raise unknown_name("column", name, shared)
    if not shared:
        raise UserError("the runs have no column in common; score them on the same columns of one task")
    reader, retrain = ScoreReader(), _retrain_run(runs)
    found, notes = [], mixed([_named(one, labels, runs) for one in table])
    for name in columns or shared:
        undefined = [
            label for label, one in zip(labels, runs, strict=True) if one.columns[name].value is None
        ]
        if undefined:
            notes.append(f"{name} is undefined for {', '.join(undefined)}, and not compared")
            continue
        _refuse(runs, labels, name)
        if told := next((one for run in runs if isinstance(one := reader.of(run, name), str)), None):
            notes.append(f"not compared: {told}")
            continue
        found.append(_column(reader, runs, labels, name, known[name].title, known[name].goal, retrain))
    if not found:
        raise UserError(f"nothing can be compared: {'; '.join(notes)}")
    ruined = {label: flags for label, one in zip(labels, runs, strict=True) if (flags := _never_best(one))}
    notes += [
        f"{label} is flagged {', '.join(flags)}: never the best of a table" for label, flags in ruined.items()
    ]
    left = sorted({name for one in runs for name in one.columns} - set(shared))
    if left:
        notes.append(f"not compared, since some run lacks them: {', '.join(left)}")
    return Comparison(labels, runs[0].task, found, notes, ruined)


def _never_best(run: StoredResult) -> list[str]:
    flags = (flag for column in run.columns.values() for flag in column.flags)
    return [flag for flag in dict.fromkeys(flags) if flag in NEVER_BEST]


def _run(results: Path, name: str) -> StoredResult:
    found = load(find_run(results, name))
    assert found is not None
    if problem := fault(found):
        raise UserError(f"{found.key}: {problem.removesuffix('; score the run again')}; score the run again")
    return found


def _labels(runs: Sequence[StoredResult]) -> list[str]:
    """Return what each run is called: its name, the shortest that tells them apart."""
    names = [one.name for one in runs]
    if len(set(names)) == len(names):
        return names
    keys = [one.key for one in runs]
    return keys if len(set(keys)) == len(keys) else [str(one.folder) for one in runs]


def _named(one: RunRow, labels: Sequence[str], runs: Sequence[StoredResult]) -> RunRow:
    return {
        **one,
        "name": next(label for label, run in zip(labels, runs, strict=True) if run is one["stored"]),
    }


def _refuse(runs: Sequence[StoredResult], labels: Sequence[str], column: str) -> None:
    """Refuse runs whose column measures something else.

    Raises:
        UserError: it names the two runs and what is different.
    """
    first, label = runs[0], labels[0]
    for other, name in zip(runs[1:], labels[1:], strict=True):
        here, there = first.config.get("limit"), other.config.get("limit")
        told = ""
        if here != there:
            told = f"limit is {here or 'none'} and {there or 'none'}"
        elif params := differs("", stored_params(first, column), stored_params(other, column)):
            told = params.replace(" now", f" in {label}").replace(" in the baseline", f" in {name}")
        elif data_of(first, column) != data_of(other, column):
            told = "they are of other data"
        elif column_reference(first, other, column):
            told = "they are relative to other retrain models"
        if told:
            raise UserError(f"{label} and {name} cannot be compared in {column}: {told}")


def column_reference(one: StoredResult, other: StoredResult, column: str) -> bool:
    """Tell whether two runs' column divides by other retrain AUCs."""
    aucs = [part(part(run.extras, column) or run.extras, "reference").get("auc") for run in (one, other)]
    here, there = aucs
    if not isinstance(here, int | float) or not isinstance(there, int | float):
        return False
    return abs(here - there) > AUC_NEAR


def _retrain_run(runs: Sequence[StoredResult]) -> StoredResult | None:
    """Return the retrain model's run: one of those compared, else one stored beside them."""
    for one in runs:
        if one.name == "retrain":
            return one
    return next((found for one in runs if (found := run_beside(one, "retrain"))), None)


# ── one column ───────────────────────────────────────────────────────────────────────────────────
def _column(
    reader: ScoreReader,
    runs: Sequence[StoredResult],
    labels: Sequence[str],
    name: str,
    title: str,
    goal: Goal | None,
    retrain: StoredResult | None,
) -> ColumnComparison:
    scores = [_scores(reader, one, name) for one in runs]
    for label, one in zip(labels[1:], scores[1:], strict=True):
        if one.examples != scores[0].examples:
            raise UserError(
                f"{labels[0]} and {label} cannot be compared in {name}: they are of other examples"
            )
    base = reader.against(retrain, runs[0], name) if goal == "lower" and retrain is not None else None
    ideal = [away(one, goal or "lower", base) for one in scores]
    sides = {
        label: Side(
            one.value,
            run.columns[name].ci,
            minus(one, base) if base is not None else None,
            rates(one),
            run.columns[name].flags,
        )
        for label, run, one in zip(labels, runs, scores, strict=True)
    }
    pairs = [_pair(labels, scores, ideal, i, j) for i, j in combinations(range(len(runs)), 2)]
    adjusted = holm([pair.judged.p for pair in pairs])
    judged = [
        replace(pair, p=p, better=None if equal or goal is None else _better(pair))
        for pair, p, equal in zip(pairs, adjusted, best_set(adjusted), strict=True)
    ]
    notes = list(dict.fromkeys(one.remark for one in scores if one.remark))
    return ColumnComparison(name, title, goal, scores[0].n, _judged_by(goal, base), sides, judged, notes)


def _scores(reader: ScoreReader, run: StoredResult, column: str) -> Scores:
    found = reader.of(run, column)
    if isinstance(found, str):
        raise UserError(found)
    return found


def _judged_by(goal: Goal | None, base: Scores | None) -> str:
    if base is not None:
        return f"distance to retrain ({base.value:.1f}); 0 is over-unlearning"
    return {
        "lower": "value, the lower the better, since no retrain run of these data is stored",
        "higher": "value, the higher the better",
        "zero": "distance to 0, retrain's",
        None: "nothing: the task does not say which way is better",
    }[goal]


def _pair(labels: Sequence[str], scores: Sequence[Scores], ideal: Sequence[Scores], i: int, j: int) -> Pair:
    raw, judged = minus(scores[j], scores[i]), minus(ideal[i], ideal[j])
    return Pair(labels[i], labels[j], raw, judged, judged.p, None, apart(scores[i], scores[j]))


def _better(pair: Pair) -> str:
    return pair.other if pair.judged.value > 0 else pair.one


def apart(one: Scores, other: Scores) -> dict[str, tuple[float, float]]:
    """Return how far an attack's scores of two models lie apart on each split: KS distance and p."""
    if one.classes is None or other.classes is None:
        return {}
    return {
        "forget": kolmogorov_smirnov(one.classes.negatives, other.classes.negatives),
        "holdout": kolmogorov_smirnov(one.classes.positives, other.classes.positives),
    }


def rates(scores: Scores) -> dict[str, float]:
    """Return the attack's true-positive rates: forget texts found where few holdout texts are mistaken."""
    if scores.classes is None:
        return {}
    # A forget text is the likelier one, so it is the positive here, unlike in the AUC.
    turned = replace(scores.classes, negatives=scores.classes.positives, positives=scores.classes.negatives)
    return {f"{rate:g}": tpr_at(turned, rate) for rate in RATES}
