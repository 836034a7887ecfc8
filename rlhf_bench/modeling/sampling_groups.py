"""Decoding with each prompt's keys and values held once, for all responses to it and all query heads that read them.

A plain cache repeats a prompt for each of its responses, and attention repeats a key head for each of its query heads:
with long prompts a step of decoding reads more of such copies than it reads weights. Here the responses to a prompt are
a group with one cache: after the prompt's columns come, token by token, one column for each response. The queries of a
group meet all of them in one matrix product, and a mask leaves each response its prompt and its own columns. That
computes more scores than are used, so that groups are small.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from rlhf_bench.modeling.attention import attending, replacement
from rlhf_bench.modeling.last_layer import reading
from rlhf_bench.modeling.tree_attention import attending_by_tree
from rlhf_bench.modeling.tree_plans import Tree

TOGETHER = 8  # responses of a group at most; more of them to a prompt are several groups
COLUMNS = 512  # own columns of a group that are wanted at most, where it has more than two responses


class GroupCache(DynamicCache):  # type: ignore[misc]
    """Prompts' keys and values, once for each group, and those of `samples` responses to each prompt.

    `mask` (P, width) is 1 at the prompts' tokens, which end in the last column.
    """

    def __init__(self, layers: int, mask: Tensor, samples: int, steps: int) -> None:
        super().__init__()
        self.groups = _Groups(mask.bool(), samples, steps)
        self.layers = [_GroupLayer(self.groups) for _ in range(layers)]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these responses, and, once half of the places are empty, the groups that still have one."""
        old_size = self.groups.size
        moved = self.groups.select(indices)
        if moved is not None:
            kept, slots = moved
            for layer in self.layers:
                layer.select(kept, slots, old_size)


class _Groups:
    """Which response has which place: response n is number `place[n] % size` of group `place[n] // size`."""

    def __init__(self, mask: Tensor, samples: int, steps: int) -> None:
        self.steps = steps
        self.per_prompt = -(-samples // max(2, min(TOGETHER, COLUMNS // steps)))
        self.size = -(-samples // self.per_prompt)
        self.mask = mask.repeat_interleave(self.per_prompt, dim=0)  # (G, width)
        sample = torch.arange(samples, device=mask.device)
        first = torch.arange(len(mask), device=mask.device)[:, None] * self.per_prompt * self.size
        self.place = (first + sample).flatten()
        self._see()

    def _see(self) -> None:
        """What is added to the scores of each group's responses, (G, 1, size, 1, columns)."""
        own = torch.eye(self.size, dtype=torch.bool, device=self.mask.device).repeat(1, self.steps)
        visible = torch.cat(
            [self.mask[:, None].expand(-1, self.size, -1), own[None].expand(len(self.mask), -1, -1)], dim=2
        )
        self.added = torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible, -torch.inf)
        self.added = self.added[:, None, :, None]

    @property
    def whole(self) -> bool:
        """True while each group has `size` responses, in their order."""
        return len(self.place) == len(self.mask) * self.size

    def select(self, indices: Tensor) -> tuple[Tensor, Tensor] | None:
        """Keep these responses. Where they move: the groups that stay, (G,), and the old numbers of their responses,
        (G, size)."""
        place = self.place[indices]
        found: tuple[Tensor, Tensor, Tensor] = (place // self.size).unique(return_inverse=True, return_counts=True)
        kept, group, counts = found
        first = counts.cumsum(0) - counts  # responses of one group are side by side
        number = torch.arange(len(group), device=group.device) - first[group]
        size = int(counts.max())
        if 2 * len(kept) * size > len(self.mask) * self.size:
            self.place = place
            return None
        slots = torch.zeros(len(kept), size, dtype=torch.long, device=group.device)
        slots[group, number] = place % self.size
        self.mask, self.size, self.place = self.mask[kept], size, group * size + number
        self._see()
        return kept, slots

    def together(self, x: Tensor) -> Tensor:
        """Responses by group: (N, heads, E) -> (G, heads, size, E)."""
        if not self.whole:
            x = x.new_zeros(len(self.mask) * self.size, *x.shape[1:]).index_copy_(0, self.place, x)
        return x.view(len(self.mask), self.size, *x.shape[1:]).transpose(1, 2)

    def separate(self, x: Tensor) -> Tensor:
        """The inverse of `together`."""
        each = x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3])
        return each if self.whole else each[self.place]


class _GroupLayer(DynamicLayer):  # type: ignore[misc]
    def __init__(self, groups: _Groups) -> None:
        super().__init__()
        self.groups, self.used, self.width = groups, 0, groups.mask.shape[1]
        self.is_initialized: bool = False

    def _room(self, like: Tensor) -> Tensor:
        """(G, heads, columns, E), with columns for all tokens to come; `like` is (..., heads, T, E)."""
        groups, heads, _, size = len(self.groups.mask), *like.shape[-3:]
        return like.new_empty(groups, heads, self.width + self.groups.size * self.groups.steps, size)

    def take_prompts(self, first: int, lengths: Sequence[int], key: Tensor, value: Tensor) -> None:
        """Keys and values of prompts one after the other, (heads, T, E); the first of them is number `first`."""
        if not self.is_initialized:
            self._keys, self._values = self._room(key), self._room(value)
            for room in (self._keys, self._values):
                room[:, :, : self.width] = 0.0  # what a mask leaves out may not be NaN
            self.is_initialized = True
        for room, x in ((self._keys, key), (self._values, value)):
            for n, prompt in enumerate(x[:, : sum(lengths)].split(lengths, dim=1), first):
                own = slice(n * self.groups.per_prompt, (n + 1) * self.groups.per_prompt)
                room[own, :, self.width - prompt.shape[1] : self.width] = prompt

    @property
    def columns(self) -> int:
        return self.width + self.used * self.groups.size

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add one token to each response, (N, heads, 1, E); all keys and values, (G, heads, columns, E)."""
        self.add(key_states[:, :, 0], value_states[:, :, 0])
        return self._keys[:, :, : self.columns], self._values[:, :, : self.columns]

    def add(self, key: Tensor, value: Tensor) -> None:
        """Add one token to each response, (N, heads, E)."""
        new = slice(self.columns, self.columns + self.groups.size)
        self._keys[:, :, new] = self.groups.together(key)
        self._values[:, :, new] = self.groups.together(value)
        self.used += 1

    def attend(self, query: Tensor, scale: float) -> Tensor:
        """Attention of the responses' last tokens: query (N, heads, E) -> (N, heads x E)."""
        groups, columns = self.groups, self.columns
        key, value = self._keys[:, :, :columns], self._values[:, :, :columns]
        count, heads, size = query.shape
        shared = heads // key.shape[1]  # query heads of one key head
        # (G, key heads, responses x shared, E)
        together = groups.together((query * scale).view(count, key.shape[1], shared * size))
        together = together.reshape(*together.shape[:2], -1, size)
        scores = together @ key.mT
        scores.view(*scores.shape[:2], groups.size, shared, columns).add_(groups.added[..., :columns])
        weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
        out = (weights @ value).view(*scores.shape[:2], groups.size, -1)
        return groups.separate(out).reshape(count, -1)

    def get_seq_length(self) -> int:
        return self.width + self.used

    def select(self, kept: Tensor, slots: Tensor, old_size: int) -> None:
        """Groups `kept` (G,), with the responses that had the numbers `slots` (G, size)."""
        self._keys, self._values = (self._selected(x, kept, slots, old_size) for x in (self._keys, self._values))

    def _selected(self, x: Tensor, kept: Tensor, slots: Tensor, old_size: int) -> Tensor:
        prompt, own, _ = x.split([self.width, self.used * old_size, x.shape[2] - self.width - self.used * old_size], 2)
        tokens = own.unflatten(2, (self.used, old_size))[kept[:, None], :, :, slots]  # (G, size, heads, used, E)
        held = torch.cat([prompt[kept], tokens.permute(0, 2, 3, 1, 4).flatten(2, 3)], dim=2)
        room = self._room(held)
        room[:, :, : held.shape[2]] = held
        return room


@contextlib.contextmanager
def attending_in_groups(cache: GroupCache) -> Iterator[None]:
    """One new token of each response attends to its prompt and its own tokens, while the block lasts."""

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """query (N, heads, 1, E); key and value are all of the layer's -> (N, 1, heads, E)."""
        layer: Any = cache.layers[module.layer_idx]
        out: Tensor = layer.attend(query[:, :, 0], scale)
        return out.view(len(out), 1, query.shape[1], -1)

    with attending(attend):
        yield


@contextlib.contextmanager
def taking_prompts(
    model: PreTrainedModel, cache: GroupCache, first: int, lengths: list[int], read: Tensor
) -> Iterator[Tensor]:
    """A pass over one row of prompts of these lengths, one after the other, puts their keys and values into the cache
    while the block lasts; the first of them is number `first`. The last layer gives right hidden states where `read`,
    (1, T) bool, is True. Gives the mask that the model is called with.
    """
    with reading(model, read), attending_by_tree(model, [Tree(n, ()) for n in lengths], read.numel()) as mask:
        by_tree = replacement()
        assert by_tree is not None

        def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            layer: Any = cache.layers[module.layer_idx]
            layer.take_prompts(first, lengths, key[0], value[0])
            return by_tree(module, query, key, value, scale)

        with attending(attend):
            yield mask
