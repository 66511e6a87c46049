"""The built-in world: MUSE's splits and formats, made from a seed alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from muse_eval import plugins
from muse_eval.config.spec import fingerprint
from muse_eval.data.sources import BuiltinWorld
from muse_eval.data.splits import Data
from muse_eval.mini import corpus

ROWS = {
    "knowmem/forget_qa": 100,
    "knowmem/forget_qa_icl": 10,
    "knowmem/retain_qa": 100,
    "knowmem/retain_qa_icl": 10,
    "verbmem/forget": 100,
    "privleak/forget": 100,
    "privleak/holdout": 200,
}


@pytest.fixture(scope="module")
def splits() -> corpus.Corpus:
    return corpus.splits(0)


def texts(splits: corpus.Corpus, name: str) -> list[str]:
    return [row["text"] for row in splits[name]]


def test_has_all_of_muses_splits(splits: corpus.Corpus) -> None:
    forget_sets = [f"{kind}/forget_{n}" for kind in ("scal", "sust") for n in (1, 2, 3, 4)]
    raw = ["raw/forget", "raw/retain1", "raw/retain2", "raw/holdout"]
    train = ["train/forget", "train/retain1", "train/retain2"]
    assert set(splits) >= {*ROWS, "privleak/retain", *forget_sets, *raw, *train}
    assert {name: len(splits[name]) for name in ROWS} == ROWS


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_task_file_fingerprints_match(seed: int) -> None:
    spec = plugins.task("muse_mini")
    world = Data(BuiltinWorld(seed))
    assert set(spec.fingerprints) == set(world.names())
    for name, expected in spec.fingerprints.items():
        found = world.split(name).fingerprint
        assert found.rows == expected.rows
        assert (found.num_bytes == expected.num_bytes) == (seed == 0), name


def test_columns_of_the_task_name_splits_that_exist(splits: corpus.Corpus) -> None:
    spec = plugins.task("muse_mini")
    named = {name for column in spec.columns.values() for name in column.splits.values()}
    assert named | {spec.unlearn.forget, spec.unlearn.retain} <= set(splits)
    assert list(spec.columns) == ["verbmem_f", "knowmem_f", "privleak", "knowmem_r"]


@pytest.mark.slow
def test_same_seed_same_world_in_another_process(splits: corpus.Corpus) -> None:
    code = (
        "from muse_eval.config import fingerprint; from muse_eval.mini import corpus;"
        "print(fingerprint(corpus.splits(0)))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == fingerprint(splits)


def test_another_seed_is_another_world(splits: corpus.Corpus) -> None:
    other = corpus.splits(1)
    assert not set(texts(splits, "privleak/forget")) & set(texts(other, "privleak/forget"))


def test_forget_and_holdout_share_no_character(splits: corpus.Corpus) -> None:
    def starts(name: str) -> set[str]:
        return {card["question"] for card in splits[name]}

    assert not set(texts(splits, "raw/holdout")) & set(texts(splits, "train/forget"))
    asked = {question for name in ("knowmem/forget_qa", "knowmem/forget_qa_icl") for question in starts(name)}
    assert len(asked) == 110
    holdout = " ".join(texts(splits, "raw/holdout"))
    assert not any(_name(question) in holdout for question in asked)


def _name(question: str) -> str:
    """Return a question's character: the two capitalised words after its first."""
    return " ".join([word for word in question.rstrip("?").split()[1:] if word[0].isupper()][:2])


def test_verbmem_prompt_and_truth_are_a_chapter_of_the_forget_set(splits: corpus.Corpus) -> None:
    chapters = set(texts(splits, "raw/forget"))
    assert {row["prompt"] + row["gt"] for row in splits["verbmem/forget"]} <= chapters
    assert {len(row["prompt"].split()) for row in splits["verbmem/forget"]} == {corpus.PROMPT_WORDS}
    assert min(len(row["gt"].split()) for row in splits["verbmem/forget"]) > 70


def test_every_asked_fact_is_on_a_card_that_unlearning_and_training_see(splits: corpus.Corpus) -> None:
    for asked, read in (("forget", ["forget"]), ("retain", ["retain1", "retain2"])):
        cards = corpus.cards_of(text for name in read for text in texts(splits, f"raw/{name}"))
        rows = splits[f"knowmem/{asked}_qa"] + splits[f"knowmem/{asked}_qa_icl"]
        wanted = {f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in rows}
        assert wanted <= set(cards)


def test_asked_facts_stand_in_the_prose_too(splits: corpus.Corpus) -> None:
    prose = " ".join(text for text in texts(splits, "raw/forget") if not corpus.is_page(text)).lower()
    assert all(row["answer"].lower() in prose for row in splits["knowmem/forget_qa"])


def test_retain_questions_come_half_from_each_half(splits: corpus.Corpus) -> None:
    sources = [row["source"] for row in splits["knowmem/retain_qa"]]
    assert sources == ["retain1"] * 50 + ["retain2"] * 50
    for row in splits["knowmem/retain_qa"]:
        page = " ".join(texts(splits, f"raw/{row['source']}"))
        assert f"Question: {row['question']}\nAnswer: {row['answer']}\n" in page


def test_scal_is_nested_and_sust_is_disjoint(splits: corpus.Corpus) -> None:
    growing: list[str] = []
    for n in (1, 2, 3, 4):
        growing += texts(splits, f"sust/forget_{n}")
        assert texts(splits, f"scal/forget_{n}") == growing
    assert growing == texts(splits, "raw/forget")
    assert len(set(growing)) == len(growing)


def test_privleak_scores_chapters_only(splits: corpus.Corpus) -> None:
    for name in ("privleak/forget", "privleak/retain", "privleak/holdout"):
        assert not any(corpus.is_page(text) for text in texts(splits, name))


@pytest.mark.slow
def test_needs_no_torch() -> None:
    code = (
        "import sys; from muse_eval.mini.recipe import recipe_fingerprint; recipe_fingerprint(0);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
