"""An engine that works as the published code does: plain transformers, one example at a time."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.engines.tokens import before_stop
from muse_eval.types import Batches, Generate, Generation, Logprobs, TokenLogprobs


class OneAtATime(TransformersEngine):
    """``model.generate`` to the last token, and a log-softmax of the whole vocabulary, in batches of one."""

    def generate(self, asks: Sequence[Generate]) -> Batches[Generation]:
        """Continue each prompt on its own."""
        return self._generations(asks)

    def logprobs(self, asks: Sequence[Logprobs]) -> Batches[TokenLogprobs]:
        """Score each text on its own."""
        return self._scores(asks)

    @torch.inference_mode()
    def _generations(self, asks: Sequence[Generate]) -> Iterator[list[tuple[int, Generation]]]:
        model, tokens = self._model, self._tokens
        for index, ask in enumerate(asks):
            ids = torch.tensor([tokens.ids(ask)], device=model.device)
            made = model.generate(  # type: ignore[operator]
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=ask.max_tokens,
                do_sample=False,
                pad_token_id=tokens.pad,
            )
            text = tokens.decode(made[0, ids.shape[1] :].tolist())
            yield [(index, Generation(before_stop(text, ask.stop)))]

    @torch.inference_mode()
    def _scores(self, asks: Sequence[Logprobs]) -> Iterator[list[tuple[int, TokenLogprobs]]]:
        model = self._model
        for index, ask in enumerate(asks):
            ids = torch.tensor([self._tokens.ids(ask)], device=model.device)
            table = model(ids).logits[0, :-1].float().log_softmax(-1)
            picked = table.gather(1, ids[0, 1:, None])[:, 0]
            yield [(index, TokenLogprobs(np.asarray(picked.cpu(), dtype=np.float32)))]
