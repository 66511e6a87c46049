"""Cuts a subset that two cores can train on out of MUSE-shaped data, by a rule that holds for any of them.

1. A question of MUSE's counts where a stretch of an article holds its answer word for word and at least half
   of its words, weighted by rarity; an article answers one question (``match``).
2. The articles so found are dealt out, the surest first: to be forgotten, to be kept and asked about
   (``retain2``), to be kept and read together with their questions as cards (``retain1``). One whose question
   a stretch of another side answers too is left out. ``forget_qa`` is looked for in ``raw/forget`` and dealt
   to all three, ``retain_qa`` in the retain texts and dealt to the two that are kept.
3. Each side is filled up with stretches of other articles, a third of the way into each.
4. Every stretch is ``words`` words long and begins with a sentence where one is near. VerbMem halves it.
5. Holdout texts are stretches of ``privleak/holdout``, a third of the way in.

Blank and repeated texts are dropped. Where ``raw/retain1`` and ``raw/retain2`` are missing, the texts of
``sust/forget_4`` and ``sust/forget_3`` that are not in ``raw/forget`` stand in for them; the task says so.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.small.match import Answered, Rarity, answered, cut, holds
from benchmarks.small.work import RETAIN
from muse_eval.config import TaskSpec, columns_of
from muse_eval.data import MissingSplit
from muse_eval.data.sources import Source
from muse_eval.errors import UserError

STAND_INS = ("sust/forget_4", "sust/forget_3")
CARDS = 3
"""Question cards in a row of training text."""


@dataclass(frozen=True)
class Size:
    """How much of the data is taken."""

    forget: int = 20
    """Articles to be forgotten."""
    retain: int = 12
    """Articles of each of the two retain sides."""
    holdout: int = 32
    words: int = 48
    """Words of an article's stretch."""
    least: float = 0.5
    """Share of a question's words that its stretch must hold."""


@dataclass(frozen=True)
class Subset:
    """The splits of the subset, and what is to be said of them."""

    splits: dict[str, list[Any]]
    stand_ins: tuple[str, ...]
    """The splits that stand in for retain texts; empty where MUSE's own are there."""


def texts_of(source: Source, name: str) -> list[str]:
    """Return a split's texts, blank and repeated ones dropped."""
    rows, where = source.read(name)
    found = [row if isinstance(row, str) else row.get("text") for row in rows]
    if not all(isinstance(text, str) for text in found):
        raise UserError(f"{where}: a row has no text")
    return [text for text in dict.fromkeys(map(str, found)) if text.strip()]


def rows_of(source: Source, name: str) -> list[dict[str, str]]:
    """Return a split's rows with their named columns alone."""
    rows, where = source.read(name)
    try:
        return [{column: str(row[column]) for column in columns_of(name)} for row in rows]
    except (TypeError, KeyError) as error:
        raise UserError(f"{where}: a row has no {error}") from None


def retain_texts(source: Source, forget: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the retain texts, and the names of the splits that stand in for them, if any do.

    Raises:
        UserError: neither are there.
    """
    forgotten = set(forget)
    names, stand_ins = RETAIN, tuple[str, ...]()
    try:
        found = [text for name in names for text in texts_of(source, name)]
    except MissingSplit:
        names = stand_ins = STAND_INS
        found = [text for name in names for text in texts_of(source, name)]
    return [text for text in dict.fromkeys(found) if text not in forgotten], stand_ins


def deal(
    asked: Sequence[Answered],
    turns: Sequence[str],
    sides: dict[str, list[Answered]],
    rarity: Rarity,
    size: Size,
) -> None:
    """Deal articles out to the sides in turn; one that another side's question or text meets is left out."""
    place = 0
    for one in asked:
        side = turns[place % len(turns)]
        others = [other for name, held in sides.items() if name != side for other in held]
        if not any(meet(one, other, rarity, size) for other in others):
            sides[side].append(one)
            place += 1


def meet(one: Answered, other: Answered, rarity: Rarity, size: Size) -> bool:
    """Tell whether the text of one answers the question of the other, either way."""
    return any(
        holds(text.text, asked.answer) and rarity.share(asked.question, text.text) >= size.least
        for asked, text in ((one, other), (other, one))
    )


def fill(held: Sequence[str], articles: Iterable[str], count: int, length: int) -> list[str]:
    """Fill texts up to ``count`` with stretches of articles, a third of the way into each."""
    found = list(held[:count])
    for article in articles:
        if len(found) == count:
            break
        size = len(article.split())
        if size >= 2 * length:
            found.append(cut(article, size // 3, length))
    return found


def halve(text: str) -> dict[str, str]:
    """Return a text as an example of VerbMem: its first half, and how it goes on."""
    prompt = cut(text, 0, len(text.split()) // 2)
    return {"prompt": prompt, "gt": text[len(prompt) :]}


def card(one: Answered) -> str:
    """Return a question with its answer in the form in which KnowMem asks."""
    return f"Question: {one.question}\nAnswer: {one.answer}"


def make(source: Source, size: Size) -> Subset:
    """Choose the subset.

    Raises:
        UserError: a split is missing, or has too few texts.
    """
    forget = texts_of(source, "raw/forget")
    retain, stand_ins = retain_texts(source, forget)
    sides: dict[str, list[Answered]] = {"forget": [], "retain1": [], "retain2": []}
    rarity = Rarity([*forget, *retain])
    asked = answered(rows_of(source, "knowmem/forget_qa"), forget, size.words, size.least)
    deal(asked, ("forget", "retain2", "forget", "retain1"), sides, rarity, size)
    asked = answered(rows_of(source, "knowmem/retain_qa"), retain, size.words, size.least)
    deal(asked, ("retain2", "retain1"), sides, rarity, size)

    used = {one.article for held in sides.values() for one in held}
    unused = iter([text for text in retain if text not in used])
    texts = {name: [one.text for one in held] for name, held in sides.items()}
    texts["forget"] = fill(texts["forget"], (t for t in forget if t not in used), size.forget, size.words)
    for name in ("retain1", "retain2"):
        texts[name] = fill(texts[name], unused, size.retain, size.words)
    texts["holdout"] = fill([], texts_of(source, "privleak/holdout"), size.holdout, size.words)
    wanted = {"forget": size.forget, "retain1": size.retain, "retain2": size.retain, "holdout": size.holdout}
    for name, count in wanted.items():
        if len(texts[name]) < count:
            raise UserError(f"the data give {len(texts[name])} {name} texts of the {count} the subset takes")
    for name in ("forget", "retain2"):
        if not sides[name]:
            raise UserError(f"no article answers a question for the {name} side; the subset cannot be made")

    cards = [card(one) for one in sides["retain1"][: size.retain]]
    splits: dict[str, list[Any]] = {f"raw/{name}": held for name, held in texts.items() if name != "holdout"}
    splits["train/cards"] = ["\n\n".join(cards[at : at + CARDS]) for at in range(0, len(cards), CARDS)]
    splits["verbmem/forget"] = [halve(text) for text in texts["forget"]]
    splits |= {"privleak/forget": texts["forget"], "privleak/holdout": texts["holdout"]}
    splits["privleak/retain"] = [*texts["retain1"], *texts["retain2"]]
    for name, side in (("forget", "forget"), ("retain", "retain2")):
        held = sides[side][: wanted[side]]
        splits[f"knowmem/{name}_qa"] = [{"question": one.question, "answer": one.answer} for one in held]
        splits[f"knowmem/{name}_qa_icl"] = rows_of(source, f"knowmem/{name}_qa_icl")
    return Subset({name: rows for name, rows in splits.items() if rows}, stand_ins)


def task_of(base: TaskSpec, subset: Subset, size: Size, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the subset's task, to be written as YAML: the columns of ``base``, its own data and training."""
    counts = {name: len(rows) for name, rows in subset.splits.items()}
    said = f"{counts['raw/forget']} stretches of {size.words} words out of {base.title}"
    if subset.stand_ins:
        said += f"; retain texts: {' and '.join(subset.stand_ins)} stand in"
    columns = {name: column.model_dump() for name, column in base.columns.items()}
    for name, params in settings["columns"].items():
        columns[name]["params"] |= params
    cards = ["train/cards"] if "train/cards" in subset.splits else []
    retain = ["raw/retain1", "raw/retain2", *cards]
    return {
        "name": f"{base.name}_small",
        "title": f"{base.title}, small",
        "source": said,
        "data": {"source": "folder", "folder": "data"},
        "columns": columns,
        "finetune": {"target": ["raw/forget", *retain], "retrain": retain, **settings["finetune"]},
        "unlearn": {
            "forget": "raw/forget",
            "retain": "raw/retain1",
            "rows": "document",
            **settings["rows"],
            **settings["unlearn"],
        },
    }


def write(subset: Subset, task: dict[str, Any], size: Size, home: Path) -> Path:
    """Write the data, the task and what was taken below ``home``; return the task's file.

    Files that hold what they should are left as they are.
    """
    for name, rows in subset.splits.items():
        _write(home / "data" / f"{name}.json", json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    taken = {
        "rule": asdict(size),
        "stand_ins": subset.stand_ins,
        "rows": {name: len(rows) for name, rows in subset.splits.items()},
    }
    _write(home / "subset.json", json.dumps(taken, indent=1) + "\n")
    path = home / f"{task['name']}.yaml"
    _write(path, yaml.safe_dump(task, sort_keys=False, allow_unicode=True, width=110))
    return path


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
