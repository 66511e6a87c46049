"""The metrics against cases derived by hand (``tests/cases``), the protocol's constants, and properties."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from muse_eval import plugins
from muse_eval.config.spec import parse_params
from muse_eval.errors import UserError
from muse_eval.metrics import attacks, beside, knowmem, privleak, rouge, truths, verbmem
from muse_eval.scoring.answers import LATER
from muse_eval.types import (
    Answer,
    Context,
    Generate,
    Generation,
    Logprobs,
    Record,
    Reference,
    Request,
    Score,
    TokenLogprobs,
    Truncate,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CASES = Path(__file__).parent.parent / "cases"


def cases(name: str) -> list[Any]:
    rows = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    return [pytest.param(row, id=row["name"]) for row in rows]


def floats(values: Sequence[float | str] | None) -> np.ndarray | None:
    return None if values is None else np.array([float(v) for v in values], dtype=np.float32)


def answer(raw: Mapping[str, Any]) -> Answer:
    if "cut" in raw:
        return str(raw["cut"])
    if "norm" in raw:
        return float(raw["norm"])
    truncated = bool(raw.get("truncated", False))
    if "text" in raw:
        return Generation(str(raw["text"]), truncated, bool(raw.get("defined", True)))
    logprobs = floats(raw["logprobs"])
    assert logprobs is not None
    ranks = np.array(raw["ranks"], dtype=np.int32) if "ranks" in raw else None
    return TokenLogprobs(logprobs, floats(raw.get("mean")), floats(raw.get("std")), truncated, ranks)


def reference(raw: Mapping[str, Any] | None) -> Reference | None:
    if raw is None:
        return None
    return Reference(
        raw["source"], raw["model"], raw.get("auc", {}), [answer(a) for a in raw.get("answers", ())]
    )


def as_asked(request: Request) -> dict[str, Any]:
    """Return a request as the cases write it: what came later is left out where it is not asked for."""
    left_out = {
        one.name for one in fields(request) if one.name in LATER and getattr(request, one.name) == one.default
    }
    return {"kind": type(request).__name__} | {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(request).items()
        if key != "name" and key not in left_out
    }


def holds(found: Any, expected: Any, tolerance: float, where: str) -> None:
    """Check that found has everything that is expected, numbers within the tolerance."""
    if isinstance(expected, Mapping):
        for key, value in expected.items():
            assert key in found, f"{where} has no {key}"
            holds(found[key], value, tolerance, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            holds(found[index], value, tolerance, f"{where}[{index}]")
    elif isinstance(expected, (int, float)) and found is not None:
        # Log-probabilities are float32, so a value like 0.6 has seven digits.
        assert found == pytest.approx(expected, abs=max(tolerance, 5e-7 * abs(expected))), where
    else:
        assert found == expected, where


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, *param.values, id=f"{name}: {param.id}")
        for name in ("verbmem", "knowmem", "privleak", "extraction", "exact", "fluency")
        for param in cases(name)
    ],
)
def test_case(name: str, case: dict[str, Any]) -> None:
    metric = plugins.metric(name)
    params = parse_params(metric.params, case["params"], name)
    asks = metric.requests(case["splits"], params)
    assert len(asks) == len(case["answers"])
    if "requests" in case:
        assert [as_asked(ask) for ask in asks] == case["requests"]
    context = Context(resamples=500, reference=reference(case.get("reference")))
    score = metric.score(case["splits"], [answer(a) for a in case["answers"]], params, context)
    expected, tolerance = dict(case["expected"]), case["tolerance"]
    reason = expected.pop("reason", None)
    absent = expected.pop("absent", [])
    records = expected.pop("records", None)
    assert list(score.flags) == expected.pop("flags")
    holds(vars(score), expected, tolerance, name)
    assert reason in score.reason if reason and score.reason else score.reason is reason
    assert not set(absent) & score.extras.get("auc", {}).keys()
    if records is not None:
        holds([asdict(record) for record in score.records], records, tolerance, "records")
    if score.value is not None and score.ci is not None:
        assert score.ci[0] <= score.value + 1e-9
        assert score.ci[1] >= score.value - 1e-9


@pytest.mark.parametrize("case", cases("rouge"))
def test_rouge(case: dict[str, Any]) -> None:
    assert rouge.rouge(case["response"], case["truth"]) == pytest.approx(case["expected"], abs=1e-12)


# ── the clean-up rule ────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("spaced", "closed"),
    [
        ("a .", "a."),
        ("a ?", "a?"),
        ("a !", "a!"),
        ("a ,b", "a,b"),
        ("a ' b", "a'b"),
        ("do n't", "don't"),
        ("I 'm", "I'm"),
        ("it 's", "it's"),
        ("I 've", "I've"),
        ("we 're", "we're"),
        ("a . b . c", "a. b. c"),
        # what the rule leaves as it is
        ("a : b ; c", "a : b ; c"),
        ("I 'll 'd", "I 'll 'd"),
        ("a  b", "a  b"),
        (" a ", " a "),
        # the order: full stops before the lone quote, that before the contractions
        ("the boys ' s", "the boys's"),
        ("a ' .", "a '."),
    ],
)
def test_clean_up(spaced: str, closed: str) -> None:
    assert rouge.clean_up(spaced) == closed


@given(st.text(alphabet=" .?!,'ntmsvea", max_size=40))
def test_clean_up_is_what_transformers_does(tiny_tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert rouge.clean_up(text) == tiny_tokenizer.clean_up_tokenization(text)


# ── the protocol's constants ─────────────────────────────────────────────────────────────────────
def test_protocol_constants() -> None:
    assert verbmem.Params() == verbmem.Params(max_tokens=128, truncate=False)
    assert knowmem.Params() == knowmem.Params(max_tokens=32, shots=10, truncate=False)
    assert privleak.Params() == privleak.Params(
        k=0.40, retain=False, lower=False, moments=True, truncate=False
    )
    assert knowmem.STOP == ("\n\n", "\nQuestion", "Question:")
    assert attacks.KS == (0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60)
    assert (privleak.SATURATED, privleak.COLLAPSED) == (0.01, 1.5)
    assert Context() == Context(seed=0, resamples=9_999, reference=None)
    assert [plugins.metric(n).goal for n in ("verbmem", "knowmem", "privleak")] == ["lower", "lower", "zero"]
    assert [plugins.metric(n).relative for n in ("verbmem", "knowmem", "privleak")] == [False, False, True]
    assert plugins.metric("knowmem").few_shot == ("icl",)


def test_what_stands_beside_others_has_their_constants() -> None:
    assert beside.Params() == beside.Params(max_tokens=128, shots=10, truncate=False, answer_space=True)
    for name, goal in (("extraction", "lower"), ("exact", "lower"), ("fluency", "higher")):
        metric = plugins.metric(name)
        assert (metric.goal, metric.beside, metric.few_shot) == (goal, ("verbmem", "knowmem"), ("icl",))
        assert not metric.relative


@pytest.mark.parametrize(
    ("prompt", "truth", "whole"),
    [
        ("Once upon", "a time", "Once upon a time"),
        ("Once upon ", "a time", "Once upon a time"),
        ("Once upon", "\na time", "Once upon\na time"),
        ("Once upon", ", a time", "Once upon, a time"),
        ("He said (", "quietly", "He said (quietly"),
        ("of about £", "2", "of about £2"),
        ("parliament,", "they said", "parliament, they said"),
        ("漢", "字", "漢字"),
        ("", "a time", "a time"),
    ],
)
def test_prompt_and_truth_become_one_text(prompt: str, truth: str, whole: str) -> None:
    asked = truths.requests({"forget": [{"prompt": prompt, "gt": truth}]}, beside.Params())
    assert asked == [Logprobs(whole, ranks=True, after=prompt)]


def test_a_task_takes_the_protocol_s_constants() -> None:
    for name in ("muse_books", "muse_news"):
        assert all(not column.params for column in plugins.task(name).columns.values())


def test_published_retrain_aucs() -> None:
    news, books = plugins.task("muse_news").retrain_auc, plugins.task("muse_books").retrain_auc
    assert (news["Min-40%"], books["Min-40%"]) == (0.4772, 0.5393)
    assert (news["Min-20%"], books["Min-20%"]) == (0.4931, 0.5582)
    assert (news["PPL"], news["PPL/zlib"], news["PPL/lower"]) == (0.4652, 0.4328, 0.3542)
    assert (books["PPL"], books["PPL/zlib"], books["PPL/lower"]) == (0.4746, 0.2773, 0.3957)
    assert [news[attacks.attack(k)] for k in (0.05, 0.1, 0.3, 0.5, 0.6)] == [
        0.5116,
        0.5021,
        0.484,
        0.4711,
        0.4671,
    ]
    assert [books[attacks.attack(k)] for k in (0.05, 0.1, 0.3, 0.5, 0.6)] == [
        0.5325,
        0.5424,
        0.557,
        0.5167,
        0.4841,
    ]


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("privleak", {"k": 0}),
        ("privleak", {"k": 1.01}),
        ("privleak", {"k": "half"}),
        ("verbmem", {"max_tokens": 0}),
        ("knowmem", {"max_tokens": 0}),
        ("knowmem", {"shots": -1}),
        ("knowmem", {"shot": 3}),
    ],
)
def test_wrong_parameters_are_refused(metric: str, values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(values))):
        parse_params(plugins.metric(metric).params, values, "column c")


def test_k_may_be_the_whole_text() -> None:
    assert parse_params(privleak.Params, {"k": 1}, "c").k == 1


def test_knowmem_needs_its_pairs() -> None:
    splits = {"qa": [{"question": "q", "answer": "a"}], "icl": [{"question": "q", "answer": "a"}] * 9}
    with pytest.raises(UserError, match="needs 10 in-context pairs, the split has 9"):
        knowmem.requests(splits, knowmem.Params())
    assert len(knowmem.requests(splits, knowmem.Params(shots=9))) == 1


@pytest.mark.parametrize(
    ("k", "name"), [(0.4, "Min-40%"), (0.05, "Min-5%"), (0.125, "Min-12.5%"), (0.07, "Min-7%")]
)
def test_attacks_are_named_as_published(k: float, name: str) -> None:
    assert attacks.attack(k) == name


def test_requests_name_their_examples() -> None:
    rows = {"forget": [{"text": "A", "prompt": "p", "gt": "g"}], "holdout": [{"text": "B"}]}
    qa = {"qa": [{"question": "q", "answer": "a"}], "icl": []}
    asks: list[Request] = [
        *verbmem.requests(rows, verbmem.Params()),
        *knowmem.requests(qa, knowmem.Params(shots=0)),
        *privleak.requests(rows, privleak.Params(lower=True)),
    ]
    assert [ask.name for ask in asks] == [
        "forget[0]",
        "forget[0]",
        "qa[0]",
        "forget[0]",
        "holdout[0]",
        "forget[0], lower-cased",
        "holdout[0], lower-cased",
    ]
    assert {type(ask) for ask in asks} == {Generate, Truncate, Logprobs}


def test_records_carry_the_digest_of_what_was_asked() -> None:
    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    rows = {"forget": [{"text": "F", "prompt": "p", "gt": "g"}], "holdout": [{"text": "H"}]}
    qa = {"qa": [{"question": "q", "answer": "a"}], "icl": []}
    few = Context(resamples=10)
    one = TokenLogprobs(np.full(5, -1.0, np.float32))
    scored = [
        verbmem.score(rows, [Generation("x"), "x"], verbmem.Params(), few),
        knowmem.score(qa, [Generation("x")], knowmem.Params(shots=0), few),
        privleak.score(rows, [one, one], privleak.Params(), few),
    ]
    assert [r.prompt_sha256 for s in scored for r in s.records] == [
        digest("p"),
        digest("Question: q\nAnswer: "),
        digest("F"),
        digest("H"),
    ]


# ── intervals ────────────────────────────────────────────────────────────────────────────────────
def mean_of(values: list[float], context: Context) -> Score:
    return rouge.mean_rouge([Record("s", i, {"rougeL": v}) for i, v in enumerate(values)], False, context)


def test_the_interval_is_seeded_by_the_context() -> None:
    values = [0.0, 0.3, 0.31, 0.9, 1.0]
    first = mean_of(values, Context(seed=1, resamples=200))
    assert first.ci is not None
    assert first.value is not None
    assert first.ci[0] < first.value < first.ci[1]
    assert mean_of(values, Context(seed=1, resamples=200)).ci == first.ci
    assert mean_of(values, Context(seed=2, resamples=200)).ci != first.ci
    assert mean_of(values, Context(seed=1, resamples=201)).ci != first.ci


def likelier(values: list[float]) -> list[Answer]:
    return [TokenLogprobs(np.full(5, value, np.float32)) for value in values]


def rows_of(size: int) -> dict[str, list[dict[str, str]]]:
    return {role: [{"text": f"{role} {i}"} for i in range(size)] for role in ("forget", "holdout")}


def test_privleak_s_interval_is_seeded_by_the_context() -> None:
    answers = likelier([-1 - 0.1 * i for i in range(10)] + [-1.35 - 0.1 * i for i in range(10)])
    published = Reference("published", "paper", {"Min-40%": 0.5})

    def scored(seed: int, resamples: int) -> Score:
        context = Context(seed, resamples, published)
        return privleak.score(rows_of(10), answers, privleak.Params(), context)

    first = scored(1, 200)
    assert first.ci is not None
    # Pairs won: holdout i beats forget j where j > i + 3: 6 + 5 + … + 1 = 21 of 100.
    assert first.value == pytest.approx(100 * (0.21 - 0.5) / 0.5)
    assert -100 <= first.ci[0] < -58 < first.ci[1] < 0
    assert scored(1, 200).ci == first.ci
    assert scored(2, 200).ci != first.ci
    assert scored(1, 201).ci != first.ci


def test_an_auc_within_one_percent_of_its_bound_is_saturated() -> None:
    def flags(wins: int) -> tuple[str, ...]:
        # One holdout text beats the ``wins`` least likely of 20 forget texts; the other 9 beat none.
        answers = likelier([-1 - 0.1 * i for i in range(20)] + [-1.05 - 0.1 * (19 - wins)] + [-9.0] * 9)
        splits = {"forget": [{"text": "f"}] * 20, "holdout": [{"text": "h"}] * 10}
        score = privleak.score(splits, answers, privleak.Params(), Context(resamples=10))
        assert score.extras["auc"]["forget_holdout_Min-40%"] == pytest.approx(wins / 200)
        return score.flags

    assert flags(1) == ("saturated", "no-reference")
    assert flags(3) == ("no-reference",)


def test_without_a_reference_it_says_why_and_what_to_do() -> None:
    answers = likelier([-1.0, -1.2, -1.1, -1.3])
    for why, told in (("", "no retrain model to compare with"), ("it was left out", "it was left out")):
        score = privleak.score(
            rows_of(2), answers, privleak.Params(), Context(resamples=10, no_reference=why)
        )
        assert (score.value, score.ci, score.reason) == (None, None, f"{told}; give --retrain MODEL")
        assert score.extras["attack"] == "Min-40%"


def test_a_reference_is_described_with_what_was_measured_of_it() -> None:
    answers = likelier([-1.0, -1.2, -1.1, -1.3])
    published = Context(resamples=10, reference=Reference("published", "paper", {"Min-40%": 0.5}))
    described = privleak.score(rows_of(2), answers, privleak.Params(), published).extras["reference"]
    assert described == {"source": "published", "model": "paper", "attack": "Min-40%", "auc": 0.5}
    measured = Context(resamples=10, reference=Reference("measured", "retrain", answers=answers))
    described = privleak.score(rows_of(2), answers, privleak.Params(), measured).extras["reference"]
    assert described == {
        "source": "measured",
        "model": "retrain",
        "attack": "Min-40%",
        "auc": 0.25,
        "mean_holdout": pytest.approx(1.2),
    }


def test_without_retain_texts_only_forget_is_told_from_holdout() -> None:
    answers = likelier([-1.0, -1.2, -1.1, -1.3])
    context = Context(resamples=10, reference=Reference("published", "paper", {"Min-40%": 0.5}))
    aucs = privleak.score(rows_of(2), answers, privleak.Params(), context).extras["auc"]
    assert {name.rsplit("_", 1)[0] for name in aucs} == {"forget_holdout"}


def test_a_text_of_one_token_is_undefined_under_every_attack() -> None:
    empty = TokenLogprobs(np.array([], np.float32))
    assert set(attacks.statistics("a", empty, None, 0.4).values()) == {None}


def test_lower_cased_texts_are_cut_as_the_texts_are() -> None:
    asks = privleak.requests(rows_of(1), privleak.Params(lower=True, truncate=True))
    assert [ask.truncate for ask in asks if isinstance(ask, Logprobs)] == [True] * 4


def test_an_answer_that_the_model_could_not_give_leaves_the_column_undefined() -> None:
    rows = {"forget": [{"prompt": f"p{i}", "gt": "the mill"} for i in range(3)]}
    gone = Generation("", defined=False)
    answers: list[Answer] = [Generation("the mill"), gone, gone, "the mill", "the mill", "the mill"]
    score = verbmem.score(rows, answers, verbmem.Params(), Context(resamples=10))
    assert (score.value, score.ci, score.n) == (None, None, 3)
    assert score.reason == "the model's logits are not finite in 2 of 3 answers (first: forget[1])"
    assert [record.scores["rougeL"] for record in score.records] == [1.0, None, None]
    qa = {"qa": [{"question": "q", "answer": "a", "source": "retain1"}], "icl": []}
    score = knowmem.score(qa, [gone], knowmem.Params(shots=0), Context(resamples=10))
    assert (score.value, score.extras) == (None, {})
    assert score.reason == "the model's logits are not finite in 1 of 1 answers (first: qa[0])"


# ── properties ───────────────────────────────────────────────────────────────────────────────────
texts = st.lists(
    st.lists(st.floats(-20, 0, width=32), min_size=3, max_size=12).map(lambda v: np.array(v, np.float32)),
    min_size=2,
    max_size=6,
)


@pytest.mark.slow
@given(texts, texts)
def test_privleak_of_the_retrain_model_itself_is_zero(forget: list[Any], holdout: list[Any]) -> None:
    splits = {"forget": [{"text": "f"}] * len(forget), "holdout": [{"text": "h"}] * len(holdout)}
    answers = [TokenLogprobs(v) for v in (*forget, *holdout)]
    context = Context(resamples=20, reference=Reference("measured", "retrain", answers=answers))
    score = privleak.score(splits, answers, privleak.Params(), context)
    assume(score.value is not None)
    assert score.value == 0
    assert score.ci in (None, (0.0, 0.0))
    assert "collapsed" not in score.flags


@given(texts, texts, st.floats(0.1, 1))
def test_privleak_stays_within_its_bounds(forget: list[Any], holdout: list[Any], base: float) -> None:
    splits = {"forget": [{"text": "f"}] * len(forget), "holdout": [{"text": "h"}] * len(holdout)}
    answers = [TokenLogprobs(v) for v in (*forget, *holdout)]
    context = Context(resamples=20, reference=Reference("published", "paper", {"Min-40%": base}))
    score = privleak.score(splits, answers, privleak.Params(), context)
    assert score.value is not None
    assert -100 - 1e-9 <= score.value <= 100 * (1 - base) / base + 1e-9
    own = score.extras["auc"]["forget_holdout_Min-40%"]
    assert score.value == pytest.approx(100 * (own - base) / base)


@given(st.lists(st.floats(-30, 0, width=32), max_size=40), st.floats(0.01, 1))
def test_min_k_is_the_mean_of_the_least_likely(values: list[float], k: float) -> None:
    kept = int(k * len(values))
    found = attacks.min_k(np.array(values, np.float32), k)
    if kept == 0:
        assert found is None
    else:
        assert found == pytest.approx(-sum(sorted(values)[:kept]) / kept, abs=1e-6)


@given(st.text(max_size=60))
def test_an_answer_holds_no_stop_string(text: str) -> None:
    cut = knowmem.cut_answer(text)
    assert text.startswith(cut)
    assert not any(stop in cut for stop in ("\n\n", "\nQuestion", "Question:"))


def test_an_undefined_retain_split_has_no_mean() -> None:
    """All retain texts too short for Min-40 %: their mean is left out, and nothing is NaN."""
    splits = {"forget": [{"text": "a"}], "holdout": [{"text": "b"}], "retain": [{"text": "c"}]}
    long, short = np.full(10, -1.0, np.float32), np.full(2, -1.0, np.float32)
    answers = [TokenLogprobs(long), TokenLogprobs(2 * long), TokenLogprobs(short)]
    params = privleak.Params(retain=True, moments=False)
    score = privleak.METRIC.score(
        splits, answers, params, Context(reference=Reference("published", "x", {"Min-40%": 0.5}))
    )
    assert set(score.extras["mean_Min-40%"]) == {"forget", "holdout"}
    assert "retain_holdout_Min-40%" in score.extras["undefined"]


def test_lower_cased_text_without_any_loss_leaves_its_attack_undefined() -> None:
    certain = TokenLogprobs(np.zeros(10, np.float32))
    assert (
        attacks.statistics("a", TokenLogprobs(np.full(10, -1.0, np.float32)), certain, 0.4)["PPL/lower"]
        is None
    )
