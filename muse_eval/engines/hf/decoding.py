"""Decoding in batches: a shared prefix computed once, no padding before the cache, rows that leave."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from muse_eval.engines.composed import ComposedModel, JoinedCache, parts_of
from muse_eval.engines.hf.attention import fast_steps
from muse_eval.engines.hf.choosing import UNDEFINED

Choose = Callable[[Tensor, Sequence[int], int], Tensor]
ROOM = 128
"""Positions a cache layer grows by at least, so that a step does not copy all that came before."""


class RoomyLayer(DynamicLayer):
    """A cache layer with spare room: a step writes into it, where the stock layer copies it whole."""

    _room: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append (batch, heads, new, dim) states and return all (batch, heads, seen + new, dim) of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        seen = self.get_seq_length()
        total = seen + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < total:
            assert self.keys is not None
            assert self.values is not None
            self._room = (
                _roomier(key_states, self.keys, seen, total),
                _roomier(value_states, self.values, seen, total),
            )
        keys, values = self._room
        keys[:, :, seen:total], values[:, :, seen:total] = key_states, value_states
        self.keys, self.values = keys[:, :, :total], values[:, :, :total]
        return self.keys, self.values

    def put(self, rows: list[int], batch: int, start: int, states: "RoomyLayer") -> None:
        """Place the states of some rows at ``start`` of this layer, which is to hold ``batch`` rows."""
        keys, values = states.keys, states.values
        assert keys is not None
        assert values is not None
        end = start + keys.shape[-2]
        if self._room is None:
            self.lazy_initialization(keys, values)
            shape = (batch, keys.shape[1], end + ROOM)
            self._room = keys.new_zeros(*shape, keys.shape[3]), values.new_zeros(*shape, values.shape[3])
        for room, some in zip(self._room, (keys, values), strict=True):
            room[rows, :, start:end] = some
        self.keys, self.values = (room[:, :, :end] for room in self._room)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row; the copies get room of their own at the next step."""
        self._room = None
        super().batch_repeat_interleave(repeats)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only some rows; they get room of their own at the next step."""
        self._room = None
        assert self.keys is not None
        super().batch_select_indices(indices.to(self.keys.device))


def _roomier(new: Tensor, old: Tensor, seen: int, total: int) -> Tensor:
    batch, heads, _, dim = new.shape
    room = new.new_empty(batch, heads, total + ROOM, dim)
    if seen:
        room[:, :, :seen] = old
    return room


def new_cache(model: PreTrainedModel) -> DynamicCache:
    """Return an empty cache for the model, roomy where a layer attends to everything before it."""
    if isinstance(model, ComposedModel):
        return JoinedCache([new_cache(part) for part in parts_of(model)])
    cache = DynamicCache(config=model.config)
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer else layer  # type: ignore[no-untyped-call]
        for layer in cache.layers
    ]
    return cache


def attends_to_everything(model: PreTrainedModel) -> bool:
    """Tell whether every layer is full attention, so that rows' caches can be joined."""
    layers = new_cache(model).layers
    return bool(layers) and all(type(layer) is RoomyLayer for layer in layers)


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
    width = max(map(len, prompts))
    lengths = torch.tensor([len(ids) for ids in prompts], device=model.device)
    mask = torch.arange(width, device=model.device) >= width - lengths[:, None]
    padded = not bool(mask.all())
    rows = list(range(len(prompts)))
    new: list[list[int]] = [[] for _ in prompts]
    while True:
        chosen = choose(logits, rows, len(new[rows[0]])).to(model.device)
        going = []
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            new[row].append(token)
            if token != UNDEFINED and len(new[row]) < limits[row] and not done(row, new[row]):
                going.append(place)
        if not going:
            return new
        if len(going) < len(rows):
            keep = torch.tensor(going, device=model.device)
            cache.batch_select_indices(keep)
            chosen, lengths, mask = chosen[keep], lengths[keep], mask[keep]
            rows = [rows[place] for place in going]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        with fast_steps():
            logits = model(
                input_ids=chosen[:, None],
                attention_mask=mask.long() if padded else None,
                position_ids=lengths[:, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        lengths = lengths + 1


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
