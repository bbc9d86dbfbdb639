"""A cache of keys and values that keeps room for the tokens to come."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

#: Tokens that a layer has room for when it grows. Ours: copying a cache once in 128 tokens costs nothing.
ROOM = 128


def growing_cache(model: Any) -> DynamicCache:
    """Make an empty cache for a ``GemForConditionalGeneration`` whose full-attention layers are :class:`GrowingLayer`.

    transformers' own copies every layer for every token, which takes most of the time of a large batch on a CPU.
    """
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class GrowingLayer(DynamicLayer):
    """Keys and values (rows, heads, tokens, width) at the beginning of tensors with room behind them."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with no token."""
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self._key_room, self._value_room = self.keys, self.values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values of new tokens; return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._key_room, self.keys = _appended(self._key_room, self.keys, key_states)
        self._value_room, self.values = _appended(self._value_room, self.values, value_states)
        return self.keys, self.values


def _appended(room: Tensor, held: Any, new: Tensor) -> tuple[Tensor, Tensor]:
    """Write new tokens behind those held: in place where these begin ``room`` and the new ones fit in."""
    before, after = held.shape[2], held.shape[2] + new.shape[2]
    # a selection or repetition of rows has made new tensors; a crop has left the same
    if room.data_ptr() != held.data_ptr() or room.stride() != held.stride() or room.shape[2] < after:
        room = new.new_empty(*new.shape[:2], after + ROOM, new.shape[3])
        room[:, :, :before] = held
    room[:, :, before:after] = new
    return room, room[:, :, :after]
