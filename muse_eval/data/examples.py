"""What is suspicious in single examples, by the metric that scores them; the noun for it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muse_eval.config import ColumnSpec
from muse_eval.data.overlap import normal, words
from muse_eval.errors import listed
from muse_eval.types import Row

WORDS_PER_TOKEN = 0.5
"""Fewer than any tokenizer makes of prose (MUSE-News: 128 Llama tokens are 73 to 99 words), to be sure."""
READABLE = 0.5
"""Share of letters and digits that ROUGE must be able to read."""


@dataclass(frozen=True)
class Finding:
    """Something in the data that may make a score mean something else than it says."""

    kind: str
    """``missing``, ``repeated``, ``shared-passage`` …"""
    split: str
    rows: tuple[int, ...]
    """Rows concerned, from 0; empty where it is the whole split."""
    what: str
    do: str
    others: tuple[str, ...] = ()
    """The places that the rows are held against (``raw/forget[3]``), one a row; or a split."""

    def __str__(self) -> str:
        """Return it as one line: where, what, and what to do."""
        return f"{self.split}: {self.what}; {self.do}"


def check(spec: ColumnSpec, params: Any, splits: Mapping[str, Sequence[Row]]) -> list[Finding]:
    """Return what is suspicious in the examples of a column, as far as its splits are there.

    Args:
        spec: the column; only MUSE's own metrics are known here.
        params: the metric's parameters.
        splits: name to rows.
    """
    rows = {role: splits[split] for role, split in spec.splits.items() if split in splits}
    return list(_CHECKS[spec.metric](spec, params, rows)) if spec.metric in _CHECKS else []


def _findings(kind: str, split: str, rows: Iterable[int], what: str, do: str) -> Iterator[Finding]:
    """Yield one finding of all rows, none where there is no row; ``{}`` in ``what`` becomes their list."""
    chosen = tuple(rows)
    if chosen:
        yield Finding(kind, split, chosen, what.format(listed("row", chosen)), do)


def _knowmem(spec: ColumnSpec, params: Any, rows: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    from muse_eval.metrics.knowmem import cut_answer

    pairs, split = rows.get("icl", ())[: params.shots], spec.splits["icl"]
    if "icl" in rows and len(pairs) < params.shots:
        what = f"{len(pairs)} in-context pairs, the column asks {params.shots}"
        yield Finding("few-pairs", split, (), what, f"add some, or set params: {{shots: {len(pairs)}}}")
    shown = {normal(pair["question"]) for pair in pairs}
    split = spec.splits["qa"]
    asked = [(index, row["question"], row["answer"]) for index, row in enumerate(rows.get("qa", ()))]
    yield from _findings(
        "own-pair",
        split,
        (i for i, question, _ in asked if normal(question) in shown),
        f"{{}} also in {spec.splits['icl']}: the prompt holds the answer",
        "drop them from one of the two",
    )
    yield from _findings(
        "long-answer",
        split,
        (i for i, _, answer in asked if len(words(answer)) > params.max_tokens),
        f"answers of more than {params.max_tokens} words in {{}}: the model may only give that many tokens",
        "shorten them, or raise the column's params: {max_tokens: …}",
    )
    yield from _findings(
        "cut-answer",
        split,
        (i for i, _, answer in asked if cut_answer(answer.strip()) != answer.strip()),
        "an empty line or 'Question:' in the answers of {}: a model's answer ends there",
        "write each answer as one paragraph",
    )
    yield from _unreadable(split, {i: answer for i, _, answer in asked})


def _verbmem(spec: ColumnSpec, params: Any, rows: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    split, examples = spec.splits["forget"], list(enumerate(rows.get("forget", ())))
    enough = WORDS_PER_TOKEN * params.max_tokens
    yield from _findings(
        "short-truth",
        split,
        (i for i, row in examples if len(words(row["gt"])) < enough),
        f"truths of under {enough:g} words in {{}}: a model goes on for {params.max_tokens} tokens, and "
        "what is beyond the truth lowers the score",
        "lengthen them, or lower the column's params: {max_tokens: …}",
    )
    yield from _findings(
        "prompt-in-truth",
        split,
        (i for i, row in examples if normal(row["gt"]).startswith(normal(row["prompt"]))),
        "the truth begins with its own prompt in {}: a model is to continue it, not to repeat it",
        "cut the prompt off gt",
    )
    yield from _unreadable(split, {i: row["gt"] for i, row in examples})


def _privleak(spec: ColumnSpec, params: Any, rows: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    for role in ("forget", "holdout", *(("retain",) if params.retain else ())):
        yield from _findings(
            "short-text",
            spec.splits[role],
            (
                i
                for i, row in enumerate(rows.get(role, ()))
                if int(params.k * (len(words(row["text"])) - 1)) < 1
            ),
            f"too few words for Min-{100 * params.k:g}% in {{}}: one such text makes the column n/a",
            "lengthen them or drop them",
        )


def _unreadable(split: str, truths: Mapping[int, str]) -> Iterator[Finding]:
    yield from _findings(
        "unreadable",
        split,
        (i for i, truth in truths.items() if _readable(truth) < READABLE),
        "mostly letters other than a–z and 0–9 in the truths of {}: ROUGE, as published, reads nothing else",
        "score them with a metric of your own",
    )


def _readable(text: str) -> float:
    """Return the share of letters and digits that are ASCII, 0 where there is none."""
    kept = [letter.isascii() for letter in text if letter.isalnum()]
    return sum(kept) / len(kept) if kept else 0.0


_CHECKS: dict[str, Callable[[ColumnSpec, Any, Mapping[str, Sequence[Row]]], Iterator[Finding]]] = {
    "knowmem": _knowmem,
    "verbmem": _verbmem,
    "privleak": _privleak,
}
