"""A corpus made out of plain texts: what is cut, drawn, left out and refused."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_eval.config.task import parse_task
from muse_eval.data.corpus.cutting import by_tokens, by_words, cut, spread
from muse_eval.data.corpus.splits import EXAMPLES, SHORTEST, Making, NewCorpus, Question, Texts, make_corpus
from muse_eval.data.corpus.task import LONGEST_ROW, plan_rows, task_yaml
from muse_eval.errors import UserError
from tests.support.corpus import prose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def texts(side: str, count: int, words: int = 90, **more: Any) -> Texts:
    return Texts(side, tuple(prose(f"{side} {row}", words) for row in range(count)), **more)


def questions(side: str, count: int) -> list[Question]:
    return [Question(side, f"What of {side} {row}?", f"answer {row}") for row in range(count)]


def raw(made: NewCorpus, name: str) -> list[str]:
    return [str(row) for row in made.splits[f"raw/{name}"]]


# ── the whole ────────────────────────────────────────────────────────────────────────────────────
def test_everything_is_made_where_everything_is_given() -> None:
    asked = [*questions("forget", 40), *questions("retain", 6)]
    made = make_corpus(texts("forget", 20), texts("retain", 24), texts("holdout", 10), asked)
    assert {name: len(rows) for name, rows in made.splits.items()} == {
        "raw/forget": 20,
        "raw/retain1": 24,
        "raw/holdout": 10,
        "knowmem/forget_qa": 30,
        "knowmem/forget_qa_icl": 10,
        "knowmem/retain_qa": 4,
        "knowmem/retain_qa_icl": 2,
        "privleak/forget": 20,
        "privleak/retain": 24,
        "privleak/holdout": 10,
        "verbmem/forget": 20,
    }
    assert (made.truth, made.shots, made.left_out) == (45, {"forget": 10, "retain": 2}, [])
    text = raw(made, "forget")[0]
    example = made.splits["verbmem/forget"][0]
    assert isinstance(example, dict)
    # Prompt and truth are the text itself: 45 of its 90 words each.
    assert example["prompt"] + example["gt"] == text
    assert len(example["prompt"].split()) == 45
    assert made.splits["privleak/forget"][0] == text
    shown, kept = (
        {row["question"] for row in made.splits[f"knowmem/forget_qa{which}"] if isinstance(row, dict)}
        for which in ("_icl", "")
    )
    assert len(shown | kept) == 40


def test_the_task_names_what_is_there_and_nothing_else() -> None:
    made = make_corpus(texts("forget", 20), texts("retain", 20), None, questions("forget", 9))
    text = task_yaml("a town: 'x'", 'some "place"', made, plan_rows(made, Making(by_words)))
    task = parse_task(text, "new")
    assert (task.name, task.title, task.source) == ("a town: 'x'", "a town: 'x'", 'some "place"')
    assert list(task.columns) == ["verbmem_f", "knowmem_f", "privleak", "verbmem_r"]
    assert task.needed | task.trained == made.splits.keys() - {"raw/holdout"}
    assert task.columns["verbmem_f"].params == {"max_tokens": made.truth}
    assert task.columns["knowmem_f"].params == {"shots": 3}
    # 10 forget and 20 retain texts: fifteen steps of two rows.
    assert (task.finetune.batch_size, task.unlearn.batch_size) == (2, 2)
    assert (task.unlearn.rows, task.unlearn.max_len) == ("document", 192)


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    def drawn(seed: int) -> NewCorpus:
        asked = [*questions("forget", 9), *questions("retain", 9)]
        return make_corpus(texts("f", 12), texts("r", 12), None, asked, Making(by_words, seed=seed))

    assert drawn(0) == drawn(0)
    assert raw(drawn(0), "holdout") != raw(drawn(1), "holdout")
    assert drawn(0).splits["knowmem/forget_qa_icl"] != drawn(1).splits["knowmem/forget_qa_icl"]


# ── holdout ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("count", "share", "drawn"), [(2, 0.01, 1), (2, 0.99, 1), (12, 0.5, 6), (10, 0.3, 3)]
)
def test_holdout_is_whole_texts_that_are_then_not_forgotten(count: int, share: float, drawn: int) -> None:
    given = texts("forget", count)
    made = make_corpus(given, texts("retain", 3), how=Making(by_words, share=share))
    assert len(raw(made, "holdout")) == drawn
    # In their order, and each on one side alone.
    assert sorted([*raw(made, "forget"), *raw(made, "holdout")]) == sorted(given.texts)
    assert [text for text in given.texts if text in raw(made, "forget")] == raw(made, "forget")
    assert f"holdout: {drawn} of the {count} texts in forget, drawn at random (seed 0)" in "\n".join(
        made.told
    )


def test_one_text_leaves_no_holdout_and_it_says_so() -> None:
    made = make_corpus(texts("book", 1, words=900), texts("other", 1, words=900))
    assert "PrivLeak is left out: one forget text" in "\n".join(made.left_out)
    assert not any(name.startswith(("privleak/", "raw/holdout")) for name in made.splits)
    # 900 words hold three examples of 128 + 128.
    assert len(made.splits["verbmem/forget"]) == 3


# ── hostile texts ────────────────────────────────────────────────────────────────────────────────
def test_repeated_and_blank_texts_are_left_out_and_counted() -> None:
    one, two, three = texts("forget", 3).texts
    given = Texts("forget", (one, two, f"  {one.upper()}\n", three), blank=2, unread=1)
    made = make_corpus(given, texts("retain", 2), texts("holdout", 2))
    assert raw(made, "forget") == [one, two, three]
    told = "--forget forget: 3 texts; left out: 2 blank, 1 the same as another, 1 of another kind of file"
    assert made.told[0].startswith(told)


def test_a_text_of_two_sides_is_kept_on_the_first_and_told() -> None:
    forget, retain, holdout = texts("forget", 4), texts("retain", 3), texts("holdout", 3)
    made = make_corpus(
        forget,
        Texts("retain", (forget.texts[1].upper(), *retain.texts, retain.texts[0])),
        Texts("holdout", (f"{retain.texts[2]} ", forget.texts[0], *holdout.texts, forget.texts[3])),
    )
    for name, side in (("forget", forget), ("retain1", retain), ("holdout", holdout)):
        assert raw(made, name) == list(side.texts)
    assert made.told[:3] == [
        "--forget forget: 4 texts",
        "--retain retain: 3 texts; left out: 1 the same as another, 1 in --forget too",
        "--holdout holdout: 3 texts; left out: 2 in --forget too, 1 in --retain too",
    ]


def test_what_is_drawn_for_holdout_is_not_in_retain_either() -> None:
    forget = texts("forget", 8)
    made = make_corpus(forget, Texts("retain", (*forget.texts, *texts("retain", 2).texts)))
    assert raw(made, "retain1") == list(texts("retain", 2).texts)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Texts("r", ()), "--retain r has no text"),
        (Texts("r", (), 2), "--retain r has no text; left out: 2 blank"),
        (texts("forget", 4), "--retain forget has no text; left out: 4 in --forget too"),
    ],
)
def test_a_side_without_a_text_of_its_own_is_refused(given: Texts, message: str) -> None:
    with pytest.raises(UserError) as refused:
        make_corpus(texts("forget", 4), given)
    assert str(refused.value) == message


def test_texts_too_short_for_anything_are_refused() -> None:
    with pytest.raises(UserError) as refused:
        make_corpus(texts("forget", 4, words=5), texts("retain", 4, words=5))
    assert f"no forget text has {SHORTEST} words; give a smaller --piece-length" in str(refused.value)
    made = make_corpus(
        texts("forget", 4, words=5),
        texts("retain", 4, words=5),
        how=Making(by_words, prompt=2, truth=3, piece=5),
    )
    assert len(made.splits["verbmem/forget"]) == 2


def test_a_few_short_texts_do_not_shorten_the_others() -> None:
    long = texts("forget", 19).texts
    made = make_corpus(Texts("forget", (*long, "Too short.")), texts("retain", 20), texts("holdout", 20))
    assert made.truth == 45
    assert "a prompt of 45 words and a truth of 45; too short for one: 1 text" in "\n".join(made.told)


def test_long_texts_give_windows_and_no_more_examples_than_muse_has() -> None:
    made = make_corpus(
        texts("forget", 3, words=9000), texts("retain", 3, words=9000), texts("holdout", 3, words=9000)
    )
    assert {len(made.splits[name]) for name in ("verbmem/forget", "privleak/forget")} == {EXAMPLES}
    rows = plan_rows(made, Making(by_words))
    assert (rows.kind, rows.max_len) == ("chunk", LONGEST_ROW)
    assert "too many for a row" in str(rows)


# ── questions ────────────────────────────────────────────────────────────────────────────────────
def test_too_few_questions_leave_their_column_out() -> None:
    made = make_corpus(texts("f", 4), texts("r", 4), None, [*questions("forget", 3), *questions("retain", 2)])
    assert made.shots == {"forget": 1}
    assert made.left_out == [
        "KnowMem Dr is left out: 2 questions of side retain, and 3 are the fewest; "
        "VerbMem Dr, on retain text, stands for utility"
    ]
    assert len(made.splits["verbmem/retain"]) == 4


def test_what_only_texts_drawn_for_holdout_answer_is_not_asked() -> None:
    forget = Texts("f", tuple(f"{prose(f'f {row}', 40)} The key is K{row}." for row in range(12)))
    asked = [Question("forget", f"What is key {row}?", f"k{row}") for row in range(12)]
    asked += [Question("forget", "Which letter?", "None"), *questions("retain", 3)]
    made = make_corpus(forget, texts("r", 4), None, asked)
    kept = [row for which in ("", "_icl") for row in made.splits[f"knowmem/forget_qa{which}"]]
    answers = sorted(row["answer"] for row in kept if isinstance(row, dict))
    left = {f"k{row}" for row, text in enumerate(forget.texts) if text in raw(made, "forget")}
    assert len(left) == 6
    assert answers == sorted({*left, "None"})
    assert made.shots["retain"] == 1
    told = "\n".join(made.told)
    assert "left out: 6 of side forget, whose answer stands in texts drawn for holdout alone" in told
    assert "--questions: 1 answer of side forget in no text word for word" in told
    # Of a holdout that is given, its giver knows.
    given = make_corpus(forget, texts("r", 4), Texts("h", (*forget.texts[:1], "It is K1 here.")), asked)
    assert "side forget" not in "\n".join(given.told)


def test_a_question_twice_is_dropped_and_one_of_both_sides_refused() -> None:
    asked = questions("forget", 4)
    made = make_corpus(texts("f", 4), texts("r", 4), None, [*asked, asked[0]])
    assert "--questions: left out: 1 the same as another" in made.told
    other = Question("retain", asked[0].question.upper(), "x")
    with pytest.raises(UserError, match="of both sides"):
        make_corpus(texts("f", 4), texts("r", 4), None, [*asked, other])


# ── cutting ──────────────────────────────────────────────────────────────────────────────────────
def test_cut_leaves_out_what_fills_no_group() -> None:
    text = "one two  three\nfour five six seven"
    assert cut(text, by_words(text), [2, 1]) == [("one two", "  three"), ("\nfour five", " six")]
    assert cut(text, by_words(text), [8]) == []


@given(st.text(), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_pieces_in_a_row_are_the_beginning_of_the_text(text: str, sizes: list[int]) -> None:
    groups = cut(text, by_words(text), sizes)
    assert text.startswith("".join(piece for group in groups for piece in group))
    for group in groups:
        assert [len(by_words(piece)) for piece in group] == sizes


def test_spread_takes_from_every_text_before_it_takes_more_from_one() -> None:
    groups = [["a0", "a1", "a2"], ["b0"], [], ["c0", "c1"]]
    assert spread(groups, 9, random.Random(0)) == ["a0", "a1", "a2", "b0", "c0", "c1"]
    assert spread(groups, 3, random.Random(0)) == ["a0", "b0", "c0"]
    fourth = {tuple(spread(groups, 4, random.Random(seed))) for seed in range(20)}
    assert fourth == {("a0", "a1", "b0", "c0"), ("a0", "b0", "c0", "c1")}


def test_scripts_without_spaces_are_cut_by_character() -> None:
    text = "東京は日本の首都である。大阪ではない。"
    assert cut(text, by_words(text), [4]) == [("東京は日",), ("本の首都",), ("である。",), ("大阪では",)]


def test_with_a_tokenizer_lengths_are_its_tokens(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    measure = by_tokens(tiny_tokenizer)
    text = prose("text", 40)
    marks = measure(text)
    assert [end for end, _ in marks] == [end for end, _ in by_words(text)]
    assert marks[-1][1] == len(tiny_tokenizer(text, add_special_tokens=False)["input_ids"])
    how = Making(measure, "tokens", prompt=30, truth=20)
    made = make_corpus(texts("forget", 4), texts("retain", 4), how=how)
    for row in made.splits["verbmem/forget"]:
        assert isinstance(row, dict)
        # As few words as make the length: without the last it is too short.
        for part, size in ((row["prompt"], 30), (row["gt"], 20)):
            assert measure(part)[-1][1] >= size - 1
            assert measure(part)[-2][1] < size
    rows = plan_rows(made, how)
    longest = max(
        len(tiny_tokenizer(text)["input_ids"]) for text in [*raw(made, "forget"), *raw(made, "retain1")]
    )
    assert longest <= rows.longest <= longest + 1
