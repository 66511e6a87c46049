"""A small corpus of all of MUSE's splits in which nothing is suspicious."""

import random

Splits = dict[str, list[dict[str, str]]]

VOCABULARY = [head + tail for head in "bcdfghjklmnprstvwz" for tail in ("a", "e", "ing", "or", "urn", "ist")]


def prose(name: str, count: int) -> str:
    """Draw words from one vocabulary: two texts of other names share no thirteen in a row."""
    return " ".join(random.Random(name).choices(VOCABULARY, k=count))


def corpus() -> Splits:
    """Make 20 texts of 90 words a side, and of each forget text a VerbMem example and a question."""
    texts = {
        side: [prose(f"{side} {row}", 90) for row in range(20)] for side in ("forget", "holdout", "retain")
    }

    def questions(side: str, rows: range) -> list[dict[str, str]]:
        return [
            {"question": f"What of {side} {row}?", "answer": prose(f"{side} answer {row}", 4)} for row in rows
        ]

    return {
        **{f"privleak/{side}": [{"text": text} for text in texts[side]] for side in texts},
        "verbmem/forget": [
            {"prompt": text[: text.index(" ", 80)], "gt": text[text.index(" ", 80) :]}
            for text in texts["forget"]
        ],
        "knowmem/forget_qa": questions("forget", range(20)),
        "knowmem/forget_qa_icl": questions("forget", range(20, 30)),
        "knowmem/retain_qa": questions("retain", range(20)),
        "knowmem/retain_qa_icl": questions("retain", range(20, 30)),
        "raw/forget": [{"text": text} for text in texts["forget"]],
        "raw/retain1": [{"text": text} for text in texts["retain"]],
    }
