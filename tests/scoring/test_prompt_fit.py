"""Prompt and tokenizer: what is joined, what goes astray, which column is flagged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from muse_eval.config.task import ColumnSpec
from muse_eval.engines.tokens import Tokens
from muse_eval.errors import UserError
from muse_eval.metrics import knowmem
from muse_eval.mini.tokenizer import train_tokenizer
from muse_eval.scoring.answers import Answers, Store
from muse_eval.scoring.plan import PlannedColumn
from muse_eval.scoring.prompt_fit import Fit, judged, look, notes, require_open_end
from muse_eval.types import Generation, Result, Score, Truncate
from tests.support.scripted import ScriptedEngine

TEXTS = [
    "Question: Where is the tower?\nAnswer: Paris\n\nQuestion: When?\nAnswer: 1985\n\n",
    "In Paris the tower of London was seen in 1985, and Paris was seen from London.",
] * 3
BOS, EOS = "<s>", "</s>"
QUESTIONS = ("Paris", "London", "1985", "Paris")
"""True answers: three words, which a space is joined to, and a number."""


def _fast(tokenizer: Tokenizer, trainer: trainers.Trainer, template: str | None) -> PreTrainedTokenizerFast:
    tokenizer.train_from_iterator(TEXTS, trainer)
    if template:
        ids = [(token, tokenizer.token_to_id(token)) for token in (BOS, EOS)]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS)


def byte_level(template: str | None = None) -> PreTrainedTokenizerFast:
    """Return GPT-2's kind: a space is part of the word behind it, and digits stand alone."""
    tokenizer = Tokenizer(models.BPE())
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[BOS, EOS], initial_alphabet=alphabet, show_progress=False
    )
    return _fast(tokenizer, trainer, template)


def metaspace(template: str | None = f"{BOS} $A") -> PreTrainedTokenizerFast:
    """Return Llama-2's kind: spaces are ▁, joined to what follows, numbers too; BOS stands in front."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", BOS, EOS], show_progress=False)
    return _fast(tokenizer, trainer, template)


def mini() -> PreTrainedTokenizerFast:
    """Return the built-in world's: a space is part of the word before it."""
    return train_tokenizer(TEXTS, 400, 512)


class Cutter(ScriptedEngine):
    """An engine of which only the tokenizer is real; a model is not needed to cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.truncate = Tokens(tokenizer, None, None).truncate  # type: ignore[method-assign]


def column(name: str, answers: Sequence[str], goal: Any = "higher", **params: Any) -> PlannedColumn:
    rows = [{"question": "Where?", "answer": answer} for answer in answers]
    splits = {"qa": rows, "icl": []}
    spec = ColumnSpec(title=name.upper(), metric="knowmem", goal=goal, splits={})
    lineage = knowmem.Params(shots=0, **params)
    return PlannedColumn(name, spec, knowmem.METRIC, lineage, splits, knowmem.requests(splits, lineage))


def fit(tokenizer: PreTrainedTokenizerFast, given: Sequence[str], **params: Any) -> Fit:
    """Look at a column whose model gave these answers to ``QUESTIONS``."""
    asked = column("r", QUESTIONS, **params)
    answers = Answers([Generation(text) for text in given], 0.0, 0)
    return look(Store(None, print), Cutter(tokenizer), [asked], {"r": answers})["r"]


# ── what is joined ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("make", [byte_level, metaspace, mini])
@pytest.mark.parametrize("answer_space", [True, False])
def test_joined_is_what_the_token_ids_say(make: Any, answer_space: bool) -> None:
    tokenizer = make()
    asked = column("r", QUESTIONS, answer_space=answer_space)
    space = "" if answer_space else " "
    expected = 0
    for prompt, answer in zip(knowmem.prompts(asked.splits, asked.params), QUESTIONS, strict=True):
        ids = tokenizer(prompt).input_ids
        expected += tokenizer(prompt + space + answer).input_ids[: len(ids)] != ids
    assert fit(tokenizer, QUESTIONS, answer_space=answer_space).joined == expected


@pytest.mark.parametrize(
    ("make", "with_space", "without"),
    # Of the four true answers: GPT-2's kind leaves the space before a number alone, Llama-2's does not;
    # the built-in world's glues the space to the colon.
    [(byte_level, 3, 0), (metaspace, 4, 0), (mini, 0, 4)],
)
def test_how_many_true_answers_each_kind_joins(make: Any, with_space: int, without: int) -> None:
    assert fit(make(), QUESTIONS).joined == with_space
    assert fit(make(), QUESTIONS, answer_space=False).joined == without


# ── what goes astray ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("given", "astray"),
    [
        # All words, as the truth, right or wrong.
        (("Paris", "Paris", "1985", "London"), 0),
        # Numbers where a word is due; the third question's answer is a number indeed.
        (("1985", "12", "1985", "5"), 3),
        # Nothing, or white space, is no wrong beginning.
        (("", "\n", "1", "Paris"), 0),
        # A space of its own before the word.
        (("  Paris", "London", "1", "Paris"), 1),
    ],
)
def test_astray_is_an_answer_that_does_not_begin_as_the_true_one(given: Sequence[str], astray: int) -> None:
    assert fit(byte_level(), given) == Fit("answer-space", 3, astray)


def test_a_quarter_of_them_misleads() -> None:
    assert not Fit("answer-space", 0, 0).misleads
    assert not Fit("answer-space", 100, 24).misleads
    assert Fit("answer-space", 100, 25).misleads


def test_without_the_space_the_built_in_world_s_prompt_is_the_misfit() -> None:
    assert fit(mini(), ("x", "x", "x", "x"), answer_space=False) == Fit("no-answer-space", 4, 4)


def test_a_column_of_another_metric_and_an_engine_that_is_gone_say_nothing() -> None:
    class Gone(ScriptedEngine):
        def truncate(self, asks: Sequence[Truncate]) -> list[str]:
            assert asks
            raise UserError("the server is gone")

    answers = {"r": Answers([Generation("x")] * 4, 0.0, 0)}
    assert look(Store(None, print), Gone(), [column("r", QUESTIONS)], answers) == {}
    require_open_end(Store(None, print), Gone())


# ── which column is flagged ──────────────────────────────────────────────────────────────────────
def flags(
    dr: float, df: float, fits: dict[str, Fit], unlearned: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    columns = [column("f", QUESTIONS, "lower"), column("r", QUESTIONS, "higher")]
    scores = {"f": Score(df, None, 4, ("limited",)), "r": Score(dr, None, 4)}
    result = Result("t", "n", {}, scores, {"f": {"mean": 1}, "r": {}}, {}, {}, 0.0)
    found = judged(result, columns, fits, unlearned)
    assert {name: score.value for name, score in found.columns.items()} == {"f": df, "r": dr}
    return found.columns["f"].flags, found.columns["r"].flags


GOOD, JOINED, BAD = (Fit("answer-space", *counts) for counts in ((0, 0), (9, 0), (9, 9)))


def test_joined_alone_is_no_trouble() -> None:
    # Llama-2's own tokenizer joins every answer, and MUSE's models bridge it.
    assert flags(55.0, 60.0, {"f": JOINED, "r": JOINED}) == (("limited",), ())


def test_answers_that_go_astray_are_flagged_column_by_column() -> None:
    assert flags(15.0, 60.0, {"f": JOINED, "r": BAD}) == (("limited",), ("answer-space",))
    assert flags(15.0, 60.0, {"f": BAD, "r": BAD}, unlearned=True) == (
        ("limited", "answer-space"),
        ("answer-space",),
    )


@pytest.mark.parametrize(("dr", "silent"), [(4.99, True), (5.0, False)])
def test_a_model_that_answers_no_retain_question_cannot_show_forgetting(dr: float, silent: bool) -> None:
    expected = ("unanswered",) if silent else ()
    assert flags(dr, 80.0, {"f": GOOD, "r": GOOD}) == (("limited", *expected), expected)
    assert flags(dr, 80.0, {}) == (("limited", *expected), expected)
    prompt = ("answer-space",) if silent else ()
    assert flags(dr, 80.0, {"r": JOINED})[1] == expected + prompt


def test_a_model_known_to_be_unlearned_may_be_ruined() -> None:
    assert flags(0.0, 0.0, {"f": JOINED, "r": JOINED}, unlearned=True) == (("limited",), ())


def test_counts_are_kept_where_something_is_joined() -> None:
    columns = [column("r", QUESTIONS)]
    result = Result("t", "n", {}, {"r": Score(50.0, None, 4)}, {"r": {"mean": 1}}, {}, {}, 0.0)
    assert judged(result, columns, {"r": GOOD}, False).extras == {"r": {"mean": 1}}
    kept = judged(result, columns, {"r": JOINED}, False).extras
    assert kept == {"r": {"mean": 1, "answer_space": {"joined": 9, "astray": 0}}}


def test_a_departure_is_a_note_of_the_row() -> None:
    plain, other = column("f", QUESTIONS), column("r", QUESTIONS, answer_space=False)
    assert notes([plain]) == {}
    assert notes([plain, other]) == {"asked": "R asked with answer_space=false"}
    both = [column("f", QUESTIONS, answer_space=False), other]
    assert notes(both) == {"asked": "F, R asked with answer_space=false"}


# ── EOS ──────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_a_tokenizer_that_closes_every_prompt_is_refused(make: Any) -> None:
    store = Store(None, print)
    for template in (None, "$A", f"{BOS} $A"):
        require_open_end(store, Cutter(make(template)))
    for template in (f"$A {EOS}", f"{BOS} $A {EOS}"):
        with pytest.raises(UserError, match=r"scripted puts EOS behind every prompt.*add_eos_token"):
            require_open_end(store, Cutter(make(template)))
