"""Which tokens meet in the attention of packed rows: tree by tree, with a mask or in parts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]
KEPT = 512  # tokens of the causal mask that is made once

LONG = 512  # attention of a tree is fused from LONG x LONG scores of a head on, unless it is in parts
LARGEST = 1 << 20  # scores of one head of a tree in parts, at most
CALLS = 2_000  # pairs of tokens whose attention takes as long as the calls for one tree, in a small model
PART = 1_400  # the same for the calls for responses of one length beside their prompt
CALLS_IN_LOW_PRECISION = 20_000  # CALLS where the attention of rows is in low precision, and that of trees is not


class Tree(NamedTuple):
    """A prompt and its responses, one after the other."""

    prompt: int  # tokens; may be 0
    responses: tuple[int, ...]  # tokens of each

    @property
    def size(self) -> int:
        return self.prompt + sum(self.responses)

    @property
    def width(self) -> int:
        """Tokens that a token sees at most."""
        return self.prompt + max(self.responses, default=0)

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """Responses of one length, one after the other: how many, and their length."""
        return [(len(list(some)), length) for length, some in itertools.groupby(self.responses)]

    @property
    def in_parts(self) -> bool:
        """Whether it is cheaper to leave out what responses would see of each other than to mask it, and not too
        large."""
        spared = self.size * (self.size - self.width)
        return spared > PART * len(self.lengths) and self.size * self.width <= LARGEST

    @property
    def pairs(self) -> int:
        """Scores of one head: of each token for the prompt and the longest response, or for every token."""
        return self.size * (self.width if self.in_parts else self.size)

    def is_fused(self, queries: int) -> bool:
        """Whether the scores of so many of its tokens for all of them are too many to hold."""
        return queries * self.size >= LONG**2 and not self.in_parts

    def mask(self, queries: slice | Ints, dtype: torch.dtype) -> Tensor:
        """(queries, n), to be added to the scores: -inf where token i may not attend to token j, which comes later or
        is another response's."""
        if len(self.responses) < 2 and isinstance(queries, slice):
            return _causal(queries.start, queries.stop, self.size, dtype)
        lengths = np.array((self.prompt, *self.responses))
        first = np.repeat(lengths.cumsum() - lengths, lengths)[queries, None]  # of the token's prompt or response
        column = np.arange(self.size)
        hidden = (column > column[queries, None]) | ((column >= self.prompt) & (column < first))
        return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(torch.from_numpy(hidden), -torch.inf)


class Part(NamedTuple):
    """Queries of a tree that meet some of its keys, in one product: as one block, or as several of one length, each of
    which meets its own keys."""

    queries: slice
    keys: slice
    columns: slice  # of the tree's scores, where these are
    masked: slice  # the queries, or those of them with keys that they may not see
    mask: Tensor  # (masked queries of a block, keys of a block), added to their scores
    blocks: int = 1

    def of(self, x: Tensor, tokens: slice) -> Tensor:
        """Some tokens of x by block: (heads, n, m) -> (heads x blocks, n' / blocks, m)."""
        return self.by_block(x[:, tokens]).flatten(0, 1) if self.blocks > 1 else x[:, tokens]

    def together(self, x: Tensor) -> Tensor:
        """(heads x blocks, n, m) -> (heads, blocks x n, m)."""
        heads = len(x) // self.blocks
        return x.view(heads, self.blocks * x.shape[1], x.shape[2]) if self.blocks > 1 else x

    def by_block(self, x: Tensor) -> Tensor:
        """(heads, n', m) -> (heads, blocks, n' / blocks, m), of the same memory."""
        blocks: Tensor = x.unflatten(1, (self.blocks, -1))
        return blocks


class TreePlan(NamedTuple):
    """Which tokens of one tree meet."""

    queries: int
    keys: int  # tokens of the tree
    width: int  # columns of its scores
    parts: list[Part]  # the first has all of its queries


class TreeRun(NamedTuple):
    """Trees that are side by side, and how they attend: by plans, or a large one alone, by its mask."""

    queries: int
    keys: int
    how: list[TreePlan] | Tensor


def queries_of(trees: Sequence[Tree], read: Tensor) -> tuple[list[Ints], Tensor]:
    """The tokens of each tree that attend where those of `read` do, (N,) places in the row of all trees in their order:
    these, and where a tree in parts is cheaper so, all from the first of them. And all of them as places in the row."""
    places = read.numpy()
    sizes = [tree.size for tree in trees]
    ends = np.cumsum(sizes)
    starts = ends - sizes
    found = []
    for tree, some, start in zip(trees, np.split(places, np.searchsorted(places, ends[:-1])), starts, strict=True):
        own = some - start
        if tree.in_parts and len(own):
            first = min(int(own[0]), tree.prompt)
            if len(own) * tree.size > (tree.size - first) * tree.width:
                own = np.arange(first, tree.size)
        found.append(own)
    return found, torch.from_numpy(np.concatenate([own + start for own, start in zip(found, starts, strict=True)]))


def runs_of(trees: Sequence[Tree], dtype: torch.dtype, queries: Sequence[Ints] | None = None) -> list[TreeRun]:
    """How the trees of one row attend: all of their tokens, or `queries` of each, to all that these may see."""
    runs = list[TreeRun]()
    for tree, some in zip(trees, queries or itertools.repeat(None, len(trees)), strict=True):
        count = tree.size if some is None else len(some)
        own = slice(0, tree.size) if some is None else _as_slice(some)
        if tree.is_fused(count):
            runs.append(TreeRun(count, tree.size, tree.mask(own, dtype)))
            continue
        plan = _plan(tree, own, count, dtype)
        if runs and isinstance(runs[-1].how, list):
            before = runs.pop()
            runs.append(TreeRun(before.queries + count, before.keys + tree.size, [*before.how, plan]))
        else:
            runs.append(TreeRun(count, tree.size, [plan]))
    return runs


def _as_slice(places: Ints) -> slice | Ints:
    """Places that are side by side as a slice."""
    if len(places) and places[-1] - places[0] == len(places) - 1:
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


def _plan(tree: Tree, queries: slice | Ints, count: int, dtype: torch.dtype) -> TreePlan:
    n, head = tree.size, tree.prompt
    if not (tree.in_parts and isinstance(queries, slice) and queries.start <= head and queries.stop == n):
        every = slice(0, count)
        return TreePlan(count, n, n, [Part(every, slice(0, n), slice(0, n), every, tree.mask(queries, dtype))])
    start = queries.start
    of_prompt = slice(0, head - start)  # a response sees all of the prompt
    parts = [Part(slice(0, count), slice(0, head), slice(0, head), of_prompt, _causal(start, head, head, dtype))]
    first = head
    for some, length in tree.lengths:
        own, keys = slice(first - start, first - start + some * length), slice(first, first + some * length)
        parts.append(Part(own, keys, slice(head, head + length), own, _causal(0, length, length, dtype), some))
        first = keys.stop
    return TreePlan(count, n, tree.width, parts)


def _causal(start: int, stop: int, size: int, dtype: torch.dtype) -> Tensor:
    """(stop - start, size), to be added to scores of tokens start to stop: -inf where token j comes after token i."""
    if size <= KEPT:
        return _kept_causal(dtype)[start:stop, :size]
    return torch.full((stop - start, size), -torch.inf, dtype=dtype).triu_(start + 1)


@lru_cache
@torch.inference_mode(False)  # training reads it, too
def _kept_causal(dtype: torch.dtype) -> Tensor:
    return torch.full((KEPT, KEPT), -torch.inf, dtype=dtype).triu_(1)
