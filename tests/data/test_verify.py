"""What is suspicious in a task's data: each suspicion alone on a small corpus, and the bound of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_eval import plugins
from muse_eval.config.task import TaskSpec
from muse_eval.data.examples import Finding
from muse_eval.data.sources import LocalFolder
from muse_eval.data.splits import Data, open_data
from muse_eval.data.verify import FEW, ModelFreeAuc, differences, examine, read
from muse_eval.errors import UserError, listed
from tests.e2e import COLUMNS, write_data
from tests.support.corpus import Splits, corpus, prose

Spec = dict[str, Any]
Change = Callable[[Splits, Spec], None]


def spec() -> Spec:
    """Describe a task of MUSE's four columns with their default parameters."""
    columns = {
        name: {key: value for key, value in column.items() if key != "params"}
        for name, column in COLUMNS.items()
    }
    task = {"name": "own", "title": "Own", "source": "a test", "data": {"source": "folder"}}
    return {**task, "columns": copy.deepcopy(columns)}


def changed(*changes: Change) -> tuple[TaskSpec, Splits]:
    splits, task = corpus(), spec()
    for change in changes:
        change(splits, task)
    return TaskSpec.model_validate(task), splits


def model_free(*changes: Change) -> ModelFreeAuc:
    """Return how far the sides of PrivLeak, the only column that has both, differ."""
    (one,) = differences(*changed(*changes))
    return one


def suspicions(*changes: Change, model_free_aucs: bool = False) -> tuple[Finding, ...]:
    """Return what is suspicious; how far the sides differ takes a second, so only where it is wanted."""
    task, splits = changed(*changes)
    return examine(task, splits, differences(task, splits) if model_free_aucs else ())


def told(*changes: Change, model_free_aucs: bool = False) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return kind, split and rows of every suspicion, each of which must be one line."""
    found = suspicions(*changes, model_free_aucs=model_free_aucs)
    for finding in found:
        assert "\n" not in str(finding)
        assert str(finding).startswith(f"{finding.split}: ")
        assert "; " in str(finding)
    return [(one.kind, one.split, one.rows) for one in found]


def line(*changes: Change, model_free_aucs: bool = False) -> str:
    """Return the only suspicion's line."""
    (one,) = suspicions(*changes, model_free_aucs=model_free_aucs)
    return str(one)


def put(split: str, row: int, **cells: str) -> Change:
    """Write cells of one row."""
    return lambda splits, _: splits[split][row].update(cells)


def params(column: str, **values: Any) -> Change:
    return lambda _, task: task["columns"][column].update(params=values)


def forget_too(text: str) -> Change:
    """Add a text to what is to be unlearned, as row 20."""
    return lambda splits, _: splits["raw/forget"].append({"text": text})


def test_a_clean_corpus_has_nothing_suspicious() -> None:
    task, splits = changed()
    (one,) = differences(task, splits)
    assert examine(task, splits, (one,)) == ()
    assert (one.column, one.forget, one.holdout) == ("privleak", "privleak/forget", "privleak/holdout")
    assert one.words is not None
    assert one.words.ci[0] < 0.5


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["muse_mini", "muse_mini-seed1"])
def test_the_built_in_world_has_nothing_suspicious(name: str) -> None:
    task = plugins.task(name)
    splits = read(task, open_data(task))
    model_free_aucs = differences(task, splits)
    assert examine(task, splits, model_free_aucs) == ()
    assert str(model_free_aucs[0]).startswith(
        "privleak/holdout told from privleak/forget without a model: AUC 0.5"
    )


# ── (a) the same text twice ──────────────────────────────────────────────────────────────────────
def test_a_text_twice_in_a_split() -> None:
    again = put("privleak/holdout", 7, text=f"  {prose('holdout 2', 90).upper()}\n")
    assert told(again) == [("repeated", "privleak/holdout", (7,))]
    assert line(again) == (
        "privleak/holdout: the same text again in row 7 (as 2); drop the copies, they count twice"
    )
    assert told(put("privleak/holdout", 7, text=f"{prose('holdout 2', 90)} owl")) == []


def test_a_question_twice_in_a_split_whatever_its_answer() -> None:
    again = put("knowmem/retain_qa", 9, question="what of  RETAIN 4?")
    assert told(again) == [("repeated", "knowmem/retain_qa", (9,))]
    assert "the same question again in row 9 (as 4)" in line(again)
    # The same answer to another question is fine.
    assert told(put("knowmem/retain_qa", 9, answer=prose("retain answer 4", 4))) == []


@pytest.mark.parametrize(
    ("one", "other", "side"),
    [
        ("privleak/holdout", "privleak/forget", "the target has read it"),
        ("privleak/holdout", "verbmem/forget", "the target has read it"),
        ("privleak/retain", "privleak/forget", "retrain reads it too"),
        ("raw/retain1", "raw/forget", "retrain reads it too"),
        ("privleak/holdout", "raw/retain1", "every model reads it"),
    ],
)
def test_a_text_on_two_sides(one: str, other: str, side: str) -> None:
    text = "".join(corpus()[other][5].values())
    found = suspicions(put(one, 11, text=text))
    assert [(s.kind, s.split, s.rows) for s in found] == [("same-text", one, (11,))]
    assert side in str(found[0])
    assert "in row 11 (" in str(found[0])
    assert found[0].others[0].endswith("[5]")


def test_sides_may_repeat_themselves() -> None:
    """Raw, PrivLeak and VerbMem of one side hold the same texts, as do ``raw/holdout`` and PrivLeak's."""

    def change(splits: Splits, _: Spec) -> None:
        splits["raw/holdout"] = copy.deepcopy(splits["privleak/holdout"])
        splits["scal/forget_1"] = splits["raw/forget"][:5]
        splits["base/other"] = splits["raw/forget"][:5]

    assert told(change) == []


def test_many_rows_are_counted_not_listed() -> None:
    changes = [put("privleak/holdout", row, text=prose("holdout 0", 90)) for row in range(1, 9)]
    assert "rows 1 (as 0), 2 (as 0), 3 (as 0), 4 (as 0), 5 (as 0) and 3 more;" in line(*changes)
    assert suspicions(*changes)[0].rows == tuple(range(1, 9))


# ── (b) passages ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("count", "expected"), [(50, True), (49, False)])
def test_a_passage_on_two_sides(count: int, expected: bool) -> None:
    passage = prose("leak", count)
    changes = (
        forget_too(f"{prose('before', 90)} {passage}"),
        put("privleak/holdout", 6, text=f"{passage} {prose('after', 90)}"),
    )
    assert told(*changes) == ([("shared-passage", "privleak/holdout", (6,))] if expected else [])
    if expected:
        assert "a passage of the forget side in row 6 (raw/forget[20], 50 words): the target" in line(
            *changes
        )


def test_a_short_holdout_text_inside_a_forget_text_and_the_other_way_round() -> None:
    short, long = prose("short", 30), f"{prose('before', 60)} {prose('short', 30)} {prose('after', 60)}"
    expected = [("shared-passage", "privleak/holdout", (6,))]
    assert told(forget_too(long), put("privleak/holdout", 6, text=short)) == expected
    assert told(forget_too(short), put("privleak/holdout", 6, text=long)) == expected
    assert told(forget_too(f"{short} owl"), put("privleak/holdout", 6, text=long)) == []


# ── forget texts that nothing unlearns ───────────────────────────────────────────────────────────
def test_a_scored_forget_text_that_is_no_part_of_what_is_unlearned() -> None:
    other = put("privleak/forget", 8, text=prose("stray", 90))
    assert told(other) == [("unread", "privleak/forget", (8,))]
    assert "no 13 words in a row of raw/forget in row 8: nothing unlearns them" in line(other)
    assert told(put("verbmem/forget", 8, prompt="So", gt=prose("stray", 90))) == [
        ("unread", "verbmem/forget", (8,))
    ]
    assert told(put("privleak/forget", 8, text=f"{prose('stray', 90)} {prose('forget 8', 90)}")) == []


def folded(last: str) -> Change:
    """Forget two folds that hold all of what was to be unlearned, and one text more in the last."""

    def change(splits: Splits, task: Spec) -> None:
        whole = splits.pop("raw/forget")
        splits["folds/one"], splits["folds/two"] = whole[:10], [*whole[10:], {"text": last}]
        task["folds"] = {"mode": "sequential", "forget": ["folds/one", "folds/two"]}

    return change


def test_what_is_unlearned_fold_by_fold_is_what_is_looked_at() -> None:
    new = prose("new", 90)
    assert told(folded(new)) == []
    assert told(folded(new), put("privleak/forget", 8, text=prose("stray", 90))) == [
        ("unread", "privleak/forget", (8,))
    ]
    assert [one[0] for one in told(folded(new), put("privleak/holdout", 0, text=new))] == ["same-text"]
    assert told(folded(new), without("folds/two")) == [("missing", "folds/two", ())]


@pytest.mark.parametrize("mode", ["sequential", "nested"])
def test_a_text_that_an_earlier_forget_set_holds(mode: str) -> None:
    """Nested forget sets hold those before them; of a sequential task's each is to be new."""

    def again(splits: Splits, task: Spec) -> None:
        splits["folds/two"][3] = dict(splits["folds/one"][5])
        splits["folds/two"].append({"text": prose("forget 7", 90).upper()})
        task["folds"]["mode"] = mode

    changes = (folded(prose("new", 90)), again)
    expected = [("forgotten-before", "folds/two", (3, 11))] if mode == "sequential" else []
    assert [one for one in told(*changes) if one[0] == "forgotten-before"] == expected
    if expected:
        (found,) = [one for one in suspicions(*changes) if one.kind == "forgotten-before"]
        assert "earlier forget set in rows 3 (folds/one[5]) and 11 (folds/one[7]): it is for" in str(found)
        assert found.others == ("folds/one[5]", "folds/one[7]")


# ── a column over what is kept ───────────────────────────────────────────────────────────────────
def kept(goal: str) -> Change:
    """Also score VerbMem over retain texts, of which one is no text that retain1 holds."""

    def change(splits: Splits, task: Spec) -> None:
        rows = [row["text"] for row in splits["raw/retain1"][1:]] + [prose("kept", 90)]
        splits["verbmem/kept"] = [{"prompt": text[:80], "gt": text[80:]} for text in rows]
        column = {**task["columns"]["verbmem_f"], "goal": goal, "splits": {"forget": "verbmem/kept"}}
        task["columns"]["verbmem_r"] = column

    return change


def test_a_column_s_goal_says_on_which_side_its_split_is() -> None:
    assert told(kept("higher")) == []
    assert [one[:2] for one in told(kept("lower"))] == [
        ("same-text", "privleak/retain"),
        ("same-text", "raw/retain1"),
        ("unread", "verbmem/kept"),
    ]
    # What is kept is held against what is forgotten.
    leak = put("verbmem/kept", 4, prompt="So ", gt=prose("forget 3", 90))
    assert told(kept("higher"), leak) == [("shared-passage", "verbmem/kept", (4,))]


def test_a_split_that_is_scored_as_forgotten_and_as_kept() -> None:
    def turned(_: Splits, task: Spec) -> None:
        task["columns"]["verbmem_r"] = {**task["columns"]["verbmem_f"], "goal": "higher"}

    assert told(turned) == [("both-sides", "verbmem/forget", ())]


# ── (c) questions and answers ────────────────────────────────────────────────────────────────────
def test_a_question_among_its_own_pairs() -> None:
    pair = put("knowmem/forget_qa_icl", 3, question="What  of forget 5?")
    assert told(pair) == [("own-pair", "knowmem/forget_qa", (5,))]
    assert "row 5 also in knowmem/forget_qa_icl: the prompt holds the answer" in line(pair)
    # The column shows only the first pairs; another column's pairs are not its own.
    assert told(pair, params("knowmem_f", shots=3)) == []
    assert told(pair, params("knowmem_f", shots=4)) == [("own-pair", "knowmem/forget_qa", (5,))]
    assert told(put("knowmem/retain_qa_icl", 3, question="What of forget 5?")) == []


def test_too_few_pairs() -> None:
    def change(splits: Splits, _: Spec) -> None:
        del splits["knowmem/retain_qa_icl"][7:]

    assert told(change) == [("few-pairs", "knowmem/retain_qa_icl", ())]
    assert "7 in-context pairs, the column asks 10; add some, or set params: {shots: 7}" in line(change)
    assert told(change, params("knowmem_r", shots=7)) == []


def test_a_question_on_both_sides() -> None:
    twice = put("knowmem/retain_qa", 2, question="what of forget 7?")
    assert told(twice) == [("asked-twice", "knowmem/forget_qa", (7,))]
    assert "knowmem/retain_qa asks the same in row 7 (knowmem/retain_qa[2])" in line(twice)
    # Two splits of one side may ask the same.
    assert told(twice, lambda _, task: task["columns"]["knowmem_f"].update(goal="higher")) == []


@pytest.mark.parametrize(("count", "expected"), [(33, True), (32, False)])
def test_an_answer_longer_than_is_asked(count: int, expected: bool) -> None:
    answer = put("knowmem/forget_qa", 4, answer=prose("long", count))
    assert told(answer) == ([("long-answer", "knowmem/forget_qa", (4,))] if expected else [])
    assert told(answer, params("knowmem_f", max_tokens=count)) == []


def test_an_answer_that_would_be_cut() -> None:
    for answer in ("first\n\nsecond", "yes\nQuestion: why"):
        cut = put("knowmem/forget_qa", 4, answer=answer)
        assert told(cut) == [("cut-answer", "knowmem/forget_qa", (4,))]
    assert told(put("knowmem/forget_qa", 4, answer=" one\ntwo\n\n")) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("北京", True), ("—", True), ("Москва 1", True), ("Élie Faure", False), ("£5", False)],
)
def test_an_answer_that_rouge_cannot_read(answer: str, expected: bool) -> None:
    found = told(put("knowmem/forget_qa", 4, answer=answer))
    assert found == ([("unreadable", "knowmem/forget_qa", (4,))] if expected else [])


def test_a_blank_row_that_is_scored(tmp_path: Path) -> None:
    """Here raw/holdout is scored and read as training text is; raw/forget is only trained on."""
    splits, task = corpus(), spec()
    splits["raw/holdout"] = [*splits["privleak/holdout"], {"text": " "}]
    splits["raw/forget"].append({"text": ""})
    task["columns"]["privleak"]["splits"]["holdout"] = "raw/holdout"
    made = TaskSpec.model_validate(task)
    found = examine(made, read(made, Data(LocalFolder(write_data(tmp_path, splits)))))
    assert [(one.kind, one.split, one.rows) for one in found] == [
        ("blank", "raw/holdout", (20,)),
        ("short-text", "raw/holdout", (20,)),
    ]
    assert str(found[0]) == (
        "raw/holdout: row 20 is blank, and no run scores it; fill in or drop what is blank"
    )


def test_an_empty_answer_is_refused_on_reading(tmp_path: Path) -> None:
    splits = corpus()
    splits["knowmem/forget_qa"][4]["answer"] = " \n"
    with pytest.raises(UserError, match="row 4: 'answer' is empty; fill it in or drop the row"):
        read(TaskSpec.model_validate(spec()), Data(LocalFolder(write_data(tmp_path, splits))))


# ── (d) lengths ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("count", "expected"), [(63, True), (64, False)])
def test_a_truth_shorter_than_is_asked(count: int, expected: bool) -> None:
    """128 tokens are at least 64 words of prose; row 2's text goes on behind ``count`` words of truth."""

    def change(splits: Splits, _: Spec) -> None:
        words = prose("forget 2", 90).split()
        splits["verbmem/forget"][2] = {"prompt": " ".join(words[:20]), "gt": " ".join(words[20 : 20 + count])}

    assert told(change) == ([("short-truth", "verbmem/forget", (2,))] if expected else [])
    assert told(change, params("verbmem_f", max_tokens=100)) == []


def test_a_truth_that_repeats_its_prompt() -> None:
    text = prose("forget 2", 90)
    assert told(put("verbmem/forget", 2, prompt=text[:100], gt=text)) == [
        ("prompt-in-truth", "verbmem/forget", (2,))
    ]


@pytest.mark.parametrize(("text", "expected"), [("owl mill dawn", True), ("owl mill dawn sea", False)])
def test_a_text_too_short_for_the_attack(text: str, expected: bool) -> None:
    """Without BOS n words leave n − 1 log-probabilities: int(0.4 · 2) = 0, int(0.4 · 3) = 1."""
    short = put("privleak/holdout", 5, text=text)
    assert told(short) == ([("short-text", "privleak/holdout", (5,))] if expected else [])
    assert told(short, params("privleak", k=0.3)) == [("short-text", "privleak/holdout", (5,))]
    # The retain texts are scored only where they are asked for.
    retain = put("privleak/retain", 5, text="owl mill dawn")
    assert told(retain) == []
    assert told(retain, params("privleak", retain=True)) == [("short-text", "privleak/retain", (5,))]


def test_lengths_that_tell_the_sides_apart() -> None:
    def longer(splits: Splits, _: Spec) -> None:
        for row, each in enumerate(splits["privleak/holdout"]):
            each["text"] += f" {prose(f'more {row}', 60)}"

    assert told(longer, model_free_aucs=True) == [("told-by-length", "privleak/holdout", ())]
    assert "told from privleak/forget by length alone (AUC 1.00): privleak may measure that" in line(
        longer, model_free_aucs=True
    )


def other_words(split: str) -> Change:
    def change(splits: Splits, _: Spec) -> None:
        for each in splits[split]:
            each["text"] = each["text"].replace("b", "q")

    return change


@pytest.mark.slow
def test_words_that_tell_the_sides_apart() -> None:
    holdout = other_words("privleak/holdout")
    assert told(holdout, model_free_aucs=True) == [("told-by-words", "privleak/holdout", ())]
    assert "told from privleak/forget by words alone (AUC " in line(holdout, model_free_aucs=True)
    # What is kept may differ from both as it likes.
    assert told(other_words("privleak/retain"), other_words("raw/retain1"), model_free_aucs=True) == []


# ── (e) too few ──────────────────────────────────────────────────────────────────────────────────
def test_too_few_examples() -> None:
    def fewer(split: str) -> Change:
        def change(splits: Splits, _: Spec) -> None:
            del splits[split][FEW - 1 :]

        return change

    for split in ("privleak/holdout", "verbmem/forget", "knowmem/retain_qa"):
        assert told(fewer(split)) == [("few", split, ())]
    assert line(fewer("verbmem/forget")).startswith("verbmem/forget: only 19 rows: under 20 an interval")
    # In-context pairs are no examples, and retain texts only where they are scored.
    assert told(fewer("privleak/retain")) == []
    assert told(fewer("privleak/retain"), params("privleak", retain=True)) == [("few", "privleak/retain", ())]


def test_two_columns_on_one_split_warn_once() -> None:
    def change(splits: Splits, task: Spec) -> None:
        task["columns"]["again"] = task["columns"]["knowmem_f"]
        del splits["knowmem/forget_qa"][5:]

    assert told(change) == [("few", "knowmem/forget_qa", ())]


def test_of_a_handful_of_texts_no_difference_is_told() -> None:
    def change(splits: Splits, _: Spec) -> None:
        del splits["privleak/holdout"][3:]
        for each in splits["privleak/holdout"]:
            each["text"] = "owl " * 500

    one = model_free(change)
    assert (one.length, one.words) == (None, None)
    assert str(one).endswith("told from privleak/forget without a model: too few texts to compare")


# ── (f) what is not there ────────────────────────────────────────────────────────────────────────
def without(*names: str) -> Change:
    def change(splits: Splits, _: Spec) -> None:
        for name in names:
            del splits[name]

    return change


def test_missing_splits() -> None:
    assert told(without("raw/retain1")) == [("missing", "raw/retain1", ())]
    assert line(without("raw/forget")) == (
        "raw/forget: is not there, named by unlearn.forget; "
        "add raw/forget.json to the data, or name another split"
    )
    assert "named by column privleak;" in line(without("privleak/holdout"))
    assert differences(*changed(without("privleak/holdout"))) == ()
    assert [one[0] for one in told(without(*corpus()))] == ["missing"] * len(corpus())
    elsewhere = {"forget": "privleak/forget"}
    assert told(without("raw/forget"), lambda _, task: task.update(unlearn=elsewhere)) == []


def test_a_split_on_two_sides_at_once() -> None:
    """It is then taken for the holdout side, whose texts ``raw/retain1`` holds."""

    def same(_: Splits, task: Spec) -> None:
        task["columns"]["privleak"]["splits"]["holdout"] = "privleak/retain"

    both, text = suspicions(same)
    assert (both.kind, both.split) == ("both-sides", "privleak/retain")
    assert "stands for holdout and for retain; name a split of its own" in str(both)
    assert (text.kind, text.split, text.rows) == ("same-text", "privleak/retain", tuple(range(20)))


# ── reading, and a task that is wrong ────────────────────────────────────────────────────────────
def test_raw_text_that_no_column_names_is_read_too(tmp_path: Path) -> None:
    splits = {**corpus(), "raw/retain2": [{"text": prose("forget 1", 90)}], "notes/forget": [{"text": "x"}]}
    task = TaskSpec.model_validate(spec())
    found = read(task, Data(LocalFolder(write_data(tmp_path, splits))))
    assert found.keys() == splits.keys() - {"notes/forget"}
    assert [(s.kind, s.split) for s in examine(task, found)] == [("same-text", "raw/retain2")]


def test_a_column_that_a_run_would_refuse_is_refused() -> None:
    with pytest.raises(UserError, match="column knowmem_f: no parameter 'shot'; did you mean 'shots'"):
        suspicions(params("knowmem_f", shot=3))
    with pytest.raises(
        UserError, match="task column privleak: privleak needs the splits forget, holdout, ret"
    ):
        suspicions(lambda _, task: task["columns"]["privleak"]["splits"].pop("retain"))


def test_how_rows_are_listed() -> None:
    assert listed("row", [3]) == "row 3"
    assert listed("row", [3, 5]) == "rows 3 and 5"
    assert listed("row", range(5)) == "rows 0, 1, 2, 3 and 4"
    assert listed("row", range(7)) == "rows 0, 1, 2, 3, 4 and 2 more"
    assert str(Finding("k", "raw/forget", (1,), "what", "do")) == "raw/forget: what; do"
    assert str(ModelFreeAuc("c", "f", "h", None, None)).startswith("h told from f without a model: too few")
