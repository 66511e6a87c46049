"""Key-value caches with room to grow into, from which rows leave without a copy of those that stay."""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from muse_eval.engines.composed import ComposedModel, JoinedCache, parts_of

ROOM = 128
"""Positions a cache layer grows by at least, so that a step does not copy all that came before."""


class RoomyLayer(DynamicLayer):
    """A cache layer with spare room: a step writes into it, where the stock layer copies it whole."""

    _room: tuple[Tensor, Tensor] | None = None
    _end: int = 0
    """Where in the room the next states go; those that are kept lie right before it."""

    @property
    def most(self) -> int | None:
        """How many positions later steps may look back at; None: all."""
        return None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append (batch, heads, new, dim) states and return all that the new ones may look at.

        These are (batch, heads, kept + new, dim), where ``kept`` is at most ``most``.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        kept, new = self._kept(), key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < self._end + new:
            assert self.keys is not None
            assert self.values is not None
            self._room = (
                _roomier(key_states, self.keys, kept, kept + new),
                _roomier(value_states, self.values, kept, kept + new),
            )
            self._end = kept
        keys, values = self._room
        start, self._end = self._end, self._end + new
        keys[:, :, start : self._end], values[:, :, start : self._end] = key_states, value_states
        self._keep(kept + new if self.most is None else min(kept + new, self.most))
        return keys[:, :, start - kept : self._end], values[:, :, start - kept : self._end]

    def put(self, rows: list[int], batch: int, start: int, states: "RoomyLayer") -> None:
        """Place the states of some rows at ``start`` of this layer, which is to hold ``batch`` rows."""
        keys, values = states.keys, states.values
        assert keys is not None
        assert values is not None
        self._end = start + keys.shape[-2]
        if self._room is None:
            self.lazy_initialization(keys, values)
            shape = (batch, keys.shape[1], self._end + ROOM)
            self._room = keys.new_zeros(*shape, keys.shape[3]), values.new_zeros(*shape, values.shape[3])
        for room, some in zip(self._room, (keys, values), strict=True):
            room[rows, :, start : self._end] = some
        self._keep(self._end)

    def take(self, places: Sequence[int]) -> None:
        """Keep the rows at ``places``, in this order; only those that change their place are copied.

        No place that another row is moved to may be asked for later on: row i is ``places[i]`` or from behind
        the last that is kept.
        """
        assert self._room is not None
        kept, count = self._kept(), len(places)
        for room in self._room:
            held = room[:, :, self._end - kept : self._end]
            for to, place in enumerate(places):
                if to != place:
                    held[to] = held[place]
        keys, values = self._room
        self._room = keys[:count], values[:count]
        self._keep(kept)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row; the copies get room of their own at the next step."""
        self._room = None
        super().batch_repeat_interleave(repeats)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only some rows; they get room of their own at the next step."""
        self._room = None
        assert self.keys is not None
        super().batch_select_indices(indices.to(self.keys.device))

    def _kept(self) -> int:
        return self.keys.shape[-2] if self.keys is not None and self.keys.numel() else 0

    def _keep(self, count: int) -> None:
        """Show the last ``count`` positions of the room as keys and values."""
        assert self._room is not None
        self.keys, self.values = (room[:, :, self._end - count : self._end] for room in self._room)


class RoomySlidingLayer(RoomyLayer, DynamicSlidingWindowLayer):
    """A roomy layer that keeps what is within the window of the next position."""

    @property
    def most(self) -> int:
        """The window but for the next position itself."""
        return int(self.sliding_window) - 1

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append states, count them, and return what the new ones may look at."""
        self.cumulative_length += key_states.shape[-2]
        return super().update(key_states, value_states)


def _roomier(new: Tensor, old: Tensor, kept: int, total: int) -> Tensor:
    batch, heads, _, dim = new.shape
    room = new.new_empty(batch, heads, total + ROOM, dim)
    if kept:
        room[:, :, :kept] = old
    return room


def new_cache(model: PreTrainedModel) -> DynamicCache:
    """Return an empty cache for the model, roomy where a layer has states of plain attention."""
    if isinstance(model, ComposedModel):
        return JoinedCache([new_cache(part) for part in parts_of(model)])
    cache = DynamicCache(config=model.config)
    cache.layers = [_roomy(layer) for layer in cache.layers]
    return cache


def _roomy(layer: Any) -> Any:
    if type(layer) is DynamicLayer:
        return RoomyLayer()  # type: ignore[no-untyped-call]
    if type(layer) is DynamicSlidingWindowLayer:
        return RoomySlidingLayer(layer.sliding_window)
    return layer


def attends_to_everything(model: PreTrainedModel) -> bool:
    """Tell whether every layer is full attention, so that rows' caches can be joined."""
    layers = new_cache(model).layers
    return bool(layers) and all(type(layer) is RoomyLayer for layer in layers)


def closed_up(going: Sequence[int]) -> list[int]:
    """Return the places of the rows that go on so that the last of them fill the holes of those that left.

    Args:
        going: places of the rows that go on, in ascending order.
    """
    stay, late = set(going), [place for place in going if place >= len(going)]
    return [place if place in stay else late.pop() for place in range(len(going))]


def take_rows(cache: DynamicCache, places: Sequence[int], index: Tensor) -> None:
    """Keep a cache's rows at ``places`` (as of ``closed_up``; ``index`` holds the same), in this order.

    Layers that are not roomy (recurrent states and the like) are copied whole, as transformers does.
    """
    for layer in cast(Sequence[DynamicLayer], cache.layers):
        if isinstance(layer, RoomyLayer):
            layer.take(places)
        else:
            layer.batch_select_indices(index)
