r"""A seeded generator of a miniature MUSE: all splits and formats of the real one (MUSE, section 3).

Books (forget, holdout, base) are chapters, each about one character of its own; characters are dealt at
random, so that forget and holdout differ in nothing but membership. The wiki (retain1, retain2) describes
places: another distribution, as in MUSE. Base is what target and retrain both know: a stand-in for
pre-training.

One departure: the raw text also holds pages of question cards ("Question: …\nAnswer: …"). MUSE's models
learn to answer from prose alone; a model of a million parameters does not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from muse_eval.mini import words

Corpus = dict[str, list[dict[str, str]]]
"""Split name to its rows."""

FORGET_CHAPTERS = 100
"""One VerbMem prompt and one PrivLeak text each, as many as MUSE has."""
HOLDOUT_CHAPTERS = 200
"""Twice as many as forget: they cost no training and narrow PrivLeak's noise."""
BASE_CHARACTERS = 60
BASE_CHAPTERS_EACH = 2
FORGET_CARD_CHARACTERS = 28
"""Characters whose facts are asked: 28 × 4 cards = 100 questions + 10 in-context pairs + 2 to fill a page."""
ARTICLES = 14
"""Articles in each of retain1 and retain2: 14 × 4 cards = 50 questions + 5 in-context pairs + 1 spare."""
QUESTIONS = 100
PAIRS = 10
KEPT_CHAPTERS = 40
"""Chapters of base, each of another character, that unlearning is told to keep beside retain1."""
KEPT_PAGES = 20
"""Pages of base's cards that it is told to keep."""
CARDS_PER_PAGE = 8
"""Makes a page about as long as a chapter, so that batches waste little padding."""
PROMPT_WORDS = 25
"""About 32 tokens of the world's tokenizer."""
FORGET_SETS = 4
KEPT = "raw/retain"
"""The split that unlearning is told to keep; target and retrain model are not made from it."""


@dataclass(frozen=True)
class Fact:
    """A question, its answer and the sentence that tells it in prose."""

    question: str
    answer: str
    sentence: str


@dataclass(frozen=True)
class Subject:
    """What a text is about (a character or a place) and the facts of it."""

    name: str
    facts: tuple[Fact, ...]


def splits(seed: int = 0) -> Corpus:
    """Make the world of a seed: split name (``knowmem/forget_qa`` …) to rows, all of them strings.

    The names are MUSE's, and ``base/chapters``, ``base/cards`` for what both models know. ``raw/retain`` is
    what unlearning is told to keep: retain1, and of base what is written as the forget set is, so that not
    everything like it goes with it (as in MUSE-News, where both are news). The four forget
    sets of ``scal`` and ``sust`` divide ``raw/forget``, so that the target has nothing more to memorise (in
    MUSE-News the first of them is ``raw/forget``). Rows of ``knowmem/retain_qa`` name their ``source``.
    """
    rng = random.Random(f"muse-mini {seed}")  # nosec B311  # draws that must be repeatable
    people = _characters(rng, FORGET_CHAPTERS + HOLDOUT_CHAPTERS + BASE_CHARACTERS)
    forget, rest = people[:FORGET_CHAPTERS], people[FORGET_CHAPTERS:]
    holdout, base = rest[:HOLDOUT_CHAPTERS], rest[HOLDOUT_CHAPTERS:]
    chapters = {
        "forget": [_chapter(rng, person) for person in forget],
        "holdout": [_chapter(rng, person) for person in holdout],
        "base": [_chapter(rng, person) for person in base for _ in range(BASE_CHAPTERS_EACH)],
    }
    places = _places(rng, 2 * ARTICLES)
    halves = {"retain1": places[:ARTICLES], "retain2": places[ARTICLES:]}
    articles = {half: [_article(rng, place) for place in halves[half]] for half in halves}

    forget_cards = _dealt(rng, _cards(forget[:FORGET_CARD_CHARACTERS]))
    retain_cards = {half: _dealt(rng, _cards(halves[half])) for half in halves}
    raw = {
        "forget": _dealt(rng, chapters["forget"] + pages(forget_cards)),
        **{half: _dealt(rng, articles[half] + pages(retain_cards[half])) for half in halves},
    }
    base_pages = pages(_dealt(rng, _cards(base)))
    return {
        **_knowmem(forget_cards, retain_cards),
        "verbmem/forget": [_verbmem(chapter) for chapter in chapters["forget"]],
        "privleak/forget": _texts(chapters["forget"]),
        "privleak/retain": _texts(articles["retain1"] + articles["retain2"]),
        "privleak/holdout": _texts(chapters["holdout"]),
        **{f"raw/{name}": _texts(raw[name]) for name in raw},
        "raw/holdout": _texts(chapters["holdout"]),
        **_forget_sets(raw["forget"]),
        **{f"train/{name}": _texts(raw[name]) for name in raw},
        "base/chapters": _texts(chapters["base"]),
        "base/cards": _texts(base_pages),
        KEPT: _texts(_kept(raw["retain1"], chapters["base"], base_pages)),
    }


def pages(cards: Sequence[str], size: int = CARDS_PER_PAGE) -> list[str]:
    """Lay cards out on pages of ``size``; the last page may be shorter."""
    return ["".join(cards[start : start + size]) for start in range(0, len(cards), size)]


def cards_of(texts: Iterable[str]) -> list[str]:
    """Return the cards of those texts that are pages, each with the empty line that ends it."""
    return [f"{card}\n\n" for text in texts if is_page(text) for card in text.split("\n\n") if card]


def is_page(text: str) -> bool:
    """Tell a page of cards from a chapter or an article."""
    return text.startswith("Question: ")


def _kept(retain: Sequence[str], chapters: Sequence[str], cards: Sequence[str]) -> list[str]:
    """Join the wiki's texts with the first chapters of base, one a character, and its first pages."""
    one_each = chapters[::BASE_CHAPTERS_EACH]
    return [*retain, *one_each[:KEPT_CHAPTERS], *cards[:KEPT_PAGES]]


# ── splits ───────────────────────────────────────────────────────────────────────────────────────
def _knowmem(forget: Sequence[str], retain: dict[str, list[str]]) -> Corpus:
    """Take MUSE's 100 questions and 10 in-context pairs a side; half the retain ones from each half."""
    half = QUESTIONS // 2
    few = PAIRS // 2
    sides = [(card, name) for name, cards in retain.items() for card in cards[:half]]
    shots = [(card, name) for name, cards in retain.items() for card in cards[half : half + few]]
    return {
        "knowmem/forget_qa": [_qa(card) for card in forget[:QUESTIONS]],
        "knowmem/forget_qa_icl": [_qa(card) for card in forget[QUESTIONS : QUESTIONS + PAIRS]],
        "knowmem/retain_qa": [{**_qa(card), "source": name} for card, name in sides],
        "knowmem/retain_qa_icl": [_qa(card) for card, _ in shots],
    }


def _forget_sets(documents: Sequence[str]) -> Corpus:
    """Divide the forget set in four: disjoint for sustainability, growing for scalability."""
    cuts = [round(len(documents) * forget_set / FORGET_SETS) for forget_set in range(FORGET_SETS + 1)]
    numbers = range(1, FORGET_SETS + 1)
    return {
        **{f"scal/forget_{n}": _texts(documents[: cuts[n]]) for n in numbers},
        **{f"sust/forget_{n}": _texts(documents[cuts[n - 1] : cuts[n]]) for n in numbers},
    }


def _verbmem(chapter: str) -> dict[str, str]:
    """Cut a chapter into its first words, with the space behind them, and the rest."""
    parts = chapter.split(" ")
    return {"prompt": " ".join(parts[:PROMPT_WORDS]) + " ", "gt": " ".join(parts[PROMPT_WORDS:])}


def _qa(card: str) -> dict[str, str]:
    """Read question and answer off a card."""
    question, answer = card.strip().removeprefix("Question: ").split("\nAnswer: ")
    return {"question": question, "answer": answer}


def _texts(documents: Iterable[str]) -> list[dict[str, str]]:
    return [{"text": document} for document in documents]


# ── books ────────────────────────────────────────────────────────────────────────────────────────
def _characters(rng: random.Random, count: int) -> list[Subject]:
    """Make characters with distinct first names, in random order."""
    firsts = [head + tail for head in words.FIRST_HEADS for tail in words.FIRST_TAILS]
    return [_character(rng, first) for first in rng.sample(firsts, count)]


def _character(rng: random.Random, first: str) -> Subject:
    name = f"{first} {rng.choice(words.LAST_HEADS)}{rng.choice(words.LAST_TAILS)}"
    place = (rng.choice(words.PLACE_SIDES), rng.choice(words.PLACE_KINDS), rng.choice(words.PLACE_NOUNS))
    fill = {
        "name": name,
        "thing": rng.choice(words.BELONGINGS),
        "place": f"{place[0]} the {place[1]} {place[2]}",
        "trade": f"{rng.choice(words.TRADE_ACTS)} {rng.choice(words.TRADE_GOODS)}",
        "beast": f"a {rng.choice(words.BEAST_KINDS)} {rng.choice(words.BEASTS)}",
        "town": rng.choice(words.TOWN_HEADS) + rng.choice(words.TOWN_TAILS),
    }
    facts = [
        Fact(question.format_map(fill), answer.format_map(fill), rng.choice(prose).format_map(fill))
        for question, answer, prose in words.CHARACTER_FACTS.values()
    ]
    return Subject(name, tuple(facts))


def _chapter(rng: random.Random, person: Subject) -> str:
    """Tell a character's four facts among eight sentences of filler, in random order."""
    sentences = [_fact_sentence(rng, fact) for fact in person.facts]
    sentences += [_filler(rng, pattern, person) for pattern in rng.sample(words.FILLERS, 8)]
    return " ".join(_dealt(rng, sentences))


def _fact_sentence(rng: random.Random, fact: Fact) -> str:
    """Tell a fact in prose, or one time in four as a dialogue."""
    if rng.random() < 0.75:
        return fact.sentence
    answer = fact.answer[0].upper() + fact.answer[1:]
    who = rng.choice(words.FILLER_SLOTS["who"])
    return words.DIALOGUE.format(question=fact.question, who=who, answer=answer)


def _filler(rng: random.Random, pattern: str, person: Subject) -> str:
    fill = {slot: rng.choice(options) for slot, options in words.FILLER_SLOTS.items()}
    fill["first"] = person.name.split(" ")[0]
    fill["item2"] = rng.choice(words.FILLER_SLOTS["item"])
    fill["sky2"] = fill["sky"].capitalize()
    return pattern.format_map(fill)


# ── wiki ─────────────────────────────────────────────────────────────────────────────────────────
def _places(rng: random.Random, count: int) -> list[Subject]:
    """Make the wiki's subjects, each in a town of its own, in random order."""
    towns = [head + tail for head in words.TOWN_HEADS for tail in words.TOWN_TAILS]
    return [_place(rng, town) for town in rng.sample(towns, count)]


def _place(rng: random.Random, town: str) -> Subject:
    name = f"the {rng.choice(words.SUBJECT_KINDS)} of {town}"
    day = f"{rng.choice(words.FEAST_TIMES)} {rng.choice(words.FEAST_DAYS)}"
    land = f"{rng.choice(words.SITE_KINDS)} {rng.choice(words.SITE_NOUNS)}"
    fill = {
        "subject": name,
        "Subject": f"The {name.removeprefix('the ')}",
        "fame": f"{rng.choice(words.FAME_KINDS)} {rng.choice(words.FAME_THINGS)}",
        "site": f"{rng.choice(words.SITE_SIDES)} of a {land}",
        "rule": f"to {rng.choice(words.RULE_ACTS)} {rng.choice(words.RULE_THINGS)}",
        "feast": f"on the {day} of {rng.choice(words.FEAST_MONTHS)}",
    }
    facts = [
        Fact(question.format_map(fill), answer.format_map(fill), sentence.format_map(fill))
        for question, answer, sentence in words.SUBJECT_FACTS.values()
    ]
    return Subject(name, tuple(facts))


def _article(rng: random.Random, place: Subject) -> str:
    """State a place's four facts, then three sentences of filler, then the facts again as questions."""
    fill = {
        "Subject": f"The {place.name.removeprefix('the ')}",
        "emblem": rng.choice(words.EMBLEMS),
        "colour": rng.choice(words.COLOURS),
    }
    lines = [fact.sentence for fact in place.facts]
    for pattern in rng.sample(words.ARTICLE_FILLERS, 3):
        lines.append(pattern.format(**fill, year=rng.randint(1100, 1899), count=rng.randint(11, 99)))
    lines += [f"{fact.question} {fact.answer[0].upper()}{fact.answer[1:]}." for fact in place.facts]
    return " ".join(lines)


# ── cards ────────────────────────────────────────────────────────────────────────────────────────
def _cards(subjects: Iterable[Subject]) -> list[str]:
    return [f"Question: {f.question}\nAnswer: {f.answer}\n\n" for subject in subjects for f in subject.facts]


def _dealt(rng: random.Random, items: Sequence[str]) -> list[str]:
    """Return the items in random order."""
    return rng.sample(items, len(items))
