"""Texts of made-up words and a tokenizer that makes each word one token: no download, ids read off a text."""

import random

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.subject import CONTEXT

SPECIAL: dict[str, None] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
"""What a model's configuration says beside such a tokenizer: no token is special."""


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer of the words ``w0`` … with neither BOS nor EOS: text and ids say the same."""
    table = {f"w{index}": index for index in range(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=CONTEXT, clean_up_tokenization_spaces=False
    )


def draw(rng: random.Random, vocabulary: int, count: int) -> str:
    """Draw a text of so many words."""
    return " ".join(f"w{index}" for index in rng.choices(range(vocabulary), k=count))


def ids(text: str) -> list[int]:
    """Return the ids of a text's words."""
    return [int(word[1:]) for word in text.split()]
