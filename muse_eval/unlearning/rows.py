"""Rows of token ids to unlearn from: windows or documents, paired and padded (MUSE, section 4.1)."""

from collections.abc import Callable, Sequence
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
    """Make the rows of a split (``forget`` or ``retain``, for the errors).

    Raises:
        UserError: the split is empty, or a row has no token to predict.
    """
    if not any(texts):
        raise UserError(f"the {split} data is empty; there is nothing to train on")
    rows = KINDS[kind](texts, tokenizer, max_len)
    for index, row in enumerate(rows):
        if len(row) < 2:
            raise UserError(f"{split} {kind} {index} is shorter than two tokens; remove it from the data")
    return rows


def pad(rows: Sequence[Row], filler: int = 0) -> Batch:
    """Pad rows on the right to the longest; labels are ``IGNORE`` at padding, whatever its token id."""
    width = max(map(len, rows))
    gaps = [width - len(row) for row in rows]
    return {
        "input_ids": torch.tensor([row + [filler] * gap for row, gap in zip(rows, gaps, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - gap) + [0] * gap for gap in gaps]),
        "labels": torch.tensor([row + [IGNORE] * gap for row, gap in zip(rows, gaps, strict=True)]),
    }


class Pairs(Dataset[dict[str, Any]]):
    """Forget rows, each with its reference log-probability and a retain row where there are any.

    Forget row i goes with retain row i mod the number of retain rows, as in MUSE: with more retain than
    forget rows the rest is never seen.
    """

    def __init__(self, forget: Sequence[Row], retain: Sequence[Row] = (), reference: Sequence[float] = ()):
        self.forget, self.retain, self.reference = forget, retain, reference

    def __len__(self) -> int:
        """Count the forget rows."""
        return len(self.forget)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``forget`` and, where there are any, ``retain`` and ``reference``."""
        item: dict[str, Any] = {"forget": self.forget[index]}
        if self.retain:
            item["retain"] = self.retain[index % len(self.retain)]
        if self.reference:
            item["reference"] = self.reference[index]
        return item


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Batch pairs: ``forget`` and ``retain`` padded, each on its own; ``reference`` (batch,) float32."""
    batch: dict[str, Any] = {"forget": pad([item["forget"] for item in items])}
    if "retain" in items[0]:
        batch["retain"] = pad([item["retain"] for item in items])
    if "reference" in items[0]:
        batch["reference"] = torch.tensor([item["reference"] for item in items], dtype=torch.float32)
    return batch
