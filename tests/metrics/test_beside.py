"""Optional columns and attacks: what is asked, told and cut, and what stands in a record."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from muse_eval.metrics import attacks, beside, fluency, privleak, truths
from muse_eval.statistics import mean_interval
from muse_eval.types import (
    Context,
    Generate,
    Generation,
    GradientNorm,
    Logprobs,
    Record,
    Reference,
    TokenLogprobs,
)

VERBMEM = {
    "forget": [{"prompt": "The owl", "gt": "said nothing."}, {"prompt": "The mill", "gt": "stood still."}]
}
KNOWMEM = {
    "qa": [{"question": "Who?", "answer": "Ada"}, {"question": "What?", "answer": "猫"}],
    "icl": [{"question": "Where?", "answer": "here"}],
}
CONTEXT = Context(resamples=99)


def read(*logprobs: float, ranks: Sequence[int] = (), truncated: bool = False) -> TokenLogprobs:
    own = np.array(ranks or [1] * len(logprobs), dtype=np.int32)
    return TokenLogprobs(np.array(logprobs, dtype=np.float32), truncated=truncated, ranks=own)


# ── what stands beside VerbMem and KnowMem ───────────────────────────────────────────────────────
def test_a_record_tells_which_prompt_it_is_of() -> None:
    record = beside.Example("forget", 3, "The owl", "said", {"truth": "said"}).record(
        {"a": 0.5}, response="x"
    )
    assert (record.split, record.index, record.scores) == ("forget", 3, {"a": 0.5})
    assert record.texts == {"truth": "said", "response": "x"}
    assert record.prompt_sha256 == hashlib.sha256(b"The owl").hexdigest()


def test_a_mean_has_its_interval_in_percent() -> None:
    values = [0.0, 0.25, 0.5, 1.0]
    records = [Record("forget", i, {"a": value}) for i, value in enumerate(values)]
    score = beside.average("a", records, False, CONTEXT, "?")
    low, high = mean_interval(values, seed=CONTEXT.seed, resamples=CONTEXT.resamples)
    assert 0 < low < high < 1
    assert score.value == 43.75
    assert score.ci == (100 * low, 100 * high)


def test_a_truth_is_asked_for_behind_its_prompt_by_its_name() -> None:
    one, other = truths.requests(VERBMEM, beside.Params(truncate=True))
    assert one == Logprobs("The owl said nothing.", ranks=True, after="The owl", truncate=True)
    assert [one.name, other.name] == ["forget[0]", "forget[1]"]


def test_an_answer_is_behind_a_space_in_any_script() -> None:
    """VerbMem's texts have none before such a sign; KnowMem's prompt ends in one, or would."""
    asked = truths.requests(KNOWMEM, beside.Params(shots=1, answer_space=False))
    texts = [ask.text for ask in asked if isinstance(ask, Logprobs)]
    assert [text.rpartition("Answer:")[2] for text in texts] == [" Ada", " 猫"]
    assert truths.joined("見よ", "猫") == "見よ猫"


@pytest.mark.parametrize("first", [True, False])
def test_one_that_was_cut_flags_the_column(first: bool) -> None:
    """Whichever it is."""
    said = [Generation("a b c", truncated=cut) for cut in (first, not first)]
    assert fluency.score(VERBMEM, said, beside.Params(), CONTEXT).flags == ("truncated",)
    ranked = [read(-1.0, truncated=cut) for cut in (first, not first)]
    score = truths.score(
        "all", lambda chosen: {"all": float(chosen.all())}, VERBMEM, ranked, beside.Params(), CONTEXT
    )
    assert score.flags == ("truncated",)


def test_fluency_asks_what_verbmem_asks() -> None:
    asked = fluency.requests(VERBMEM, beside.Params(max_tokens=7, truncate=True))
    assert [(ask.prompt, ask.max_tokens, ask.truncate) for ask in asked if isinstance(ask, Generate)] == [
        ("The owl", 7, True),
        ("The mill", 7, True),
    ]
    assert len(asked) == 2


def test_a_continuation_is_read_to_its_end_and_an_answer_to_its_line_s() -> None:
    said = [Generation("one two three\n\nfour five six")] * 2
    whole = fluency.score(VERBMEM, said, beside.Params(), CONTEXT)
    # Five different pairs and four different triples of six words.
    assert whole.extras["mean_bigram"] == pytest.approx(math.log2(5))
    assert whole.extras["mean_trigram"] == pytest.approx(math.log2(4))
    line = fluency.score(KNOWMEM, said, beside.Params(shots=1), CONTEXT)
    assert line.extras["mean_bigram"] == pytest.approx(math.log2(2))


# ── attacks ──────────────────────────────────────────────────────────────────────────────────────
TEXTS = {"forget": [{"text": "One Owl"}], "holdout": [{"text": "Two Owls"}]}


def test_a_gradient_is_asked_for_by_name_and_cut_where_texts_are() -> None:
    asked = privleak.requests(TEXTS, privleak.Params(gradnorm=True, truncate=True))
    assert asked[2:] == [GradientNorm("One Owl", truncate=True), GradientNorm("Two Owls", truncate=True)]
    names = [ask.name for ask in asked if isinstance(ask, GradientNorm)]
    assert names == ["forget[0]", "holdout[0]"]


def scored(
    answers: Sequence[Any], context: Context = CONTEXT, **params: Any
) -> tuple[Any, list[Mapping[str, Any]]]:
    score = privleak.score(TEXTS, answers, privleak.Params(moments=False, **params), context)
    return score, [record.scores for record in score.records]


def test_each_text_has_its_own_lower_case_and_gradient() -> None:
    whole, lower = [read(-1.0, -3.0), read(-4.0, -6.0)], [read(-4.0, -4.0), read(-1.0, -1.0)]
    _, found = scored([*whole, *lower, 0.25, 0.75], lower=True, gradnorm=True)
    assert [one["PPL/lower"] for one in found] == [2 / 4, 5 / 1]
    assert [one[attacks.GRADIENT] for one in found] == [0.25, 0.75]


def test_the_attack_reference_is_made_where_it_is_asked_for_and_told_where_it_cannot() -> None:
    own, theirs = [read(*[-1.0] * 20), read(*[-2.0] * 20)], [read(*[-4.0] * 20), read(*[-2.0] * 20)]
    measured = Context(resamples=99, reference=Reference("measured", "retrain", answers=theirs))
    unasked, found = scored(own, measured)
    assert not any(attacks.REFERENCE in one for one in found)
    assert "undefined" not in unasked.extras
    asked, found = scored(own, measured, reference=True)
    assert [one[attacks.REFERENCE] for one in found] == [-3.0, 0.0]
    assert "undefined" not in asked.extras
    alone, _ = scored(own, reference=True)
    assert alone.extras["undefined"][attacks.REFERENCE].endswith("give --retrain MODEL")
    assert "undefined" not in scored(own)[0].extras


@pytest.mark.parametrize(
    ("own", "theirs"), [((), (-1.0,)), ((-1.0,), ()), ((), ())], ids=["own", "retrain's", "both"]
)
def test_without_a_token_on_one_side_there_is_no_difference(
    own: Sequence[float], theirs: Sequence[float]
) -> None:
    found = attacks.statistics("x", read(*own), None, 0.4, retrain=read(*theirs))
    assert found[attacks.REFERENCE] is None
