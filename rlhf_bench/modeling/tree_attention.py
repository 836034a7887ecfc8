"""Attention of packed rows tree by tree, on a CPU.

A mask over a whole packed row costs as much as if every token attended to every other one. Here each tree is a few
small matrix products: its tokens meet the prompt's keys in one, and responses of one length meet their own keys in
another, so that what responses would see of each other is not computed. For a large model that is faster than fused
attention, in bfloat16 several times; the scores of a long tree would take much memory, so that such a tree keeps fused
attention.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from rlhf_bench.modeling.attention import attending, can_replace_attention, no_mask
from rlhf_bench.modeling.kernels import product_dtype
from rlhf_bench.modeling.packed import is_large

LONG = 512  # tokens of a tree from which attention is fused, unless it is in parts
LARGEST = 1 << 20  # scores of one head of a tree in parts, at most
CALLS = 2_000  # pairs of tokens whose attention takes as long as the calls for one tree, in a small model
PART = 1_400  # the same for the calls for responses of one length beside their prompt


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
    def runs(self) -> list[tuple[int, int]]:
        """Responses of one length, one after the other: how many, and their length."""
        return [(len(list(some)), length) for length, some in itertools.groupby(self.responses)]

    @property
    def in_parts(self) -> bool:
        """Whether it is cheaper to leave out what responses would see of each other than to mask it, and not too
        large."""
        spared = self.size * (self.size - self.width)
        return spared > PART * len(self.runs) and self.size * self.width <= LARGEST

    @property
    def pairs(self) -> int:
        """Scores of one head: of each token for the prompt and the longest response, or for every token."""
        return self.size * (self.width if self.in_parts else self.size)

    @property
    def is_fused(self) -> bool:
        return self.size >= LONG and not self.in_parts

    def masked(self) -> Tensor:
        """(n, n) bool: True where token i may not attend to token j, which comes later or is another response's."""
        of = torch.repeat_interleave(torch.tensor((self.prompt, *self.responses)))  # 0 the prompt, then each response
        return ((of[None] != 0) & (of[None] != of[:, None])) | torch.ones(len(of), len(of), dtype=torch.bool).triu_(1)


class _Part(NamedTuple):
    """Tokens of a tree that meet some of its keys, in one product: as one block, or as several of one length, each of
    which meets its own keys."""

    rows: slice
    keys: slice
    columns: slice  # of the tree's scores, where these are
    mask: Tensor  # (rows of a block, keys of a block), added to them
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


class _Plan(NamedTuple):
    """Which tokens of one tree meet."""

    length: int  # tokens of the tree
    width: int  # columns of its scores
    parts: list[_Part]  # the first has all of its tokens


def cost_of_tree(model: PreTrainedModel) -> int | None:
    """What attention tree by tree costs beside its products, in pairs of tokens a tree; None where it cannot be.

    It can on a CPU where the model's attention can be replaced. For a small model in low precision it does not pay:
    trees come in ever new shapes.
    """
    large = is_large(model)
    small_and_low = not large and product_dtype(model.dtype, model.device) != torch.float32
    if model.device.type != "cpu" or small_and_low or not can_replace_attention(model):
        return None
    return 0 if large else CALLS


@contextlib.contextmanager
def attending_by_tree(model: PreTrainedModel, trees: Sequence[Tree], tokens: int) -> Iterator[Tensor]:
    """Attention tree by tree over one row of so many tokens while the block lasts; tokens after the last tree are
    padding, and attend to themselves. Gives the mask that the backbone is called with, which nothing may read."""
    dtype = product_dtype(model.dtype, model.device)
    runs = _runs(trees, tokens, dtype)
    lengths = [length for length, _ in runs]

    def attend(_: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        with _as_they_are(query):
            sides = [x[0].to(dtype) for x in (query * scale, key, value)]
            shared = len(sides[0]) // len(sides[1])  # query heads that share a key head
            if shared > 1:
                sides[1:] = [x.repeat_interleave(shared, dim=0) for x in sides[1:]]
            split = zip(*(x.split(lengths, dim=1) for x in sides), strict=True)
            parts = [_attend(q, k, v, how) for (q, k, v), (_, how) in zip(split, runs, strict=True)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[None]

    with attending(attend):
        yield no_mask(model)


def _runs(trees: Sequence[Tree], tokens: int, dtype: torch.dtype) -> list[tuple[int, list[_Plan] | Tensor]]:
    """Trees that are side by side, and how they attend: by plans, or a long one alone, by its mask. Each run with its
    number of tokens."""
    runs: list[tuple[int, list[_Plan] | Tensor]] = []
    for is_long, some in itertools.groupby(trees, key=lambda tree: tree.is_fused):
        if is_long:
            runs += [(tree.size, _additive(tree.masked(), dtype)) for tree in some]
        else:
            plans = [_plan(tree, dtype) for tree in some]
            runs.append((sum(plan.length for plan in plans), plans))
    padding = tokens - sum(tree.size for tree in trees)
    if padding:
        runs.append((padding, [_whole(~torch.eye(padding, dtype=torch.bool), dtype)]))
    return runs


def _plan(tree: Tree, dtype: torch.dtype) -> _Plan:
    if not tree.in_parts:
        return _whole(tree.masked(), dtype)
    n, head, longest = tree.size, tree.prompt, max(tree.responses)
    causal = _additive(torch.ones(n, max(head, longest), dtype=torch.bool).triu_(1), dtype)
    parts = [_Part(slice(0, n), slice(0, head), slice(0, head), causal[:n, :head])]
    first = head
    for count, length in tree.runs:
        rows = slice(first, first + count * length)
        parts.append(_Part(rows, rows, slice(head, head + length), causal[:length, :length], count))
        first = rows.stop
    return _Plan(n, head + longest, parts)


def _whole(masked: Tensor, dtype: torch.dtype) -> _Plan:
    """All tokens meet all, with a mask. (n, n) bool: True where one may not attend to another."""
    every = slice(0, len(masked))
    return _Plan(len(masked), len(masked), [_Part(every, every, every, _additive(masked, dtype))])


def _additive(masked: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(masked.shape, dtype=dtype).masked_fill_(masked, -torch.inf)


def _attend(query: Tensor, key: Tensor, value: Tensor, how: list[_Plan] | Tensor) -> Tensor:
    """Query (heads, T, E), scaled, key and value (heads, T, E) -> (T, heads, E)."""
    if isinstance(how, Tensor):
        out = F.scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=how, scale=1.0)
        return out[0].transpose(0, 1)
    found: Tensor = _InParts.apply(query, key, value, how)  # type: ignore[no-untyped-call]
    return found


def _as_they_are(tensor: Tensor) -> torch.autocast:
    """Products in the precision that their factors have."""
    return torch.autocast(tensor.device.type, enabled=False)


class _InParts(torch.autograd.Function):
    """softmax(Q K^T + mask) V of each tree, with the scores that its parts have.

    Backward, with P the softmax and G the gradient of the result: dV = P^T G, dP = G V^T,
    dS = P (dP - sum of P dP over a row), dQ = dS K, dK = dS^T Q.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, plans: list[_Plan]) -> Tensor:
        heads, tokens, _ = query.shape
        out = value.new_empty(tokens, heads, value.shape[-1])
        weights = []
        for plan, q, k, v, o in _by_tree(plans, query, key, value, out.transpose(0, 1)):
            p = _scores(q, k, plan).softmax(-1)
            _multiply(o, p, v, plan)
            weights.append(p)
        ctx.plans = plans
        ctx.save_for_backward(query, key, value, *(weights if any(ctx.needs_input_grad) else []))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        query, key, value, *weights = ctx.saved_tensors
        sides = (query, key, value, grads[0].transpose(0, 1))
        found = [torch.empty_like(x) for x in (query, key, value)]
        with _as_they_are(query):
            for p, (plan, q, k, v, g, dq, dk, dv) in zip(weights, _by_tree(ctx.plans, *sides, *found), strict=True):
                _multiply_transposed(dv, p, g, plan)
                ds = torch._softmax_backward_data(_products(g, v, plan, 0.0), p, -1, p.dtype)
                _multiply(dq, ds, k, plan)
                _multiply_transposed(dk, ds, q, plan)
        return *found, None


def _by_tree(plans: list[_Plan], *sides: Tensor) -> Iterator[tuple[Any, ...]]:
    """Each plan with its tree's tokens of all sides, (heads, T, E)."""
    lengths = [plan.length for plan in plans]
    return zip(plans, *(side.split(lengths, dim=1) for side in sides), strict=True)


# Of one tree: tokens x, y (heads, n, E), scores (heads, n, width). A tree of one part needs no slices.


def _scores(query: Tensor, key: Tensor, plan: _Plan) -> Tensor:
    if len(plan.parts) == 1:
        return torch.baddbmm(plan.parts[0].mask, query, key.mT)
    scores = _products(query, key, plan, -torch.inf)
    for part in plan.parts:
        part.by_block(scores[:, part.rows, part.columns]).add_(part.mask)
    return scores


def _products(x: Tensor, y: Tensor, plan: _Plan, elsewhere: float) -> Tensor:
    """The products of tokens that meet. (heads, n, width)"""
    if len(plan.parts) == 1:
        return torch.bmm(x, y.mT)
    products = x.new_full((*x.shape[:2], plan.width), elsewhere)
    for part in plan.parts:
        found = torch.bmm(part.of(x, part.rows), part.of(y, part.keys).mT)
        products[:, part.rows, part.columns] = part.together(found)
    return products


def _multiply(out: Tensor, scores: Tensor, y: Tensor, plan: _Plan) -> None:
    """Each token's sum of y over the tokens that it meets."""
    first, *others = plan.parts  # the first has all rows
    out.copy_(torch.bmm(scores[:, :, first.columns], y[:, first.keys]) if others else torch.bmm(scores, y))
    for part in others:
        found = torch.bmm(part.of(scores[:, :, part.columns], part.rows), part.of(y, part.keys))
        out[:, part.rows] += part.together(found)


def _multiply_transposed(out: Tensor, scores: Tensor, x: Tensor, plan: _Plan) -> None:
    """Each token's sum of x over the tokens that meet it."""
    if len(plan.parts) == 1:
        out.copy_(torch.bmm(scores.mT, x))
        return
    for part in plan.parts:
        found = torch.bmm(part.of(scores[:, :, part.columns], part.rows).mT, part.of(x, part.rows))
        out[:, part.keys] = part.together(found)
