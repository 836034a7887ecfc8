"""Attention of packed rows tree by tree, for a large model on a CPU.

A mask over a whole packed row costs as much as if every token attended to every other one. Here each tree is a few
small matrix products with a mask of its own. They are faster than fused attention, and in bfloat16 several times so;
the scores of a long tree would take much memory, so that such a tree keeps fused attention.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from rlhf_bench.modeling.kernels import product_dtype
from rlhf_bench.modeling.last_layer import recomputes_layers
from rlhf_bench.modeling.packed import is_large
from rlhf_bench.modeling.sampling_groups import PLAIN

NAME = "rlhf_bench_trees"  # of the attention, in transformers' registry
LONG = 512  # tokens of a tree from which attention is fused


class _Trees(NamedTuple):
    sizes: Sequence[int]  # tokens of each tree, in the order of the flattened rows
    masks: list[Tensor]  # of each tree, (n, n): added to the scores


_trees: ContextVar[_Trees] = ContextVar("_trees")


def attends_by_tree(model: PreTrainedModel) -> bool:
    """Whether it pays: for a large model on a CPU with fused attention.

    It cannot with gradient checkpointing, which computes layers again when `attending_by_tree` is over.
    """
    return model.config._attn_implementation == "sdpa" and is_large(model) and not recomputes_layers(model)


@contextlib.contextmanager
def attending_by_tree(model: PreTrainedModel, visible: Tensor, sizes: Sequence[int]) -> Iterator[None]:
    """Attention tree by tree while the block lasts.

    visible (R, 1, W, W) is the mask of the rows, sizes are tokens of consecutive trees of the flattened rows.
    """
    config = cast(Any, model.config)
    dtype = product_dtype(model.dtype, visible.device)
    masks, at, width = [], 0, visible.shape[-1]
    for size in sizes:
        row, start = divmod(at, width)
        seen = visible[row, 0, start : start + size, start : start + size]
        masks.append(torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min))
        at += size
    token, config._attn_implementation = _trees.set(_Trees(sizes, masks)), NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
        _trees.reset(token)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    scaling: float | None = None, dropout: float = 0.0, **more: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """query (R, heads, W, E), key and value (R, key heads, W, E) -> (R, W, heads, E).

    An architecture that wants more than plain attention gets fused attention and the mask of the rows.
    """
    if any(given is not None and name not in PLAIN for name, given in more.items()):
        fused = AttentionInterface()["sdpa"]
        return fused(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more)  # type: ignore[no-any-return]
    trees, (rows, heads, width, size) = _trees.get(), query.shape
    scale = size**-0.5 if scaling is None else scaling
    dtype = product_dtype(query.dtype, query.device)
    with torch.autocast(query.device.type, enabled=False):
        sides = [
            x.to(dtype).transpose(1, 2).flatten(0, 1).transpose(0, 1).split(list(trees.sizes), dim=1)
            for x in (query * scale, key, value)
        ]
        parts = [_attend_one(q, k, v, mask, dropout) for q, k, v, mask in zip(*sides, trees.masks, strict=True)]
    return torch.cat(parts, dim=1).transpose(0, 1).reshape(rows, width, heads, size), None


def _attend_one(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float) -> Tensor:
    """One tree of n tokens: query (heads, n, E), scaled; key and value (key heads, n, E) -> (heads, n, E)."""
    heads, n, size = query.shape
    shared = heads // len(key)  # query heads that share a key head
    if n >= LONG:
        key, value = (x.repeat_interleave(shared, dim=0) for x in (key, value))
        out = F.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=mask, dropout_p=dropout, scale=1.0
        )
        return out[0]
    scores = query.reshape(len(key), shared * n, size) @ key.mT
    weights = (scores.view(len(key), shared, n, n) + mask).softmax(-1)
    weights = F.dropout(weights, dropout) if dropout else weights
    return (weights.view(len(key), shared * n, n) @ value).reshape(heads, n, size)


AttentionInterface.register(NAME, _attend)
