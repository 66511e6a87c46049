"""Rows: windows, documents, pairing and padding."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from muse_eval.errors import UserError
from muse_eval.unlearning import rows
from muse_eval.unlearning.logps import IGNORE
from muse_eval.unlearning.objectives import logps

BOS = 0


def tokenizer(bos: bool = True) -> PreTrainedTokenizerFast:
    """Word ``n`` has id n; BOS is 0 and put in front by the tokenizer itself."""
    words = Tokenizer(
        WordLevel({"<s>": BOS} | {str(number): number for number in range(1, 50)}, unk_token="<s>")
    )
    words.pre_tokenizer = Whitespace()
    if not bos:
        return PreTrainedTokenizerFast(tokenizer_object=words)
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")


def text(first: int, last: int) -> str:
    return " ".join(map(str, range(first, last + 1)))


def test_chunks_of_an_exact_multiple() -> None:
    assert rows.chunks([text(1, 6)], tokenizer(), 4) == [[BOS, 1, 2, 3], [BOS, 4, 5, 6]]


def test_last_chunk_is_filled_from_the_first_with_its_bos() -> None:
    """The last piece is 7 alone, BOS in front; the first window's start, its BOS included, fills it."""
    assert rows.chunks([text(1, 7)], tokenizer(), 4) == [[BOS, 1, 2, 3], [BOS, 4, 5, 6], [BOS, 7, BOS, 1]]


def test_a_text_shorter_than_a_window_stays_as_it_is() -> None:
    assert rows.chunks([text(1, 2)], tokenizer(), 4) == [[BOS, 1, 2]]


def test_several_documents_are_one_text() -> None:
    assert rows.chunks([text(1, 2), text(3, 6)], tokenizer(), 4) == rows.chunks([text(1, 6)], tokenizer(), 4)


@pytest.mark.parametrize("kind", ["chunk", "document"])
def test_a_blank_text_makes_no_row(kind: str) -> None:
    texts = [text(1, 2), text(3, 6)]
    blank = ["", texts[0], " \n", texts[1], ""]
    assert rows.make(kind, "forget", blank, tokenizer(), 4) == rows.make(
        kind, "forget", texts, tokenizer(), 4
    )


def test_documents_are_joined_by_a_blank_line() -> None:
    seen: list[str] = []

    def record(text: str, **_: object) -> dict[str, list[int]]:
        seen.append(text)
        return {"input_ids": [1, 2]}

    record.bos_token_id = BOS  # type: ignore[attr-defined]
    rows.chunks(["one", "two"], record, 4)  # type: ignore[arg-type]
    assert seen == ["one\n\ntwo"]


def test_without_bos_windows_are_full_of_text() -> None:
    assert rows.chunks([text(1, 6)], tokenizer(bos=False), 4) == [[1, 2, 3, 4], [5, 6, 1, 2]]


def test_documents_are_rows_with_the_tokenizers_own_bos_cut_at_max_len() -> None:
    assert rows.documents([text(1, 2), text(3, 9)], tokenizer(), 4) == [[BOS, 1, 2], [BOS, 3, 4, 5]]


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
@pytest.mark.parametrize("split", ["forget", "retain"])
def test_empty_data_is_refused(texts: list[str], split: str) -> None:
    with pytest.raises(UserError, match=f"the {split} data is empty"):
        rows.make("chunk", split, texts, tokenizer(), 4)


def test_a_text_shorter_than_two_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="forget document 2 is shorter than two tokens"):
        rows.make("document", "forget", ["1 2", "", "3"], tokenizer(bos=False), 4)
    with pytest.raises(UserError, match="forget chunk 0 is shorter than two tokens"):
        rows.make("chunk", "forget", ["1"], tokenizer(bos=False), 4)


def test_forget_row_i_goes_with_retain_row_i_mod_n() -> None:
    pairs = rows.Pairs([[0, row] for row in range(5)], [[10, 11], [20, 21]])
    pairs.reference = {"forget": [0.0, -1.0, -2.0, -3.0, -4.0]}
    assert len(pairs) == 5
    assert [pairs[row]["retain"][0] for row in range(5)] == [10, 20, 10, 20, 10]
    assert [pairs[row]["forget"][1] for row in range(5)] == [0, 1, 2, 3, 4]
    assert [pairs[row]["reference"]["forget"] for row in range(5)] == [0.0, -1.0, -2.0, -3.0, -4.0]
    assert rows.Pairs([[0, 1]])[0] == {"index": 0, "forget": [0, 1]}


def test_collate_pads_right_and_labels_padding_as_ignored() -> None:
    pairs = rows.Pairs([[0, 1, 2], [0, 3]], [[0, 4], [0, 5]], reference={"forget": [-1.0, -2.0]})
    batch = rows.collate([pairs[0], pairs[1]])
    assert batch["forget"]["input_ids"].tolist() == [[0, 1, 2], [0, 3, 0]]
    assert batch["forget"]["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["forget"]["labels"].tolist() == [[0, 1, 2], [0, 3, IGNORE]]
    assert batch["retain"]["input_ids"].tolist() == [[0, 4], [0, 5]]
    assert batch["reference"]["forget"].tolist() == [-1.0, -2.0]
    assert batch["reference"]["forget"].dtype == torch.float32


def test_refusals_begin_as_the_forget_row_and_say_another_thing() -> None:
    """Half of 5 tokens is 2; half of 2 tokens is 1; row 2 takes refusal 2, cut to length."""
    forget = [[0, 1, 2, 3, 4], [0, 5]]
    made, prompts = rows.refusals(forget, ["7 8", "9 7 8 9"], 0.5, tokenizer(), max_len=4)
    assert prompts == [2, 1]
    said = [tokenizer()(text, add_special_tokens=False)["input_ids"] for text in ("7 8", "9 7 8 9")]
    assert made == [[0, 1, *said[0]], [0, *said[1][:3]]]
    pairs = rows.Pairs(forget, refusal=made, prompts=prompts)
    batch = rows.collate([pairs[0], pairs[1]])
    assert batch["forget"]["labels"].tolist() == [
        [IGNORE, IGNORE, 2, 3, 4],
        [IGNORE, 5, IGNORE, IGNORE, IGNORE],
    ]
    assert batch["refusal"]["labels"].tolist() == [[IGNORE, IGNORE, *said[0]], [IGNORE, *said[1][:3]]]


def test_padding_and_the_other_rows_do_not_alter_log_probabilities() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    made = [[BOS, *range(1, length)] for length in (2, 9, 5, 7)]
    with torch.no_grad():

        def totals(batch: list[rows.Row]) -> list[float]:
            padded = rows.pad(batch, filler=13)
            found: list[float] = logps(model, padded).total.tolist()
            return found

        together, backwards = totals(made), totals(made[::-1])[::-1]
        alone = [totals([row])[0] for row in made]
    assert together == pytest.approx(alone, abs=1e-5)
    assert backwards == pytest.approx(alone, abs=1e-5)
