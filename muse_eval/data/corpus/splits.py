"""Makes every split of a task out of texts and questions, and says what it did; reads and writes nothing."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from muse_eval.data.corpus.cutting import Mark, Measure, by_words, cut, spread
from muse_eval.data.overlap import normal, repeats, words
from muse_eval.errors import UserError, counted

Row = dict[str, str] | str

EXAMPLES = 100
"""VerbMem examples, and PrivLeak pieces a side: as many as MUSE has."""
LONGEST_TRUTH = 128
"""Units of a truth at most: MUSE's 128 tokens."""
LONGEST_PIECE = 256
SHORTEST = 16
"""Units of a prompt, a truth or a piece at least: of fewer a score says nothing."""
SHOTS = 10
"""In-context pairs a side at most: MUSE's."""
ASKED = 2
"""Questions that are asked, at least, for each in-context pair."""


@dataclass(frozen=True)
class Texts:
    """What was read from one place."""

    place: str
    texts: tuple[str, ...]
    """Without blank ones, stripped."""
    blank: int = 0
    """Texts left out because nothing stands in them."""
    unread: int = 0
    """Files of other kinds in the folder."""


@dataclass(frozen=True)
class Question:
    """A question, its answer, and the side whose texts answer it."""

    side: str
    question: str
    answer: str


@dataclass(frozen=True)
class Making:
    """How a corpus is made out of its texts; a length that is None is as long as most texts allow."""

    measure: Measure
    """What lengths are counted with."""
    unit: str = "words"
    """What it counts."""
    prompt: int | None = None
    truth: int | None = None
    piece: int | None = None
    """Of PrivLeak's texts."""
    share: float = 0.5
    """Of the forget texts that holdout is drawn from: at least one is drawn, and never all."""
    seed: int = 0
    """Of every draw."""

    def draw(self, what: str) -> random.Random:
        """Return the random numbers of one draw, which no other draw moves on."""
        return random.Random(f"{what} {self.seed}")  # nosec B311  # draws that must be repeatable


@dataclass
class NewCorpus:
    """The splits made, what each column that can be scored needs, and what was done."""

    splits: dict[str, list[Row]] = field(default_factory=dict)
    truth: int = 0
    """Units of a truth: ``max_tokens`` of VerbMem."""
    shots: dict[str, int] = field(default_factory=dict)
    """In-context pairs of each side that has questions enough."""
    told: list[str] = field(default_factory=list)
    """What was read and made, a line each."""
    left_out: list[str] = field(default_factory=list)
    """The columns that cannot be scored, and why, a line each."""


def make_corpus(
    forget: Texts,
    retain: Texts,
    holdout: Texts | None = None,
    questions: Sequence[Question] | None = None,
    how: Making = Making(by_words),
) -> NewCorpus:
    """Make the splits: training texts, VerbMem examples, PrivLeak pieces, questions with their pairs.

    A text that stands on two sides is left to the one named first below, and told.

    Args:
        forget: the texts to be forgotten and, where ``holdout`` is None, those that holdout is drawn from.
        retain: the texts to be kept.
        holdout: texts that no model has read.
        questions: None where there are none.
        how: lengths, shares and the seed.

    Raises:
        UserError: a side has no text of its own, or nothing can be scored.
    """
    made = NewCorpus()
    sides: dict[str, list[str]] = {}
    for side, found in (("forget", forget), ("retain", retain), ("holdout", holdout)):
        if found is not None:
            sides[side] = _distinct(side, found, sides, made)
    if holdout is None:
        _draw_holdout(sides, forget.place, how, made)
        questions = questions and _of_what_is_forgotten(questions, sides, made)
    for side, texts in sides.items():
        name = f"raw/{'retain1' if side == 'retain' else side}"
        made.splits[name] = list(texts)
        length = sum(len(by_words(text)) for text in texts)
        made.told.append(f"{name}: {counted(len(texts), 'text')}, {length:,} words")
    _share_out(questions, how, made)
    if "holdout" in sides:
        _cut_pieces(sides, how, made)
    _cut_examples({side: sides[side] for side in ("forget", "retain")}, how, made)
    if not made.splits.keys() & {"verbmem/forget", "privleak/forget", "knowmem/forget_qa"}:
        raise UserError(f"nothing can be scored on these texts: {'; '.join(made.left_out)}")
    return made


# ── texts ────────────────────────────────────────────────────────────────────────────────────────
def _distinct(side: str, found: Texts, others: Mapping[str, Sequence[str]], made: NewCorpus) -> list[str]:
    """Return the texts of a side that stand on no side before it, each once, and tell what was left out.

    Raises:
        UserError: none is left.
    """
    again = repeats(found.texts)
    kept = [text for row, text in enumerate(found.texts) if row not in again]
    left_out = {"blank": found.blank, "the same as another": len(again)}
    for other, texts in others.items():
        forms = set(map(normal, texts))
        shared = [text for text in kept if normal(text) in forms]
        left_out[f"in --{other} too"] = len(shared)
        kept = [text for text in kept if normal(text) not in forms]
    left_out["of another kind of file (not read)"] = found.unread
    told = ", ".join(f"{count:,} {what}" for what, count in left_out.items() if count)
    if not kept:
        raise UserError(f"--{side} {found.place} has no text{f'; left out: {told}' if told else ''}")
    line = f"--{side} {found.place}: {counted(len(kept), 'text')}"
    made.told.append(f"{line}; left out: {told}" if told else line)
    return kept


def _draw_holdout(sides: dict[str, list[str]], place: str, how: Making, made: NewCorpus) -> None:
    """Take whole texts out of the forget side, at random."""
    texts = sides["forget"]
    if len(texts) < 2:
        made.left_out.append(
            "PrivLeak is left out: one forget text leaves none to draw a holdout from; give --holdout "
            "(a .txt file is one text: several are a folder of them, or JSON)"
        )
        return
    number = min(max(round(how.share * len(texts)), 1), len(texts) - 1)
    drawn = set(how.draw("holdout").sample(range(len(texts)), number))
    sides["holdout"] = [text for row, text in enumerate(texts) if row in drawn]
    sides["forget"] = [text for row, text in enumerate(texts) if row not in drawn]
    made.told.append(
        f"holdout: {number} of the {len(texts)} texts in {place}, drawn at random (seed {how.seed}); "
        "no model may read them, and they are not in raw/forget"
    )


# ── pieces of texts ──────────────────────────────────────────────────────────────────────────────
def _usual(marks: Sequence[Sequence[Mark]], most: int, parts: int) -> int:
    """Return a length that all but the shortest tenth of the texts hold ``parts`` times."""
    lengths = sorted(found[-1][1] for found in marks)
    return max(SHORTEST, min(most, lengths[len(lengths) // 10] // parts))


def _cut_pieces(sides: dict[str, list[str]], how: Making, made: NewCorpus) -> None:
    """Cut every side's texts into pieces of one length."""
    marks = {side: [how.measure(text) for text in texts] for side, texts in sides.items()}
    size = how.piece or _usual([one for found in marks.values() for one in found], LONGEST_PIECE, 1)
    chosen = {}
    for side, texts in sides.items():
        groups = [cut(text, found, [size]) for text, found in zip(texts, marks[side], strict=True)]
        chosen[side] = [piece.strip() for (piece,) in spread(groups, EXAMPLES, how.draw(f"pieces {side}"))]
        if not chosen[side]:
            made.left_out.append(
                f"PrivLeak is left out: no {side} text has {size} {how.unit}; give a smaller --piece-length"
            )
            return
    made.splits |= {f"privleak/{side}": list(pieces) for side, pieces in chosen.items()}
    counts = ", ".join(f"{len(pieces)} {side}" for side, pieces in chosen.items())
    made.told.append(f"PrivLeak: pieces of {size} {how.unit}: {counts}")


def _cut_examples(sides: dict[str, list[str]], how: Making, made: NewCorpus) -> None:
    """Cut prompts and truths: of forget texts and, where no question tells of utility, of retain texts."""
    marks = {side: [how.measure(text) for text in texts] for side, texts in sides.items()}
    usual = _usual([one for found in marks.values() for one in found], LONGEST_TRUTH, 2)
    prompt, made.truth = how.prompt or usual, how.truth or usual
    for side, column in (("forget", "VerbMem Df"), ("retain", "VerbMem Dr")):
        if side in made.shots and side == "retain":
            continue
        groups = [
            cut(text, found, [prompt, made.truth])
            for text, found in zip(sides[side], marks[side], strict=True)
        ]
        examples = spread(groups, EXAMPLES, how.draw(f"examples {side}"))
        if not examples:
            made.left_out.append(
                f"{column} is left out: no {side} text has {prompt + made.truth} {how.unit}; "
                "give a smaller --prompt-length and --truth-length"
            )
            continue
        made.splits[f"verbmem/{side}"] = [{"prompt": head.strip(), "gt": tail} for head, tail in examples]
        short = sum(not found for found in groups)
        made.told.append(
            f"{column}: {counted(len(examples), 'example')}, a prompt of {prompt} {how.unit} and a truth of "
            f"{made.truth}" + (f"; too short for one: {counted(short, 'text')}" if short else "")
        )


# ── questions ────────────────────────────────────────────────────────────────────────────────────
def _share_out(questions: Sequence[Question] | None, how: Making, made: NewCorpus) -> None:
    """Split each side's questions into those that are asked and those shown in front of each."""
    sides = _by_side(questions or (), made)
    for side, rows in sides.items():
        column = {"forget": "KnowMem Df", "retain": "KnowMem Dr"}[side]
        shots = min(SHOTS, len(rows) // (ASKED + 1))
        if not shots:
            instead = "; VerbMem Dr, on retain text, stands for utility" if side == "retain" else ""
            why = (
                "no --questions" if questions is None else f"{counted(len(rows), 'question')} of side {side}"
            )
            least = "" if questions is None else f", and {ASKED + 1} are the fewest"
            made.left_out.append(f"{column} is left out: {why}{least}{instead}")
            continue
        shown = set(how.draw(f"pairs {side}").sample(range(len(rows)), shots))
        made.splits[f"knowmem/{side}_qa"] = [row for at, row in enumerate(rows) if at not in shown]
        made.splits[f"knowmem/{side}_qa_icl"] = [row for at, row in enumerate(rows) if at in shown]
        made.shots[side] = shots
        made.told.append(
            f"{column}: {counted(len(rows) - shots, 'question')}, {counted(shots, 'pair')} taken out of "
            "them to be shown in front of each"
        )


def _of_what_is_forgotten(
    questions: Sequence[Question], sides: Mapping[str, Sequence[str]], made: NewCorpus
) -> list[Question]:
    """Leave out the forget questions that only texts drawn for holdout answer, and tell of the doubtful ones.

    No model reads those texts, so that no model can know the answer.
    """
    whole = {side: "\n".join(map(_plain, sides.get(side, ()))) for side in ("forget", "holdout")}
    asked = [one for one in questions if one.side == "forget"]
    places = {one: {side for side, text in whole.items() if _plain(one.answer) in text} for one in asked}
    gone = [one for one, found in places.items() if found == {"holdout"}]
    if gone:
        made.told.append(
            f"--questions: left out: {len(gone)} of side forget, whose answer stands in texts drawn for "
            "holdout alone"
        )
    if whole["holdout"] and (doubtful := sum(not found for found in places.values())):
        made.told.append(
            f"--questions: {counted(doubtful, 'answer')} of side forget in no text word for word: drop what "
            "only holdout texts answer"
        )
    return [one for one in questions if one not in gone]


def _plain(text: str) -> str:
    """Return a text's words alone, a space before and after each."""
    return f" {' '.join(words(text))} "


def _by_side(questions: Sequence[Question], made: NewCorpus) -> dict[str, list[Row]]:
    """Return each side's questions, each once.

    Raises:
        UserError: one is asked of both sides.
    """
    seen: dict[str, str] = {}
    kept: dict[str, list[Row]] = {"forget": [], "retain": []}
    for one in questions:
        form = normal(one.question)
        if seen.get(form, one.side) != one.side:
            raise UserError(
                f"--questions asks {one.question!r} of both sides; leave it to the one whose texts answer it"
            )
        if form not in seen:
            kept[one.side].append({"question": one.question, "answer": one.answer})
        seen[form] = one.side
    if again := len(questions) - len(seen):
        made.told.append(f"--questions: left out: {again} the same as another")
    return kept
