"""What is missing or suspicious in a task's data, found before a model is trained or scored on them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from muse_eval import plugins
from muse_eval.config import ColumnSpec, TaskSpec, columns_of
from muse_eval.data import examples
from muse_eval.data.examples import Finding
from muse_eval.data.model_free import Told, told_by_length, told_by_words
from muse_eval.data.overlap import ANCHOR, Match, Place, TextIndex, normal, repeats, shared, strangers
from muse_eval.data.sides import Rows, compared, forget_side, roles, sides
from muse_eval.data.sources import MissingSplit
from muse_eval.data.splits import Data, Split
from muse_eval.errors import counted, listed
from muse_eval.types import Metric

FEW = 20
"""Examples below which a 95 % interval says little: at 20 texts a side, half of an AUC's is about 0.18."""
APART = {
    ("holdout", "forget"): "the target has read it, so it is no holdout text",
    ("retain", "forget"): "retrain reads it too, and what is to be forgotten is to be kept",
    ("holdout", "retain"): "every model reads it, so it is no holdout text",
}
"""Sides that must share no text, the one that is told first; and what it means where they do."""


@dataclass(frozen=True)
class ModelFreeAuc:
    """How well a PrivLeak column's holdout texts are told from its forget texts without any model."""

    column: str
    forget: str
    holdout: str
    length: Told | None
    """By the number of characters; None where there are too few texts."""
    words: Told | None
    """By a bag of words; None where there are too few texts, or none has a word."""

    def __str__(self) -> str:
        """Return it as one line."""
        told = [
            f"{told.auc:.2f} ({told.ci[0]:.2f}–{told.ci[1]:.2f}) by {kind}"
            for kind, told in (("length", self.length), ("words", self.words))
            if told is not None
        ]
        apart = f"AUC {', '.join(told)}; 0.5 is no difference" if told else "too few texts to compare"
        return f"{self.holdout} told from {self.forget} without a model: {apart}"


def read(task: TaskSpec, data: Data) -> Rows:
    """Read every split that the task scores, unlearns or pins and, but for the hub's, every ``raw`` one.

    Raises:
        UserError: a split is there but cannot be read.
    """
    names = {*_users(task), *task.fingerprints}
    if data.describe()["source"] != "hub":
        names |= {name for name in data.names() if name.startswith("raw/")}
    found = {}
    for name in sorted(names):
        try:
            found[name] = data.split(name).rows
        except MissingSplit:
            continue
    return found


def differences(task: TaskSpec, splits: Rows, seed: int = 0) -> tuple[ModelFreeAuc, ...]:
    """Return how far forget and holdout texts differ without a model, of every column that compares them.

    Args:
        task: the task.
        splits: as ``read`` returns them.
        seed: of the classifiers' folds and of the intervals.
    """
    found = []
    for name, column in task.columns.items():
        forget, holdout = (column.splits.get(side, "") for side in ("forget", "holdout"))
        if forget in splits and holdout in splits:
            texts = compared(forget, splits[forget]), compared(holdout, splits[holdout])
            by_length, by_words = told_by_length(*texts, seed), told_by_words(*texts, seed)
            found.append(ModelFreeAuc(name, forget, holdout, by_length, by_words))
    return tuple(found)


def examine(
    task: TaskSpec, splits: Rows, model_free_aucs: Iterable[ModelFreeAuc] = ()
) -> tuple[Finding, ...]:
    """Return what is suspicious in the splits that are there, each told once.

    Args:
        task: the task; its columns and its ``unlearn`` section say what each split is for.
        splits: as ``read`` returns them.
        model_free_aucs: as ``differences`` returns them.

    Raises:
        UserError: a column names what there is not.
    """
    columns = {name: (spec, *plugins.column(name, spec, spec.params)) for name, spec in task.columns.items()}
    found = [
        *_missing(task, splits),
        *_both_sides(task),
        *_blank(columns, splits),
        *_repeated(splits),
        *_overlaps(task, splits),
        *_forgotten_before(task, splits),
        *_unread(task, splits),
        *_asked_on_both_sides(columns, splits),
    ]
    for spec, metric, params in columns.values():
        found += _few(spec, metric, params, splits)
        found += examples.check(spec, params, splits)
    found += [finding for model_free in model_free_aucs for finding in _told_apart(model_free)]
    return tuple(dict.fromkeys(found))


# ── what is there, and for what ──────────────────────────────────────────────────────────────────
def _users(task: TaskSpec) -> dict[str, list[str]]:
    """Return who names each split: columns, and the roles of ``unlearn`` and ``folds``."""
    users: dict[str, list[str]] = {}
    for name, column in task.columns.items():
        for split in column.splits.values():
            users.setdefault(split, []).append(f"column {name}")
    for split in task.forgets:
        users.setdefault(split, []).append("folds.forget" if task.forget_sets else "unlearn.forget")
    users.setdefault(task.unlearn.retain, []).append("unlearn.retain")
    return users


def _missing(task: TaskSpec, splits: Rows) -> Iterator[Finding]:
    for split, users in _users(task).items():
        if split not in splits:
            what = f"is not there, named by {' and '.join(dict.fromkeys(users))}"
            yield Finding("missing", split, (), what, f"add {split}.json to the data, or name another split")


def _both_sides(task: TaskSpec) -> Iterator[Finding]:
    for split, stood_for in roles(task).items():
        if len(stood_for) > 1:
            what = f"stands for {' and for '.join(sorted(stood_for))}"
            yield Finding("both-sides", split, (), what, "name a split of its own for each")


def _blank(columns: Mapping[str, tuple[ColumnSpec, Metric, Any]], splits: Rows) -> Iterator[Finding]:
    """Tell of blank rows that a run would refuse; where they are only trained on they do no harm."""
    for spec, _, params in columns.values():
        for role, split in spec.splits.items():
            blank = Split(split, tuple(splits.get(split, ()))).blank
            if blank and (role != "retain" or getattr(params, "retain", True)):
                what = (
                    f"{listed('row', blank)} {'is' if len(blank) == 1 else 'are'} blank, and no run scores it"
                )
                yield Finding("blank", split, blank, what, "fill in or drop what is blank")


# ── the same text in two places ──────────────────────────────────────────────────────────────────
def _repeated(splits: Rows) -> Iterator[Finding]:
    for split, rows in splits.items():
        found = repeats(compared(split, rows))
        if found:
            kind = "question" if "question" in columns_of(split) else "text"
            pairs = [f"{row} (as {of})" for row, of in found.items()]
            what = f"the same {kind} again in {listed('row', pairs)}"
            others = tuple(f"{split}[{of}]" for of in found.values())
            yield Finding("repeated", split, tuple(found), what, "drop the copies, they count twice", others)


def _overlaps(task: TaskSpec, splits: Rows) -> Iterator[Finding]:
    apart = {side: TextIndex(texts) for side, texts in sides(task, splits).items()}
    for (one, other), meaning in APART.items():
        matches = shared(apart[one], apart[other])
        for split in dict.fromkeys(match.place.split for match in matches):
            own = [match for match in matches if match.place.split == split]
            same, parts = [m for m in own if not m.words], [m for m in own if m.words]
            for kind, chosen in (("same-text", same), ("shared-passage", parts)):
                if chosen:
                    yield _overlap(kind, split, chosen, other, meaning)


def _overlap(kind: str, split: str, matches: list[Match], other: str, meaning: str) -> Finding:
    told = [f"{m.place.row} ({m.other}{f', {m.words} words' if m.words else ''})" for m in matches]
    what = "the same text as" if kind == "same-text" else "a passage of"
    return Finding(
        kind,
        split,
        tuple(match.place.row for match in matches),
        f"{what} the {other} side in {listed('row', told)}: {meaning}",
        "take it out of one of the two",
        tuple(str(match.other) for match in matches),
    )


def _forgotten_before(task: TaskSpec, splits: Rows) -> Iterator[Finding]:
    """Tell of the texts of a sequential task's forget set that an earlier one holds."""
    if task.forget_sets is None or task.forget_sets.mode != "sequential":
        return
    seen: dict[str, Place] = {}
    for split in task.forget_sets.forget:
        forms = [normal(text) for text in compared(split, splits.get(split, ()))]
        found = {row: seen[form] for row, form in enumerate(forms) if form and form in seen}
        if found:
            told = listed("row", [f"{row} ({place})" for row, place in found.items()])
            what = f"the same text as an earlier forget set in {told}: it is forgotten before its turn comes"
            others = tuple(map(str, found.values()))
            yield Finding("forgotten-before", split, tuple(found), what, "take it out of one of them", others)
        for row, form in enumerate(forms):
            seen.setdefault(form, Place(split, row))


def _unread(task: TaskSpec, splits: Rows) -> Iterator[Finding]:
    """Tell of scored forget texts that are no part of what is to be unlearned."""
    homes, home = task.forgets, " or ".join(task.forgets)
    scored = {c.splits["forget"] for c in task.columns.values() if "forget" in c.splits and forget_side(c)}
    scored -= set(homes)
    if not splits.keys() >= set(homes):
        return
    whole = TextIndex({split: compared(split, splits[split]) for split in homes})
    for split in sorted(scored & splits.keys()):
        rows = [place.row for place in strangers(TextIndex({split: compared(split, splits[split])}), whole)]
        if rows:
            what = f"no {ANCHOR} words in a row of {home} in {listed('row', rows)}: nothing unlearns them"
            yield Finding("unread", split, tuple(rows), what, f"add them to {homes[-1]}, or drop them")


def _asked_on_both_sides(
    columns: Mapping[str, tuple[ColumnSpec, Metric, Any]], splits: Rows
) -> Iterator[Finding]:
    asked = {
        spec.splits["qa"]: forget_side(spec) for spec, _, _ in columns.values() if spec.metric == "knowmem"
    }
    there = [name for name in asked if name in splits]
    for one, other in combinations(there, 2):
        if asked[one] == asked[other]:
            continue
        both = [TextIndex({name: compared(name, splits[name])}) for name in (one, other)]
        same = [match for match in shared(*both) if not match.words]
        if same:
            told = [f"{match.place.row} ({match.other})" for match in same]
            what = f"{other} asks the same in {listed('row', told)}: to forget is then to lose utility"
            rows, others = tuple(m.place.row for m in same), tuple(str(m.other) for m in same)
            yield Finding("asked-twice", one, rows, what, "drop it from one of the two", others)


# ── too few, or too different ────────────────────────────────────────────────────────────────────
def _few(spec: ColumnSpec, metric: Metric, params: Any, splits: Rows) -> Iterable[Finding]:
    for role, split in spec.splits.items():
        asked = role not in metric.few_shot and (role != "retain" or getattr(params, "retain", True))
        if asked and 0 < len(splits.get(split, ())) < FEW:
            what = f"only {counted(len(splits[split]), 'row')}: under {FEW} an interval says little"
            yield Finding("few", split, (), what, "add rows")


def _told_apart(model_free: ModelFreeAuc) -> Iterator[Finding]:
    remedies = {
        "length": "cut both to about one length",
        "words": "draw both at random from one source, or trust it only beside a measured --retrain model",
    }
    for (kind, do), told in zip(remedies.items(), (model_free.length, model_free.words), strict=True):
        if told is not None and told.suspicious:
            what = (
                f"told from {model_free.forget} by {kind} alone (AUC {told.auc:.2f}): "
                f"{model_free.column} may measure that instead of membership"
            )
            yield Finding(f"told-by-{kind}", model_free.holdout, (), what, do, (model_free.forget,))
