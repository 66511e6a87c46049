"""MUSE-shaped data in which some articles answer questions, for ``benchmarks.small``."""

import json
from pathlib import Path

from tests.support.corpus import prose


def article(name: str, fact: str = "") -> str:
    """Return an article of a hundred words and more, a fact in its middle."""
    return f"{prose(name, 60).capitalize()}. {fact} {prose(f'{name} later', 60).capitalize()}."


def fact(side: str, row: int) -> tuple[str, str, str]:
    """Return a sentence, the question that it answers, and the answer."""
    town, keeper = f"{side}ton{row}", f"{side}man{row} the elder"
    return f"The keeper of the lighthouse at {town} is {keeper}.", f"The keeper at {town} is who?", keeper


def news(home: Path, stand_ins: bool) -> Path:
    """Write 24 articles a side, the first 12 of which answer a question; one row is blank, one repeated."""
    facts = {side: [fact(side, row) for row in range(22)] for side in ("forget", "retain")}
    texts = {
        side: [article(f"{side} {row}", known[row][0] if row < 12 else "") for row in range(24)]
        for side, known in facts.items()
    }
    splits: dict[str, list[object]] = {
        "raw/forget": [*texts["forget"], " ", texts["forget"][0]],
        "privleak/holdout": [{"text": article(f"holdout {row}")} for row in range(12)],
    }
    # Of the stand-ins one is a text to be forgotten.
    names = ("sust/forget_4", "sust/forget_3") if stand_ins else ("raw/retain1", "raw/retain2")
    splits |= {names[0]: [*texts["retain"][:12], texts["forget"][1]], names[1]: list(texts["retain"][12:])}
    for side, known in facts.items():
        asked = [{"question": question, "answer": answer} for _, question, answer in known]
        splits[f"knowmem/{side}_qa"] = list(asked[:12])
        splits[f"knowmem/{side}_qa_icl"] = list(asked[12:])
    for name, rows in splits.items():
        path = home / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows), encoding="utf-8")
    return home
