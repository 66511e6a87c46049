"""What the page marks is what ROUGE-L counted: the same words, and as many as the score says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenize import tokenize

from muse_eval.reports import words
from muse_eval.reports.words import cut, shared

ODD = "aBz 09.-_'\n\t\u00e9\u00df\u0130\u017f\u212a\u2028\u202e\ud800\u0663\u1e9e"
"""Letters whose lower case is several or is plain, foreign digits, separators, a lone surrogate."""


@given(st.text(alphabet=ODD, max_size=40) | st.text(max_size=40))
def test_words_are_those_of_rouge_score_and_the_pieces_are_the_text(text: str) -> None:
    found = cut(text)
    assert found.words == tokenize(text, None)
    assert "".join(found.pieces) == text
    assert len(found.pieces) == 2 * len(found.words) + 1


def test_a_word_within_a_letter_stays_with_it() -> None:
    assert cut("Hello, W\u0130N 2x").pieces == ["", "Hello", ", ", "W\u0130", "", "N", " ", "2x", ""]


@pytest.mark.parametrize("seed", range(40))
def test_the_marked_words_give_the_score(seed: int) -> None:
    draw = random.Random(seed)
    texts = [
        "".join(draw.choice(["a ", "b ", "c. ", "D-d "]) for _ in range(draw.randrange(12))) for _ in "tr"
    ]
    truth, response = map(cut, texts)
    found = shared(truth.words, response.words)
    assert found is not None
    assert [truth.words[at] for at in found.truth] == [response.words[at] for at in found.response]
    assert found.truth == sorted(set(found.truth))
    assert found.response == sorted(set(found.response))
    score = RougeScorer(["rougeL"]).score(*texts)["rougeL"].fmeasure
    assert found.f1(truth, response) == pytest.approx(score, abs=1e-12)


def test_texts_too_long_for_a_table_have_no_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_CELLS", 5)
    assert shared(["a", "b"], ["a", "b"]) is not None
    assert shared(["a", "b"], ["a", "b", "c"]) is None
