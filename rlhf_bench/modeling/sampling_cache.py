"""The sampler's key-value cache: allocated once, written in place."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from rlhf_bench.modeling.logprobs import takes


def cache_argument(model: PreTrainedModel) -> str:
    """What the model's forward calls a cache: `cache`, or `past_key_values` before some version of transformers 5."""
    return "cache" if takes(model, "cache") else "past_key_values"


def has_usual_cache(model: PreTrainedModel) -> bool:
    """True if all of the model's layers keep keys and values, whole or of a window: no recurrent state, which padding
    on the left would enter. In training with transformers' own gradient checkpointing models keep nothing."""
    checkpointing = model.training and any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    if checkpointing or not takes(model, cache_argument(model)):
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def preallocated_cache(model: PreTrainedModel, *, room: int) -> DynamicCache:
    """A cache that grows in place, where the model's layers are all of the plain growing kind."""
    cache = DynamicCache(config=model.config)
    if all(type(layer) is DynamicLayer for layer in cache.layers):
        cache.layers = [_RoomyLayer(room) for _ in cache.layers]
    return cache


def take_rows(cache: DynamicCache, first: int, part: DynamicCache, *, rows: int, used: int) -> None:
    """The keys and values of some rows, of `rows`, from a cache of their own; they end at column `used`."""
    for layer, own in zip(cache.layers, part.layers, strict=True):
        layer.take_rows(first, own, rows=rows, used=used)


def grows_in_place(cache: DynamicCache) -> bool:
    """True if every layer is one that `preallocated_cache` allocates."""
    return all(isinstance(layer, _RoomyLayer) for layer in cache.layers)


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer allocated once for `room` positions: each step writes one column instead of copying all of them."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.used = room, 0
        self.is_initialized: bool = False

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            batch, heads, _, size = key_states.shape
            self._keys = key_states.new_empty(batch, heads, self.room, size)
            self._values = value_states.new_empty(batch, heads, self.room, value_states.shape[-1])
            self.is_initialized = True
        end = self.used + key_states.shape[-2]
        self._keys[:, :, self.used : end] = key_states
        self._values[:, :, self.used : end] = value_states
        self.used = end
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]
        return self.keys, self.values

    def take_rows(self, first: int, part: _RoomyLayer, *, rows: int, used: int) -> None:
        """Keys and values of `part` as those of the rows from `first` on, of `rows`, in the last of `used` columns."""
        if not self.is_initialized:
            self.dtype, self.device = part.dtype, part.device
            shape = (rows, part.keys.shape[1], self.room)
            self._keys = part.keys.new_zeros(*shape, part.keys.shape[-1])
            self._values = part.values.new_zeros(*shape, part.values.shape[-1])
            self.is_initialized = True
        into = slice(first, first + len(part.keys))
        self._keys[into, :, used - part.used : used] = part.keys
        self._values[into, :, used - part.used : used] = part.values
        self.used = used
        self.keys, self.values = self._keys[:, :, :used], self._values[:, :, :used]

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._keys = self._keys.repeat_interleave(repeats, dim=0)
        self._values = self._values.repeat_interleave(repeats, dim=0)
        self.keys, self.values = self._keys[:, :, : self.used], self._values[:, :, : self.used]

    def batch_select_indices(self, indices: Tensor) -> None:
        self._keys, self._values = self._keys[indices], self._values[indices]
        self.keys, self.values = self._keys[:, :, : self.used], self._values[:, :, : self.used]
