"""Decoding with each prompt's keys and values held once, for all responses to it and all query heads that read them.

A plain cache repeats a prompt for each of its responses, and attention repeats a key head for each of its query heads:
with long prompts a step of decoding reads more of such copies than it reads weights. Here the queries of all responses
to a prompt, and of all heads that share a key head, meet the prompt's keys in one matrix product. What a response has
written itself is in a cache of its own, and one softmax goes over both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from rlhf_bench.modeling.attention import attending


class GroupCache(DynamicCache):  # type: ignore[misc]
    """Prompts' keys and values, once each, and those of `samples` responses to each prompt.

    `prompts` is the cache after the prompts were read, padded on the left; `mask` (P, width) is 1 at their tokens.
    """

    def __init__(self, prompts: DynamicCache, mask: Tensor, samples: int, steps: int) -> None:
        super().__init__()
        self.groups = _Groups(mask.bool(), samples)
        self.layers = [_GroupLayer(layer, self.groups, steps) for layer in prompts.layers]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these responses, and the prompts that still have one."""
        prompts = self.groups.select(indices)
        for layer in self.layers:
            layer.select(indices, prompts)


class _Groups:
    """Which response belongs to which prompt: response n is number `place[n] % size` of prompt `place[n] // size`."""

    def __init__(self, mask: Tensor, samples: int) -> None:
        self.mask, self.size = mask, samples
        self.place = torch.arange(len(mask) * samples, device=mask.device)

    @property
    def whole(self) -> bool:
        """True while each prompt has `size` responses, in their order."""
        return len(self.place) == len(self.mask) * self.size

    def select(self, indices: Tensor) -> Tensor:
        """Keep these responses; gives the places of the prompts that stay."""
        owner = self.place[indices] // self.size
        kept: tuple[Tensor, Tensor, Tensor] = owner.unique(return_inverse=True, return_counts=True)
        prompts, owner, counts = kept
        first = counts.cumsum(0) - counts  # responses to one prompt are side by side
        number = torch.arange(len(owner), device=owner.device) - first[owner]
        self.mask, self.size = self.mask[prompts], int(counts.max())
        self.place = owner * self.size + number
        return prompts

    def together(self, x: Tensor) -> Tensor:
        """Rows of responses, by prompt: (N, heads, rows, E) -> (P, heads, size x rows, E)."""
        if not self.whole:
            x = x.new_zeros(len(self.mask) * self.size, *x.shape[1:]).index_copy_(0, self.place, x)
        _, heads, rows, last = x.shape
        by_prompt = x.view(len(self.mask), self.size, heads, rows, last).transpose(1, 2)
        return by_prompt.reshape(len(self.mask), heads, self.size * rows, last)

    def separate(self, x: Tensor, rows: int) -> Tensor:
        """The inverse of `together`."""
        prompts, heads, _, last = x.shape
        each = x.view(prompts, heads, self.size, rows, last).transpose(1, 2).reshape(-1, heads, rows, last)
        return each if self.whole else each[self.place]


class _GroupLayer(DynamicLayer):  # type: ignore[misc]
    def __init__(self, prompts: Any, groups: _Groups, steps: int) -> None:
        super().__init__()
        self.groups, self.used = groups, 0
        self.prompt_keys, self.prompt_values = prompts.keys, prompts.values  # (P, heads, width, E)
        shape = (len(groups.place), prompts.keys.shape[1], steps)
        self._keys = prompts.keys.new_empty(*shape, prompts.keys.shape[-1])
        self._values = prompts.values.new_empty(*shape, prompts.values.shape[-1])
        self.is_initialized: bool = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add one token to each response; keys and values of all its own tokens."""
        self._keys[:, :, self.used] = key_states[:, :, 0]
        self._values[:, :, self.used] = value_states[:, :, 0]
        self.used += 1
        return self._keys[:, :, : self.used], self._values[:, :, : self.used]

    def get_seq_length(self) -> int:
        return int(self.prompt_keys.shape[-2]) + self.used

    def select(self, responses: Tensor, prompts: Tensor) -> None:
        self._keys, self._values = self._keys[responses], self._values[responses]
        if len(prompts) < len(self.prompt_keys):
            self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]


@contextlib.contextmanager
def attending_in_groups(cache: GroupCache) -> Iterator[None]:
    """One new token of each response attends to its prompt and its own tokens, while the block lasts."""

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """query (N, heads, 1, E), the response's own key and value (N, key heads, tokens, E) -> (N, 1, heads, E)."""
        layer: _GroupLayer = cache.layers[module.layer_idx]
        groups = layer.groups
        count, heads, _, size = query.shape
        rows = heads // key.shape[1]  # query heads of one key head
        scaled = query.reshape(count, key.shape[1], rows, size) * scale
        over_prompt = groups.together(scaled) @ layer.prompt_keys.mT
        over_prompt.masked_fill_(~groups.mask[:, None, None], torch.finfo(query.dtype).min)
        scores = torch.cat([groups.separate(over_prompt, rows), scaled @ key.mT], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
        of_prompt, own = weights.split([layer.prompt_keys.shape[-2], layer.used], dim=-1)
        out: Tensor = groups.separate(groups.together(of_prompt) @ layer.prompt_values, rows) + own @ value
        return out.reshape(count, 1, heads, -1)

    with attending(attend):
        yield
