"""Log-probabilities of texts in batches, without ever holding (batch, length, vocabulary) logits."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from muse_eval.engines.composed import mixed, parts_of
from muse_eval.engines.hf.replay import replaying
from muse_eval.types import Logprobs, TokenLogprobs

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Logits computed at once at most: as many as a cache (CPU) or a sliver of memory (GPU) holds …"""
MIN_CHUNK = 512
"""… or those of so many tokens, where that is more: each chunk reads the head's weights again."""
BLOCK_ELEMENTS = 2**17
"""Logits of a chunk that are turned into answers at once on a CPU: as many as its nearest caches hold."""


@contextmanager
def _read(model: PreTrainedModel, ids: Tensor, wanted: Tensor) -> Iterator[Callable[[slice], Tensor]]:
    """Run the decoder over texts once, and yield what gives the logits of some of the wanted positions.

    The model's own forward runs its head, soft caps and scales on the states kept from the decoder.

    Args:
        model: a causal language model.
        ids: (texts, length) token ids.
        wanted: (texts, length − 1), true where the next token is scored.
    """
    ids = ids.to(model.device)
    output = model.base_model(input_ids=ids, use_cache=False)
    # With a device map the states come from the last device, the ids are on the first.
    states = output.last_hidden_state[:, :-1]
    states = states[wanted.to(states.device)]
    read = ids[:, :-1][wanted.to(ids.device)]

    def logits(some: slice) -> Tensor:
        output.last_hidden_state = states[some][None]
        found: Tensor = model(input_ids=read[some][None], use_cache=False).logits[0]
        return found.float()

    with replaying(model, output):
        yield logits


@torch.inference_mode()
def score_texts(
    model: PreTrainedModel,
    texts: Sequence[list[int]],
    asks: Sequence[Logprobs],
    pad: int,
    firsts: Sequence[int] | None = None,
) -> list[TokenLogprobs]:
    """Return log p of each token but the first of each text, in float32, and what else is asked of it.

    Args:
        model: a causal language model, or a composed one.
        texts: token ids; each at least two long. Padding goes to the right, where causal attention never
            sees it, so no mask is needed.
        asks: whether a text also wants E[log p] and its standard deviation, or the rank, at each position.
        pad: id of the padding.
        firsts: place of the first token of each text that is scored; None: 1 of each.
    """
    firsts = [1] * len(texts) if firsts is None else firsts
    width = max(map(len, texts))
    device = model.device
    ids = torch.tensor([t + [pad] * (width - len(t)) for t in texts], device=device)
    lengths = torch.tensor([len(t) for t in texts], device=device)
    places = torch.arange(1, width, device=device)
    wanted = (places < lengths[:, None]) & (places >= torch.tensor(firsts, device=device)[:, None])
    moments, ranks = any(ask.moments for ask in asks), any(ask.ranks for ask in asks)
    columns = _score_positions(model, ids, wanted, moments, ranks).cpu().numpy()
    ends = np.cumsum([len(text) - first for text, first in zip(texts, firsts, strict=True)])
    pieces = np.split(columns, ends[:-1], axis=1)
    return [_told(piece, ask) for piece, ask in zip(pieces, asks, strict=True)]


def _told(piece: np.ndarray, ask: Logprobs) -> TokenLogprobs:
    """Take from the columns of a text, as ``_score_logits`` orders them, those that are asked for."""
    mean, std = (piece[1].copy(), piece[2].copy()) if ask.moments else (None, None)
    return TokenLogprobs(piece[0].copy(), mean, std, ranks=piece[-1].astype(np.int32) if ask.ranks else None)


def _score_positions(
    model: PreTrainedModel, ids: Tensor, wanted: Tensor, moments: bool, ranks: bool
) -> Tensor:
    """Return (1 to 4, positions): log p of the next tokens, then the moments and the ranks where wanted."""
    models = parts_of(model)
    targets = ids[:, 1:][wanted]
    vocabulary = sum(part.get_output_embeddings().weight.shape[0] for part in models)
    elements = CHUNK_ELEMENTS.get(ids.device.type, CHUNK_ELEMENTS["cuda"])
    chunks = math.ceil(len(targets) / max(MIN_CHUNK, elements // vocabulary))
    size = math.ceil(len(targets) / chunks)
    scored = []
    with ExitStack() as stack:
        heads = [stack.enter_context(_read(part, ids, wanted)) for part in models]
        for start in range(0, len(targets), size):
            some = slice(start, start + size)
            logits = mixed(model, [head(some) for head in heads])
            goals = targets[some].to(logits.device)
            block = len(goals) if logits.is_cuda else max(1, BLOCK_ELEMENTS // logits.shape[-1])
            scored += [
                _score_logits(rows, goal, moments, ranks)
                for rows, goal in zip(logits.split(block), goals.split(block), strict=True)
            ]
            # Else two chunks are there while the next one is made.
            del logits
    return torch.cat(scored, dim=1)


def _score_logits(logits: Tensor, ids: Tensor, moments: bool, ranks: bool) -> Tensor:
    """Return (1 to 4, tokens) from (tokens, vocabulary) logits, which the moments overwrite."""
    if ranks:
        # Float32 holds every rank up to 2^24 exactly; no vocabulary is larger.
        counted = (logits >= logits.gather(1, ids[:, None])).count_nonzero(-1).float()
        return torch.cat([_score_logits(logits, ids, moments, ranks=False), counted[None]])
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
