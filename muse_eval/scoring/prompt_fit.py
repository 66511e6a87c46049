"""Whether KnowMem's prompt suits the model's tokenizer, and whether the model answers at all.

MUSE's prompt ends in ``Answer:`` and a space. Most tokenizers join a space to the word behind it, so at the
prompt's end it is a token that no word ever followed. A model can bridge that, or go on with what does follow
a space of its own: a digit.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from muse_eval.config import departures
from muse_eval.errors import UserError
from muse_eval.metrics import knowmem
from muse_eval.scoring.answers import Answers, Store
from muse_eval.scoring.plan import PlannedColumn
from muse_eval.types import Engine, Generation, Result, Truncate

ASTRAY = 0.25
"""Share of the answers that do not begin as the true ones do from which a prompt misleads its model."""
UNANSWERED = 5.0
"""A KnowMem Dr below this, in percent, is one answer in twenty: the questions are not answered."""
START = 32
"""Characters of an answer that are looked at."""


@dataclass(frozen=True)
class Fit:
    """How a column's prompt and the answers to it fall into tokens."""

    flag: str
    """What the column is flagged with where they do not fit."""
    joined: int
    """True answers whose beginning the tokenizer joins to the prompt's last token."""
    astray: int
    """Of their questions, those that the model answers with what is not joined so."""

    @property
    def misleads(self) -> bool:
        """Whether the model goes on otherwise than the true answers do."""
        return self.joined > 0 and self.astray >= ASTRAY * self.joined


def require_open_end(store: Store, engine: Engine) -> None:
    """Refuse a tokenizer that ends every prompt with EOS: the model would go on after its own end.

    Raises:
        UserError: it does.
    """
    text = "Question: Who?"
    asks = [Truncate(text, count, name="a prompt") for count in (2 * len(text), -1)]
    try:
        whole, shorter = store.ask(engine, asks).values
    except UserError:
        # What is wrong is said where the first example is asked.
        return
    if whole == shorter:
        raise UserError(
            f"the tokenizer of {engine.provenance['model']} puts EOS behind every prompt, and the model "
            "would go on after its end; set add_eos_token to false in tokenizer_config.json, or give another "
            "--tokenizer"
        )


def look(
    store: Store, engine: Engine, columns: Sequence[PlannedColumn], answers: Mapping[str, Answers]
) -> dict[str, Fit]:
    """Return each KnowMem column's fit; the engine is asked for nothing but its tokenizer's cuts.

    Args:
        store: keeps the cuts like all answers.
        engine: the model that answered.
        columns: all columns of the run.
        answers: what it answered, by column.
    """
    found = {}
    for column in columns:
        if column.metric is knowmem.METRIC:
            try:
                found[column.name] = _fit(store, engine, column, answers[column.name])
            except UserError:
                # A server that is gone, behind answers that are stored: nothing can be said.
                continue
    return found


def _fit(store: Store, engine: Engine, column: PlannedColumn, answers: Answers) -> Fit:
    end = knowmem.ending(column.params)
    space = "" if end.endswith(" ") else " "
    truths = [space + row["answer"][:START] for row in column.splits["qa"]]
    given = [one.text[:START] if isinstance(one, Generation) else "" for one in answers.values]
    whole, tokens = _last_token(store, engine, end)
    asks = [Truncate(end + text, tokens, name=f"{column.name} answers") for text in (*truths, *given)]
    joined = [text != whole for text in store.ask(engine, asks).values]
    pairs = zip(joined[: len(truths)], joined[len(truths) :], given, strict=True)
    astray = [bool(text.strip()) and not own for true, own, text in pairs if true]
    return Fit("no-answer-space" if space else "answer-space", len(astray), sum(astray))


def _last_token(store: Store, engine: Engine, text: str) -> tuple[str, int]:
    """Return a text as its tokens spell it, and how many these are, BOS counted."""
    # Every token but BOS and EOS spells a character or is a byte of one.
    asks = [Truncate(text, number, name="KnowMem's prompt") for number in range(1, len(text) + 3)]
    cuts = store.ask(engine, asks).values
    return str(cuts[-1]), cuts.index(cuts[-1]) + 1


def judged(
    result: Result, columns: Sequence[PlannedColumn], fits: Mapping[str, Fit], unlearned: bool
) -> Result:
    """Flag KnowMem columns that show nothing, and keep what was counted among the extras.

    Args:
        result: the scores.
        columns: all columns of the run.
        fits: of ``look``.
        unlearned: whether the model is known to have been unlearned: it may have been ruined, and only its
            target and retrain model can tell whether the questions were ever answered.
    """
    asked = [column for column in columns if column.metric is knowmem.METRIC]
    retained = [result.columns[column.name].value for column in asked if column.spec.goal == "higher"]
    silent = not unlearned and bool(retained) and all((value or 0.0) < UNANSWERED for value in retained)
    scores, extras = dict(result.columns), dict(result.extras)
    for name in (column.name for column in asked):
        fit = fits.get(name)
        flags = ["unanswered"] if silent else []
        if fit is not None and (fit.misleads or (silent and fit.joined)):
            flags.append(fit.flag)
        if fit is not None and fit.joined:
            counts = {"joined": fit.joined, "astray": fit.astray}
            extras[name] = {**extras[name], "answer_space": counts}
        scores[name] = replace(scores[name], flags=(*scores[name].flags, *flags))
    return replace(result, columns=scores, extras=extras)


def notes(columns: Sequence[PlannedColumn]) -> dict[str, str]:
    """Return what a run's row has to be read with: its departures from the protocol's letter."""
    told: dict[str, list[str]] = {}
    for column in columns:
        for name, value in departures(type(column.params), asdict(column.params)).items():
            told.setdefault(f"{name}={json.dumps(value)}", []).append(column.spec.title)
    lines = [f"{', '.join(titles)} asked with {setting}" for setting, titles in told.items()]
    return {"asked": "; ".join(lines)} if lines else {}
