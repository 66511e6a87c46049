"""The stop rule on ids against the plain one, which decodes everything after every token."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from muse_eval.engines.stops import StopRule
from muse_eval.engines.tokens import Tokens, has_stop
from tests.conftest import BOS, EOS, PAD, PROSE

SPECIAL = [PAD, BOS, EOS]
TEXT = [
    PROSE,
    "déjà vu, 漢字 and 🙂\n\nit is n't here , is it ?\tno .\r\n",
    "def f(x):\n    return x\n\n\n",
] * 2
STOPS = [
    "\n",
    "\n\n",
    "Question:",
    ".",
    "e",
    " the",
    "the ",
    " ",
    "a\nb",
    "à",
    "漢字",
    "🙂",
    "?\n",
    "\t",
    "is n't",
    "�",
]


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=360, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return made


def sentencepiece() -> Tokenizer:
    """Bytes for what is unknown, and the first of all spaces stripped, as Llama 2's."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.train_from_iterator([PROSE.replace("\n", "")], trainers.BpeTrainer(vocab_size=150))
    words = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *trained.get_vocab()]
    made = Tokenizer(
        models.BPE({w: i for i, w in enumerate(words)}, [], byte_fallback=True, unk_token=PAD, fuse_unk=True)
    )
    made.add_special_tokens(SPECIAL)
    made.normalizer = trained.normalizer
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(
        TEXT, trainers.UnigramTrainer(vocab_size=150, special_tokens=SPECIAL, unk_token=PAD)
    )
    return made


def word_piece() -> Tokenizer:
    """Joins with spaces, and takes some of them out again."""
    made = Tokenizer(models.WordPiece(unk_token=PAD))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(cleanup=True)
    made.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL))
    return made


def word_ends() -> Tokenizer:
    """A token that ends a word gets a space only once another one follows."""
    made = Tokenizer(models.BPE(unk_token=PAD, end_of_word_suffix="</w>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    made.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL, end_of_word_suffix="</w>")
    )
    return made


class Trimming(PreTrainedTokenizerFast):
    """Shows white space at the end of a text only once something follows."""

    def _decode(self, *args: Any, **kwargs: Any) -> str:
        return str(super()._decode(*args, **kwargs)).rstrip()


def loaded(made: Tokenizer, kind: type[PreTrainedTokenizerFast] = PreTrainedTokenizerFast) -> Tokens:
    made.add_tokens([AddedToken("the ship\n", normalized=False), AddedToken("<tool>", normalized=False)])
    found = kind(tokenizer_object=made, pad_token=PAD, bos_token=BOS, eos_token=EOS)
    return Tokens(found, len(found), None)


KINDS: dict[str, Callable[[], Tokens]] = {
    "byte-level BPE": lambda: loaded(byte_level()),
    "sentencepiece, bytes": lambda: loaded(sentencepiece()),
    "unigram": lambda: loaded(unigram()),
    "word piece": lambda: loaded(word_piece()),
    "ends of words": lambda: loaded(word_ends()),
    "trimming": lambda: loaded(byte_level(), Trimming),
}


@pytest.fixture(scope="module", params=KINDS)
def tokens(request: pytest.FixtureRequest) -> Tokens:
    return KINDS[request.param]()


class Counting(Tokens):
    """Counts what is decoded."""

    def __init__(self, of: Tokens) -> None:
        super().__init__(of.tokenizer, of.vocabulary, of.context)
        self.decoded: list[tuple[int, ...]] = []

    def decode(self, ids: list[int]) -> str:
        self.decoded.append(tuple(ids))
        return super().decode(ids)


def check(rule: StopRule, tokens: Tokens, ids: list[int], stop: tuple[str, ...]) -> None:
    for count in range(1, len(ids) + 1):
        plain = has_stop(tokens.decode(ids[:count]), stop)
        assert rule.ended(ids[:count], stop) == plain, (tokens.decode(ids[:count]), stop)
        if plain:
            return


def test_the_tokenizers_are_of_their_kinds(tokens: Tokens) -> None:
    ids = tokens.tokenizer("the keeper of the harbour", add_special_tokens=False).input_ids
    assert len(ids) > 2
    assert tokens.decode(ids).split() == ["the", "keeper", "of", "the", "harbour"]


@pytest.mark.few(23)
@pytest.mark.parametrize("stop", [*((one,) for one in STOPS), ("\n", "Question:"), ("", "x"), ("\n", "the ")])
def test_ended_where_the_plain_rule_says_so(tokens: Tokens, stop: tuple[str, ...]) -> None:
    rule, draw = StopRule(tokens), random.Random(repr(stop))
    for _ in range(60):
        check(rule, tokens, [draw.randrange(len(tokens.tokenizer)) for _ in range(12)], stop)
    for text in TEXT[:3]:
        check(rule, tokens, tokens.tokenizer(text, add_special_tokens=False).input_ids, stop)


@pytest.mark.few(2)
def test_ended_where_any_string_of_the_text_itself_is_the_stop(tokens: Tokens) -> None:
    rule = StopRule(tokens)

    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        id_ = st.integers(0, len(tokens.tokenizer) - 1)
        ids = data.draw(st.lists(id_, min_size=1, max_size=10))
        text = tokens.decode(ids) or "x"
        start = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(start + 1, min(len(text), start + 4)))
        check(rule, tokens, ids, (text[start:end],))

    holds()


@pytest.mark.parametrize("kind", ["byte-level BPE", "sentencepiece, bytes", "unigram"])
def test_decoded_only_where_a_stop_string_may_have_ended(kind: str) -> None:
    tokens = Counting(KINDS[kind]())
    ids: list[int] = tokens.tokenizer(PROSE.split("\n")[4] * 8, add_special_tokens=False).input_ids
    rule = StopRule(tokens)
    for end in range(1, len(ids) + 1):
        assert not rule.ended(ids[:end], ("\n",))
    first, distinct = len(tokens.decoded), len(set(ids))
    # Ids that no line's end is in: each is looked at once. A space of its own is no plain text.
    bare = {one for one in set(ids) if not tokens.tokenizer.decode([one])}
    unplain = [end for end in range(1, len(ids) + 1) if bare & set(ids[max(0, end - 2) : end])]
    assert first <= 3 * distinct + 2 + len(unplain)
    assert len(unplain) < len(ids) / 2
    for end in range(1, len(ids) + 1):
        assert not rule.ended(ids[:end], ("\n",))
    assert len(tokens.decoded) == first + len(unplain)
    tokens.decoded.clear()
    line_end = tokens.tokenizer("x\nx", add_special_tokens=False).input_ids
    ended = [rule.ended([*ids, *line_end[:end]], ("\n",)) for end in range(1, len(line_end) + 1)]
    assert any(ended)
    assert 1 <= sum(len(one) > len(ids) for one in tokens.decoded) <= 3
