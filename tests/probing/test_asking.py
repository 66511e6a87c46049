"""Probes that ask otherwise: what is asked, word for word, and how the answers are scored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from muse_eval import plugins
from muse_eval.config import parse_params
from muse_eval.errors import UserError
from muse_eval.metrics import knowmem, verbmem
from muse_eval.probes import prefix, prompt, sample
from muse_eval.types import Answer, AskProbe, Context, Generate, Generation, Metric, Score, Splits, Truncate

FORGET = {"prompt": "one two three four", "gt": " five six seven eight"}
VERBMEM: Splits = {
    "forget": [FORGET],
    "forget_texts": [{"text": "before it all came one two three four five six seven eight nine"}],
}
QA = [{"question": f"Q{i}?", "answer": f"A{i}"} for i in range(3)]
PAIRS = [{"question": "X?", "answer": "x"}, {"question": "Y?", "answer": "y"}]
RETAIN = [{"text": "a b c d"}, {"text": "e f g h"}]
KNOWMEM: Splits = {"qa": QA, "icl": PAIRS, "retain_texts": RETAIN}
TWO = knowmem.Params(shots=2)


def asked(metric: Metric, splits: Splits, params: Any) -> list[str]:
    return [ask.prompt for ask in metric.requests(splits, params) if isinstance(ask, Generate)]


def scored(metric: Metric, splits: Splits, params: Any, *said: str) -> Score:
    """Score answers: cuts come back as they are, continuations as told."""
    told = iter(said)
    answers: list[Answer] = [
        ask.text if isinstance(ask, Truncate) else Generation(next(told))
        for ask in metric.requests(splits, params)
    ]
    return metric.score(splits, answers, params, Context(resamples=99))


# ── sample ───────────────────────────────────────────────────────────────────────────────────────
def test_each_draw_is_asked_once_and_the_truth_too() -> None:
    turned = sample.turn(verbmem.METRIC, "2", sample.Params(n=3, ks=(1, 2), seed=7))
    *draws, truth = turned.requests(VERBMEM, verbmem.Params())
    assert [
        (one.sample, one.temperature, one.top_p, one.seed) for one in draws if isinstance(one, Generate)
    ] == [(number, 1.0, 1.0, 7) for number in range(3)]
    assert isinstance(truth, Truncate)


def test_leak_at_k_is_the_largest_of_k_draws_on_average() -> None:
    params = sample.Params(n=3, ks=(1, 2, 3))
    said = ("five six seven eight", "nothing", "five six nine ten")  # ROUGE-L 1, 0 and ½
    found = {
        k: scored(sample.turn(verbmem.METRIC, k, params), VERBMEM, verbmem.Params(), *said)
        for k in ("1", "2", "3")
    }
    assert {k: one.value for k, one in found.items()} == pytest.approx(
        {"1": 100 * 1.5 / 3, "2": 100 * (1 + 1 + 0.5) / 3, "3": 100}
    )
    (record,) = found["2"].records
    assert record.texts["response"] == "five six seven eight"
    assert record.scores == pytest.approx({"rougeL": 2.5 / 3, "largest": 1.0})
    assert found["2"].extras == {"draws": 3, "k": 2}


def test_draws_go_to_their_own_examples() -> None:
    rows = [FORGET, {"prompt": "other", "gt": " nine ten"}]
    turned = sample.turn(verbmem.METRIC, "1", sample.Params(n=2, ks=(1,)))
    said = ("five six seven eight", "no", "no", "nine ten")
    found = scored(turned, {"forget": rows}, verbmem.Params(), *said)
    assert [record.scores["rougeL"] for record in found.records] == [0.5, 0.5]


def test_a_draw_without_logits_leaves_the_score_undefined() -> None:
    turned = sample.turn(verbmem.METRIC, "1", sample.Params(n=2, ks=(1,)))
    answers: list[Answer] = [Generation("five"), Generation("", defined=False), FORGET["gt"]]
    found = turned.score(VERBMEM, answers, verbmem.Params(), Context(resamples=99))
    assert found.value is None
    assert "not finite" in str(found.reason)


def test_no_more_draws_than_there_are() -> None:
    with pytest.raises(UserError, match="ks go up to 128, and n is 100; raise n"):
        parse_params(sample.Params, {"n": 100}, "probe sample")


# ── prefix ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("strength", "prompt", "truth"),
    [
        ("prompt-0.25", "four", " five six seven eight"),
        ("prompt-0.5", "three four", " five six seven eight"),
        ("prompt-2", "before it all came one two three four", " five six seven eight"),
        ("truth-0.25", "one two three four five", " six seven eight"),
    ],
)
def test_prompts_shorter_longer_and_with_the_truth_begun(strength: str, prompt: str, truth: str) -> None:
    turned = prefix.turn(verbmem.METRIC, strength, prefix.Params())
    ask, cut = turned.requests(VERBMEM, verbmem.Params())
    assert isinstance(ask, Generate)
    assert isinstance(cut, Truncate)
    assert (ask.prompt.split(), cut.text) == (prompt.split(), truth)
    found = scored(turned, VERBMEM, verbmem.Params(), truth)
    assert found.value == pytest.approx(100)
    assert found.records[0].texts["prompt"] == ask.prompt


def test_the_truth_begun_is_parted_from_its_prompt() -> None:
    row = {"prompt": "to the police", "gt": "officer about the owl"}
    assert prefix.told(row, 0.5) == {"prompt": "to the police officer about", "gt": " the owl"}
    assert prefix.told({**row, "prompt": "to the police "}, 0.5)["prompt"] == "to the police officer about"
    assert prefix.told({**row, "gt": ", he said"}, 0.4)["prompt"] == "to the police,"


def test_a_prompt_that_nothing_stands_before_stays() -> None:
    assert prefix.resized(FORGET, 2.0, ["one two three four five"]) == FORGET
    assert prefix.resized(FORGET, 2.0, ["elsewhere"]) == FORGET


def test_prompts_that_stay_are_counted_and_told() -> None:
    splits = {**VERBMEM, "forget": [FORGET, {"prompt": "said elsewhere", "gt": " nine"}]}
    turned = prefix.turn(verbmem.METRIC, "prompt-2", prefix.Params())
    found = scored(turned, splits, verbmem.Params(), "five", "nine")
    assert (found.flags, found.extras["unchanged"]) == (("unchanged",), 1)
    whole = scored(turned, VERBMEM, verbmem.Params(), "five")
    assert (whole.flags, "unchanged" in whole.extras) == ((), False)


@pytest.mark.parametrize(
    ("strength", "row"),
    [
        ("prompt-2", {"prompt": "said elsewhere", "gt": " nine ten"}),
        ("prompt-0.5", {"prompt": "one", "gt": " nine ten"}),
        ("truth-0.25", {"prompt": "one two", "gt": " nine"}),
    ],
)
def test_a_strength_that_changes_no_prompt_is_refused(strength: str, row: dict[str, str]) -> None:
    turned = prefix.turn(verbmem.METRIC, strength, prefix.Params())
    with pytest.raises(UserError, match=f"prefix: {strength} changes no prompt; .* leave it out by --set"):
        turned.requests({**VERBMEM, "forget": [row]}, verbmem.Params())


def test_the_text_before_goes_on_in_the_one_before_it() -> None:
    longer = prefix.resized(FORGET, 2.0, ["it began with a text", "and one two three four five"])
    assert longer["prompt"] == "with a text\n\nand one two three four"


# ── prompt ───────────────────────────────────────────────────────────────────────────────────────
def test_pairs_in_another_order_or_none() -> None:
    plain = asked(knowmem.METRIC, KNOWMEM, TWO)
    first, second = (f"Question: {name}?\nAnswer: {name.lower()}\n\n" for name in "XY")
    assert plain[0] == f"{first}{second}Question: Q0?\nAnswer: "
    reverse = prompt.turn(knowmem.METRIC, "reversed", prompt.Params())
    assert asked(reverse, KNOWMEM, TWO)[0] == f"{second}{first}Question: Q0?\nAnswer: "
    assert asked(reverse, KNOWMEM, replace(TWO, shots=1))[0] == f"{first}Question: Q0?\nAnswer: "
    bare = prompt.turn(knowmem.METRIC, "no-pairs", prompt.Params())
    assert asked(bare, KNOWMEM, TWO) == [f"Question: Q{i}?\nAnswer: " for i in range(3)]


def test_other_pairs_are_the_questions_before_and_never_the_one_asked() -> None:
    turned = prompt.turn(knowmem.METRIC, "other-pairs", prompt.Params())
    pair = [f"Question: Q{i}?\nAnswer: A{i}\n\n" for i in range(3)]
    assert asked(turned, KNOWMEM, TWO) == [
        f"{pair[1]}{pair[2]}Question: Q0?\nAnswer: ",
        f"{pair[2]}{pair[0]}Question: Q1?\nAnswer: ",
        f"{pair[0]}{pair[1]}Question: Q2?\nAnswer: ",
    ]
    found = scored(turned, KNOWMEM, TWO, "A0", "A1", "no")
    assert found.value == pytest.approx(200 / 3)
    assert found.records[1].texts["prompt"].endswith("Q1?\nAnswer: ")


def test_retain_text_stands_before() -> None:
    turned = prompt.turn(knowmem.METRIC, "retain-before", prompt.Params(words=2))
    plain = asked(knowmem.METRIC, KNOWMEM, TWO)
    begun = ["a b", "e f", "a b"]
    assert asked(turned, KNOWMEM, TWO) == [f"{text}\n\n{one}" for text, one in zip(begun, plain, strict=True)]


@pytest.mark.parametrize("name", [n for n in plugins.probe_names() if isinstance(plugins.probe(n), AskProbe)])
def test_each_counts_what_it_asks(name: str) -> None:
    probe = plugins.probe(name)
    assert isinstance(probe, AskProbe)
    params = parse_params(probe.params, probe.quick, name)
    splits, metric, own = {
        "verbmem": (VERBMEM, verbmem.METRIC, verbmem.Params()),
        "knowmem": (KNOWMEM, knowmem.METRIC, TWO),
    }[probe.metrics[0]]
    plain = {ask for ask in metric.requests(splits, own) if isinstance(ask, Generate)}
    every = {
        ask
        for strength in probe.strengths(params)
        for ask in probe.turn(metric, strength, params).requests(splits, own)
        if isinstance(ask, Generate)
    }
    assert len(every) == probe.cost(params) * len(plain)
