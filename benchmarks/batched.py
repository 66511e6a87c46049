"""The MUSE tests as a DataLoader and transformers' ``generate`` do them: the field's usual batched loop.

Batches of a fixed size in the order of the data, padded on the left; answers by ``generate`` with a stop
criterion, log-probabilities by a forward pass and a log-softmax of whole logits. It asks what the incumbent
harness asks: PrivLeak scores forget and holdout once. Prompts, truths and scores are the protocol's, so that
both sides must come to the same values; it computes no intervals, no moments and keeps nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.baseline import STOPS, Baseline, Outcome, Steps, auc
from muse_eval.types import Row

PAIR = "forget", "holdout"
SHARE = 0.4
"""Min-K%'s K, as MUSE's PrivLeak has it."""


class Batched(Baseline):
    """One model, asked in batches of so many; a caller may do other things between two batches."""

    def __init__(self, model: Any, tokenizer: Any, size: int) -> None:
        super().__init__(model, tokenizer)
        self._size = size

    def verbmem(self, forget: Sequence[Row], max_tokens: int = 128) -> Steps:
        """100 × mean ROUGE-L F1 between each prompt's continuation and the truth, cut to as many tokens."""
        prompts = [row["prompt"] for row in forget]
        truths = [self._decode(self._tokenizer(row["gt"]).input_ids[:max_tokens]) for row in forget]
        return self._answers(prompts, truths, max_tokens, ())

    def knowmem(self, qa: Sequence[Row], icl: Sequence[Row], max_tokens: int = 32) -> Steps:
        """100 × mean ROUGE-L F1 between each few-shot answer and the truth."""
        shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in icl)
        prompts = [f"{shots}Question: {row['question']}\nAnswer: " for row in qa]
        return self._answers(prompts, [row["answer"] for row in qa], max_tokens, STOPS)

    def counts(self, splits: dict[str, Sequence[Row]]) -> int:
        """Return how many texts PrivLeak scores."""
        return sum(len(splits[name]) for name in PAIR)

    def privleak(self, splits: dict[str, Sequence[Row]]) -> Steps:
        """AUC of Min-40 %, forget against holdout."""
        out = Outcome(0.0)
        scores: dict[str, list[dict[str, float]]] = {}
        for name in PAIR:
            scores[name] = []
            for batch in self._batches([row["text"] for row in splits[name]]):
                for picked in self._logprobs_of(batch):
                    kept = np.sort(picked)[: int(SHARE * len(picked))]
                    scores[name].append({"Min-40%": -float(np.mean(kept))})
                    out.lengths.append((len(picked) + 1, 0))
                    yield out
        out.value = auc(scores["forget"], scores["holdout"], "Min-40%")
        yield out

    def _answers(
        self, prompts: Sequence[str], truths: Sequence[str], max_tokens: int, stops: Sequence[str]
    ) -> Steps:
        out, scores = Outcome(0.0), list[float]()
        for batch in self._batches(prompts):
            for answer in self._generated(batch, max_tokens, stops):
                for stop in stops:
                    answer = answer.split(stop, 1)[0]
                scores.append(self._rouge_l(truths[len(scores)], answer))
                out.responses.append(answer)
                out.value = 100 * float(np.mean(scores))
                yield out

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the ids of so many texts and their mask, (rows, length) each, padded on the left."""

        def collate(some: list[str]) -> tuple[Tensor, Tensor]:
            ids = [self._tokenizer(text).input_ids for text in some]
            width = max(map(len, ids))
            pad = self._tokenizer.pad_token_id
            padded = torch.tensor([[pad] * (width - len(one)) + one for one in ids])
            return padded, torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids])

        rows: Any = list(texts)
        yield from DataLoader(rows, batch_size=self._size, collate_fn=collate)

    @torch.no_grad()
    def _generated(self, batch: tuple[Tensor, Tensor], max_tokens: int, stops: Sequence[str]) -> list[str]:
        ids, mask = batch
        made = self._model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=self._tokenizer.pad_token_id,
            **({"stop_strings": list(stops), "tokenizer": self._tokenizer} if stops else {}),
        )
        return [self._decode(row) for row in made[:, ids.shape[1] :].tolist()]

    @torch.no_grad()
    def _logprobs_of(self, batch: tuple[Tensor, Tensor]) -> list[np.ndarray]:
        ids, mask = batch
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self._model(ids, attention_mask=mask, position_ids=places).logits
        table = torch.nn.functional.log_softmax(logits[:, :-1].float(), dim=-1)
        picked = table.gather(-1, ids[:, 1:, None])[..., 0]
        # The first token of a text follows nothing.
        return [row[seen[:-1].bool()].numpy() for row, seen in zip(picked, mask, strict=True)]
