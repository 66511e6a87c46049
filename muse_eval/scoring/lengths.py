"""Whether a task's texts fit a model, counted with its tokenizer before anything is trained or scored."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from muse_eval import plugins
from muse_eval.config import ColumnSpec, TaskSpec
from muse_eval.data import Finding, Rows
from muse_eval.errors import UserError, listed
from muse_eval.types import Generate, Request, Truncate

if TYPE_CHECKING:
    from muse_eval.engines.tokens import Tokens

UNBOUNDED = 10**9
"""A tokenizer's ``model_max_length`` beyond this means that it names none."""
GUESSED = {"short-truth": "truths", "long-answer": "answers"}
"""What is guessed from words where there is no tokenizer, and of which texts."""


@dataclass(frozen=True)
class Length:
    """How long one kind of text is, in tokens."""

    of: str
    """The column, or the training, that reads it."""
    split: str
    what: str
    """``prompts``, ``texts``, ``truths``, ``answers``, ``training rows`` or ``windows``."""
    count: int
    least: int
    median: float
    most: int
    bound: int | None
    """Tokens that they must not pass (``truths``: that they should have); None: not to be had."""
    new: int = 0
    """Tokens that the model adds to each."""

    def __str__(self) -> str:
        """Return it as one line."""
        new = f" and {self.new} new ones" if self.new else ""
        bound = "no bound known" if self.bound is None else f"{_BOUNDS[self.what]} {self.bound}"
        return (
            f"{self.of}: {self.count} {self.what} of {self.split}: "
            f"{self.least} to {self.most} tokens (median {self.median:g}){new}, {bound}"
        )


_BOUNDS = {
    "prompts": "context",
    "texts": "context",
    "truths": "cut at",
    "answers": "a model gives at most",
    "training rows": "cut at",
    "windows": "context",
}


def load(name: str) -> "Tokens":
    """Load a tokenizer with the context of the model that it lies beside, else the one that it names.

    Raises:
        UserError: there is no such tokenizer, or it cannot be loaded.
    """
    from muse_eval.engines.checkpoint import Checkpoint
    from muse_eval.engines.loading import context_of, load_config, load_tokenizer
    from muse_eval.engines.tokens import Tokens

    tokenizer = load_tokenizer(None, name, ())
    named = int(tokenizer.model_max_length)
    context = named if named < UNBOUNDED else None
    folder = Path(tokenizer.name_or_path)
    if (folder / "config.json").is_file():
        with suppress(UserError):  # What holds a tokenizer alone may hold half a configuration.
            context = context_of(load_config(Checkpoint(name, folder, None))) or context
    return Tokens(tokenizer, None, context)


def measure(task: TaskSpec, splits: Rows, tokens: "Tokens") -> tuple[tuple[Length, ...], tuple[Finding, ...]]:
    """Count the tokens of all that a task asks and unlearns, and return them with what does not fit.

    A column of which a split is missing, or whose metric cannot ask, is left out.

    Args:
        task: the task.
        splits: as ``findings.read`` returns them.
        tokens: as ``load`` returns it.

    Raises:
        UserError: a column names what there is not.
    """
    told = list(_trained(task, splits, tokens))
    for name, column in reversed(task.columns.items()):
        told = [*_asked(name, column, splits, tokens), *_answers(name, column, splits, tokens), *told]
    unfit = (finding for _, each in told for finding in each)
    return tuple(length for length, _ in told), tuple(dict.fromkeys(unfit))


def replaced(guessed: Sequence[Finding], lengths: Sequence[Length]) -> tuple[Finding, ...]:
    """Return the findings but for those that were guessed from words and are counted now."""
    counted = {(kind, one.split) for kind in GUESSED for one in lengths if one.what == GUESSED[kind]}
    return tuple(one for one in guessed if (one.kind, one.split) not in counted)


Told = tuple[Length, list[Finding]]
"""A length, and what does not fit of it."""


# ── what is scored ───────────────────────────────────────────────────────────────────────────────
def _asked(name: str, column: ColumnSpec, splits: Rows, tokens: "Tokens") -> Iterator[Told]:
    """Yield the lengths of a column's questions, of each split and kind of question on its own."""
    metric, params = plugins.column(name, column, column.params)
    if not splits.keys() >= set(column.splits.values()):
        return
    try:
        asks = metric.requests({role: splits[split] for role, split in column.splits.items()}, params)
    except UserError:
        return  # Too few pairs, say: told with all that is suspicious.
    groups: dict[tuple[str, type[Request]], dict[int, Request]] = {}
    for ask in asks:
        place = re.fullmatch(r"(\w+)\[(\d+)\]", ask.name)
        if place and place[1] in column.splits:
            groups.setdefault((column.splits[place[1]], type(ask)), {})[int(place[2])] = ask
    for (split, _), numbered in groups.items():
        yield _question(name, split, numbered, tokens)


def _question(name: str, split: str, asks: Mapping[int, Request], tokens: "Tokens") -> Told:
    counts = {row: len(tokens.ids(ask)) for row, ask in asks.items()}
    one, context = next(iter(asks.values())), tokens.context
    if isinstance(one, Truncate):
        unfit = _unfit(
            "short-truth",
            split,
            {row: count for row, count in counts.items() if count < one.max_tokens},
            f"truths of under {one.max_tokens} tokens in {{}}: a model goes on for as many, and what is "
            "beyond the truth lowers the score",
            "lengthen them, or lower the column's params: {max_tokens: …}",
        )
        return _length(name, split, "truths", counts, one.max_tokens), unfit
    new = one.max_tokens if isinstance(one, Generate) else 0
    unfit = _unfit(
        "too-long",
        split,
        {row: count for row, count in counts.items() if context is not None and count + new > context},
        f"more tokens{f', with {new} new ones,' if new else ''} than the context of {context} holds in {{}}",
        "shorten them; a run refuses them, or with --truncate scores what fits, flagged",
    )
    return _length(name, split, "prompts" if new else "texts", counts, context, new), unfit


def _answers(name: str, column: ColumnSpec, splits: Rows, tokens: "Tokens") -> Iterator[Told]:
    """Yield the lengths of KnowMem's answers alone, without the space that stands before them."""
    rows = splits.get(column.splits.get("qa", ""), ())
    if column.metric != "knowmem" or not rows:
        return
    _, params = plugins.column(name, column, column.params)
    split = column.splits["qa"]
    counts = {row: _ids(tokens, one["answer"], special=False) for row, one in enumerate(rows)}
    unfit = _unfit(
        "long-answer",
        split,
        {row: count for row, count in counts.items() if count > params.max_tokens},
        f"answers of more than {params.max_tokens} tokens in {{}}: a model may only give that many",
        "shorten them, or raise the column's params: {max_tokens: …}",
    )
    yield _length(name, split, "answers", counts, params.max_tokens), unfit


# ── what is unlearned ────────────────────────────────────────────────────────────────────────────
def _trained(task: TaskSpec, splits: Rows, tokens: "Tokens") -> Iterator[Told]:
    """Yield the lengths of the rows that unlearning makes of each of its splits."""
    from muse_eval.unlearning.rows import chunks

    most, context = task.unlearn.max_len, tokens.context
    for split in dict.fromkeys([*task.forgets, task.unlearn.retain]):
        rows = enumerate(splits.get(split, ()))
        # A blank row of training text contributes nothing.
        texts = {row: text for row, one in rows if (text := one.get("text", "")).strip()}
        if not texts:
            continue
        if task.unlearn.rows == "document":
            counts = {row: _ids(tokens, text) for row, text in texts.items()}
            length = _length("unlearn", split, "training rows", counts, most)
            unfit = _unfit(
                "cut-row",
                split,
                {row: count for row, count in counts.items() if count > most},
                f"more than unlearn.max_len ({most}) tokens in {{}}: what is beyond is not unlearned",
                "raise max_len, cut the texts, or take rows: chunk",
            )
        else:
            counts = dict(enumerate(map(len, chunks(list(texts.values()), tokens.tokenizer, most))))
            length, unfit = _length("unlearn", split, "windows", counts, context), []
        read = min(most, length.most)
        if context is not None and read > context:
            what = f"training rows of {read} tokens are beyond the context of {context}"
            unfit.append(Finding("too-long", split, (), what, "lower unlearn.max_len"))
        yield length, unfit


def _ids(tokens: "Tokens", text: str, special: bool = True) -> int:
    return len(tokens.tokenizer(text, add_special_tokens=special, verbose=False).input_ids)


# ── telling ──────────────────────────────────────────────────────────────────────────────────────
def _length(
    of: str, split: str, what: str, counts: Mapping[int, int], bound: int | None, new: int = 0
) -> Length:
    each = list(counts.values())
    return Length(of, split, what, len(each), min(each), float(np.median(each)), max(each), bound, new)


def _unfit(kind: str, split: str, counts: Mapping[int, int], what: str, do: str) -> list[Finding]:
    """Return one finding of all rows, none where there is no row; ``{}`` becomes rows and tokens."""
    told = [f"{row} ({count})" for row, count in counts.items()]
    return [Finding(kind, split, tuple(counts), what.format(listed("row", told)), do)] if told else []
