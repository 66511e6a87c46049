"""Log-probabilities of texts in batches, without ever holding (batch, length, vocabulary) logits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from muse_eval.types import TokenLogprobs

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Logits computed at once, on average: as many as a cache (CPU) or a sliver of memory (GPU) holds."""
MIN_CHUNK = 256
"""Tokens whose logits are computed at once at least: the head's weights are read again for each chunk."""


class _Replay(nn.Module):
    """Stands in for the decoder under the model's head and returns states computed before."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_args: object, **_kwargs: object) -> Any:
        return self.output


@contextmanager
def _replaying(model: PreTrainedModel, output: Any) -> Iterator[_Replay]:
    """Let the model's own forward run its head, soft caps and scales on states given to it."""
    name, body = model.base_model_prefix, model.base_model
    replay = _Replay(output)
    setattr(model, name, replay)
    try:
        yield replay
    finally:
        setattr(model, name, body)


@torch.inference_mode()
def score_texts(
    model: PreTrainedModel, texts: Sequence[list[int]], moments: Sequence[bool], pad: int
) -> list[TokenLogprobs]:
    """Return log p of each token but the first of each text, in float32.

    Args:
        model: a causal language model.
        texts: token ids; each at least two long. Padding goes to the right, where causal attention never
            sees it, so no mask is needed.
        moments: whether a text also wants E[log p] and its standard deviation at each position.
        pad: id of the padding.
    """
    width = max(map(len, texts))
    device = model.device
    ids = torch.tensor([t + [pad] * (width - len(t)) for t in texts], device=device)
    lengths = torch.tensor([len(t) for t in texts], device=device)
    output = model.base_model(input_ids=ids, use_cache=False)
    wanted = torch.arange(width - 1, device=device) < (lengths - 1)[:, None]
    # With a device map the states come from the last device, the ids are on the first.
    states = output.last_hidden_state[:, :-1]
    states = states[wanted.to(states.device)]
    targets = ids[:, 1:][wanted]
    columns = _score_states(model, output, states, targets, any(moments)).cpu().numpy()
    ends = np.cumsum([len(t) - 1 for t in texts])
    pieces = np.split(columns, ends[:-1], axis=1)
    return [
        TokenLogprobs(piece[0].copy(), *((piece[1].copy(), piece[2].copy()) if wants else ()))
        for piece, wants in zip(pieces, moments, strict=True)
    ]


def _score_states(
    model: PreTrainedModel, output: Any, states: Tensor, targets: Tensor, moments: bool
) -> Tensor:
    """Return (1 or 3, tokens): log p of the targets, and the moments where wanted."""
    vocabulary = model.get_output_embeddings().weight.shape[0]
    elements = CHUNK_ELEMENTS.get(states.device.type, CHUNK_ELEMENTS["cuda"])
    chunk = max(MIN_CHUNK, elements // vocabulary)
    parts = []
    with _replaying(model, output) as replay:
        for some, ids in zip(states.split(chunk), targets.split(chunk), strict=True):
            replay.output.last_hidden_state = some[None]
            logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
            parts.append(_score_logits(logits, ids.to(logits.device), moments))
    return torch.cat(parts, dim=1)


def _score_logits(logits: Tensor, ids: Tensor, moments: bool) -> Tensor:
    """Return (1 or 3, tokens) from (tokens, vocabulary) logits, which the moments overwrite."""
    if not moments:
        return logits.log_softmax(-1).gather(1, ids[:, None]).T
    logits -= logits.amax(-1, keepdim=True)
    shifted = logits.gather(1, ids[:, None])[:, 0]
    weights = logits.exp()
    total = weights.sum(-1)
    first = torch.linalg.vecdot(weights, logits) / total
    second = torch.linalg.vecdot(weights.mul_(logits), logits) / total
    norm = total.log()
    return torch.stack([shifted - norm, first - norm, (second - first**2).clamp(min=0).sqrt()])
