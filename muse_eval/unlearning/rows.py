"""Rows of token ids to unlearn from: windows or documents, paired and padded (MUSE, section 4.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from muse_eval.errors import UserError
from muse_eval.unlearning.logps import IGNORE

Row = list[int]
"""Token ids of one row."""
Batch = dict[str, Tensor]
"""``input_ids``, ``attention_mask`` and ``labels``, (batch, length) each, padded on the right."""


def chunks(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_len: int) -> list[Row]:
    r"""Cut the texts into windows of ``max_len`` tokens, as MUSE cuts the books.

    A ``.txt`` file is one text; several documents (the rows of a hub split) are joined by ``\n\n`` into
    one, which is our choice. It is tokenised once without special tokens and cut into pieces of
    ``max_len − 1`` tokens, each with BOS in front (pieces of ``max_len`` where the tokenizer has no BOS).
    The last window is filled up from the start of the first one, its BOS included. A text that does not
    fill one window stays as it is: repeating it within a row would change what the row says.
    """
    ids: Row = tokenizer("\n\n".join(texts), add_special_tokens=False, verbose=False)["input_ids"]
    front = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    size = max_len - len(front)
    rows = [front + ids[start : start + size] for start in range(0, len(ids), size)]
    if len(rows) > 1:
        rows[-1] = (rows[-1] + rows[0])[:max_len]
    return rows


def documents(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_len: int) -> list[Row]:
    """Make each text a row, with the special tokens the tokenizer adds, cut at ``max_len`` tokens."""
    return [tokenizer(text, verbose=False)["input_ids"][:max_len] for text in texts]


KINDS: dict[str, Callable[[Sequence[str], PreTrainedTokenizerBase, int], list[Row]]] = {
    "chunk": chunks,
    "document": documents,
}


def make(
    kind: str, split: str, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_len: int
) -> list[Row]:
    """Make the rows of a split (``forget`` or ``retain``, for the errors); a blank text makes none.

    Raises:
        UserError: the split is empty, or a row has no token to predict.
    """
    written = {index: text for index, text in enumerate(texts) if text.strip()}
    if not written:
        raise UserError(f"the {split} data is empty; there is nothing to train on")
    rows = KINDS[kind](list(written.values()), tokenizer, max_len)
    for index, row in zip(written, rows, strict=True) if kind == "document" else enumerate(rows):
        if len(row) < 2:
            raise UserError(f"{split} {kind} {index} is shorter than two tokens; remove it from the data")
    return rows


def pad(rows: Sequence[Row], prompts: Sequence[int] = (), filler: int = 0) -> Batch:
    """Pad rows on the right to the longest; labels are ``IGNORE`` at padding, whatever its token id.

    Args:
        rows: token ids of each row.
        prompts: how many of each row's first tokens are read but never targets; none where it is empty.
        filler: the id at padding.
    """
    width = max(map(len, rows))
    gaps = [width - len(row) for row in rows]
    heads = prompts or [0] * len(rows)
    labels = [
        [IGNORE] * head + row[head:] + [IGNORE] * gap
        for row, head, gap in zip(rows, heads, gaps, strict=True)
    ]
    return {
        "input_ids": torch.tensor([row + [filler] * gap for row, gap in zip(rows, gaps, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - gap) + [0] * gap for gap in gaps]),
        "labels": torch.tensor(labels),
    }


@dataclass
class Pairs(Dataset[dict[str, Any]]):
    """Forget rows, each with what goes with it.

    Forget row i goes with retain row i mod the number of retain rows, as in MUSE: with more retain than
    forget rows the rest is never seen.
    """

    forget: Sequence[Row]
    retain: Sequence[Row] = ()
    refusal: Sequence[Row] = ()
    """One for each forget row: its beginning, then what is to be said instead."""
    prompts: Sequence[int] = ()
    """The tokens of each forget row that its refusal begins with too; they are no targets."""
    reference: dict[str, list[float]] = field(default_factory=dict)
    """The reference's log π of each ``forget`` and ``refusal`` row, where the method wants them."""

    def __len__(self) -> int:
        """Count the forget rows."""
        return len(self.forget)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``index``, ``forget`` and any of ``retain``, ``refusal``, ``prompt``, ``reference``."""
        item: dict[str, Any] = {"index": index, "forget": self.forget[index]}
        if self.retain:
            item["retain"] = self.retain[index % len(self.retain)]
        if self.refusal:
            item["refusal"], item["prompt"] = self.refusal[index], self.prompts[index]
        if self.reference:
            item["reference"] = {name: sums[index] for name, sums in self.reference.items()}
        return item


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Batch pairs: each kind of row padded on its own; ``reference`` is name to (batch,) float32 sums."""
    prompts = [item["prompt"] for item in items if "prompt" in item]
    batch: dict[str, Any] = {"index": torch.tensor([item["index"] for item in items])}
    batch["forget"] = pad([item["forget"] for item in items], prompts)
    if "retain" in items[0]:
        batch["retain"] = pad([item["retain"] for item in items])
    if prompts:
        batch["refusal"] = pad([item["refusal"] for item in items], prompts)
    if "reference" in items[0]:
        batch["reference"] = {
            name: torch.tensor([item["reference"][name] for item in items], dtype=torch.float32)
            for name in items[0]["reference"]
        }
    return batch


def refusals(
    forget: Sequence[Row],
    texts: Sequence[str],
    share: float,
    tokenizer: PreTrainedTokenizerBase,
    max_len: int,
) -> tuple[list[Row], list[int]]:
    """Make the row to prefer for each forget row: its first tokens, then a refusal.

    Args:
        forget: the forget rows, of at least two tokens.
        texts: refusals; forget row i gets text i mod their number.
        share: of a forget row's tokens, how many both rows begin with; at least one, and never all.
        tokenizer: the model's.
        max_len: tokens of a row at most; a refusal is cut to it.

    Returns:
        The refusal rows and the number of tokens each begins with.
    """
    prompts = [min(max(int(share * len(row)), 1), len(row) - 1) for row in forget]
    said = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
    made = [
        (row[:prompt] + said[index % len(said)])[: max(max_len, prompt + 1)]
        for index, (row, prompt) in enumerate(zip(forget, prompts, strict=True))
    ]
    return made, prompts
