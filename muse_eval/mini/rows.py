"""What a step of training sees: token rows dealt from documents and question cards."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from transformers import PreTrainedTokenizerFast

from muse_eval.mini import corpus
from muse_eval.mini.recipe import Mix

ANSWER = "\nAnswer: "
"""What stands between a card's question and its answer."""

IGNORED = -100
"""The label of a token that is read but not learnt."""


@dataclass(frozen=True)
class Row:
    """A row of a step: its tokens and, for each, what is to be learnt (the token itself, or ``IGNORED``)."""

    ids: list[int]
    labels: list[int]


def texts(splits: corpus.Corpus, *names: str) -> list[str]:
    """Return the texts of the named splits, one after the other."""
    return [row["text"] for name in names for row in splits[name]]


def deal(
    splits: corpus.Corpus,
    mix: Mix,
    tokenizer: PreTrainedTokenizerFast,
    cards_per_row: int,
    rng: random.Random,
) -> Iterator[list[Row]]:
    """Yield the rows of each step, without end.

    Every kind of row is dealt from its own shuffled deck, dealt anew when it runs out. Cards are dealt card
    by card: on fixed pages a small model learns an answer by what stands before it, not by the question.
    """
    retain = texts(splits, "train/retain1", "train/retain2")
    documents = {
        "base": texts(splits, "base/chapters"),
        "retain": [text for text in retain if not corpus.is_page(text)],
        "forget": [text for text in texts(splits, "train/forget") if not corpus.is_page(text)],
    }
    cards = {
        "base_cards": corpus.cards_of(texts(splits, "base/cards")),
        "retain_cards": corpus.cards_of(retain),
        "forget_cards": corpus.cards_of(texts(splits, "train/forget")),
    }
    sizes = dict.fromkeys(documents, 1) | dict.fromkeys(cards, cards_per_row)
    decks = {kind: _deck(items, sizes[kind], rng) for kind, items in (documents | cards).items()}
    counts = {kind: count for kind, count in asdict(mix).items() if count}
    while True:
        hands = [next(decks[kind]) for kind, count in counts.items() for _ in range(count)]
        yield [row_of(hand, tokenizer) for hand in hands]


def row_of(hand: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Row:
    """Make a row of a document or of cards; of cards the answers are learnt, for questions come at random."""
    ids, labels = [tokenizer.bos_token_id], [IGNORED]
    for item in hand:
        question, mark, answer = item.partition(ANSWER) if corpus.is_page(item) else ("", "", item)
        for part, learnt in ((question + mark, False), (answer, True)):
            tokens = tokenizer(part, add_special_tokens=False)["input_ids"]
            ids += tokens
            labels += tokens if learnt else [IGNORED] * len(tokens)
    return Row([*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id])


def _deck(items: Sequence[str], size: int, rng: random.Random) -> Iterator[list[str]]:
    """Yield hands of ``size`` items, each item once a round; what is left at a round's end is not dealt."""
    while True:
        shuffled = rng.sample(items, len(items))
        for start in range(0, len(items) - size + 1, size):
            yield shuffled[start : start + size]
