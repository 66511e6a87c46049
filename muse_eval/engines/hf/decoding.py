"""Decoding in batches: a shared prefix computed once, no padding before the cache, rows that leave."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from muse_eval.engines.hf.attention import fast_steps
from muse_eval.engines.hf.caches import RoomyLayer, attends_to_everything, closed_up, new_cache, take_rows
from muse_eval.engines.hf.choosing import UNDEFINED

Choose = Callable[[Tensor, Sequence[int], int], Tensor]


@dataclass(frozen=True)
class Prefix:
    """Tokens that all prompts begin with, and the model's cache after them."""

    ids: list[int] = field(default_factory=list)
    cache: DynamicCache | None = None

    def expand(self, model: PreTrainedModel, rows: int) -> DynamicCache:
        """Return a cache of ``rows`` rows that have all seen the prefix."""
        if self.cache is None:
            return new_cache(model)
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return cache


@torch.inference_mode()
def compute_prefix(model: PreTrainedModel, ids: list[int]) -> Prefix:
    """Run the model over a shared prefix once."""
    cache = new_cache(model)
    tokens = torch.tensor([ids], device=model.device)
    model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return Prefix(ids, cache)


@torch.inference_mode()
def continued(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    limits: Sequence[int],
    choose: Choose,
    done: Callable[[int, list[int]], bool],
    prefix: Prefix,
    pad: int,
) -> list[list[int]]:
    """Continue each prompt token by token until ``done(row, ids)``, its limit or ``UNDEFINED``.

    Args:
        model: a causal language model.
        prompts: token ids, each beginning with the prefix and at least one token longer.
        limits: new tokens of each row at the most.
        choose: gives the next tokens from (rows, vocabulary) logits, their rows, and the tokens so far.
        done: whether a row's new ids end it; the id that ends it is among them.
        prefix: what all the prompts begin with.
        pad: id of the padding, which is masked out.
    """
    joined = attends_to_everything(model)
    logits, cache = (
        _prefill_joined(model, prompts, prefix) if joined else _prefill_padded(model, prompts, pad)
    )
    width, longest = max(map(len, prompts)), max(limits)
    slots = torch.arange(width + longest, device=model.device)
    gaps = torch.tensor([width - len(ids) for ids in prompts], device=model.device)
    rows = list(range(len(prompts)))
    new: list[list[int]] = [[] for _ in prompts]
    for seen in range(width, width + longest):
        chosen = choose(logits, rows, seen - width).to(model.device)
        going = []
        # All that is asked of the device in a step is these ids.
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            new[row].append(token)
            if token != UNDEFINED and len(new[row]) < limits[row] and not done(row, new[row]):
                going.append(place)
        if not going:
            break
        if len(going) < len(rows):
            places = closed_up(going)
            kept = torch.tensor(places).to(model.device, non_blocking=True)
            take_rows(cache, places, kept)
            chosen, gaps, rows = chosen[kept], gaps[kept], [rows[place] for place in places]
        padded = any(len(prompts[row]) < width for row in rows)
        with fast_steps():
            logits = model(
                input_ids=chosen[:, None],
                attention_mask=(slots[: seen + 1] >= gaps[:, None]).long() if padded else None,
                position_ids=(seen - gaps)[:, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
    return new


def _prefill_joined(
    model: PreTrainedModel, prompts: Sequence[list[int]], prefix: Prefix
) -> tuple[Tensor, DynamicCache]:
    """Run prompts of equal length together, so without padding or mask, and join their caches.

    Equal prompts, of which several samples are drawn, run once.

    Returns:
        (rows, vocabulary) logits after each prompt, and one cache padded on the left.
    """
    groups: dict[int, list[int]] = {}
    for row, ids in enumerate(prompts):
        groups.setdefault(len(ids), []).append(row)
    width, joined = max(groups), new_cache(model)
    logits: dict[int, Tensor] = {}
    for length, rows in groups.items():
        places: dict[tuple[int, ...], int] = {}
        copies = [places.setdefault(tuple(prompts[row]), len(places)) for row in rows]
        cache = prefix.expand(model, len(places))
        tokens = torch.tensor([ids[len(prefix.ids) :] for ids in places], device=model.device)
        out = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        after = out.logits[:, -1].to(model.device)
        logits |= {row: after[place] for row, place in zip(rows, copies, strict=True)}
        if len(places) < len(rows):
            cache.batch_select_indices(torch.tensor(copies, device=model.device))
        for into, layer in zip(joined.layers, cache.layers, strict=True):
            assert isinstance(into, RoomyLayer)
            assert isinstance(layer, RoomyLayer)
            into.put(rows, len(prompts), width - length, layer)
    return torch.stack([logits[row] for row in range(len(prompts))]), joined


def _prefill_padded(
    model: PreTrainedModel, prompts: Sequence[list[int]], pad: int
) -> tuple[Tensor, DynamicCache]:
    """Run all prompts together, padded on the left: for layers whose caches cannot be joined."""
    width, cache = max(map(len, prompts)), new_cache(model)
    tokens = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts], device=model.device)
    gaps = torch.tensor([[width - len(ids)] for ids in prompts], device=model.device)
    slots = torch.arange(width, device=model.device)
    out = model(
        input_ids=tokens,
        attention_mask=(slots >= gaps).long(),
        position_ids=(slots - gaps).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1], cache
