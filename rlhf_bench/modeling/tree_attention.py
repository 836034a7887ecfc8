"""Attention of packed rows tree by tree, on a CPU.

A mask over a whole packed row costs as much as if every token attended to every other one. Here each tree is a few
small matrix products with a mask of its own. For a large model they are faster than fused attention, in bfloat16
several times; the scores of a long tree would take much memory, so that such a tree keeps fused attention.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_bench.modeling.attention import attending, can_replace_attention, no_mask
from rlhf_bench.modeling.kernels import product_dtype
from rlhf_bench.modeling.packed import is_large

LONG = 512  # tokens of a tree from which attention is fused
CALLS = 2_000  # attention over so many pairs of tokens takes as long as the calls for one tree, in a small model


class Tree(NamedTuple):
    """A prompt and its responses, one after the other."""

    prompt: int  # tokens; may be 0
    responses: tuple[int, ...]  # tokens of each

    @property
    def size(self) -> int:
        return self.prompt + sum(self.responses)

    def masked(self) -> Tensor:
        """(n, n) bool: True where token i may not attend to token j, which comes later or is another response's."""
        of = torch.repeat_interleave(torch.tensor((self.prompt, *self.responses)))  # 0 the prompt, then each response
        return ((of[None] != 0) & (of[None] != of[:, None])) | torch.ones(len(of), len(of), dtype=torch.bool).triu_(1)


def cost_of_tree(model: PreTrainedModel) -> int | None:
    """What attention tree by tree costs beside its products, in pairs of tokens a tree; None where it cannot be.

    It can on a CPU where the model's attention can be replaced. For a small model in low precision it does not pay:
    trees come in ever new shapes.
    """
    small_and_low = not is_large(model) and product_dtype(model.dtype, model.device) != torch.float32
    if model.device.type != "cpu" or small_and_low or not can_replace_attention(model):
        return None
    return 0 if is_large(model) else CALLS


@contextlib.contextmanager
def attending_by_tree(model: PreTrainedModel, trees: Sequence[Tree], tokens: int) -> Iterator[Tensor]:
    """Attention tree by tree over one row of so many tokens while the block lasts; tokens after the last tree are
    padding, and attend to themselves. Gives the mask that the backbone is called with, which nothing may read."""
    dtype = product_dtype(model.dtype, model.device)
    sizes = [tree.size for tree in trees]
    masked = [tree.masked() for tree in trees]
    if sum(sizes) < tokens:
        sizes.append(tokens - sum(sizes))
        masked.append(~torch.eye(sizes[-1], dtype=torch.bool))
    masks = [torch.zeros(x.shape, dtype=dtype).masked_fill_(x, torch.finfo(dtype).min) for x in masked]

    def attend(_: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            sides = [x[0].to(dtype).split(sizes, dim=1) for x in (query * scale, key, value)]
            parts = [_attend_one(q, k, v, mask) for q, k, v, mask in zip(*sides, masks, strict=True)]
        return torch.cat(parts, dim=1).transpose(0, 1)[None]

    with attending(attend):
        yield no_mask(model)


def _attend_one(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """One tree of n tokens: query (heads, n, E), scaled; key and value (key heads, n, E) -> (heads, n, E)."""
    heads, n, size = query.shape
    shared = heads // len(key)  # query heads that share a key head
    if n >= LONG:
        key, value = (x.repeat_interleave(shared, dim=0) for x in (key, value))
        out = F.scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=mask, scale=1.0)
        return out[0]
    scores = query.reshape(len(key), shared * n, size) @ key.mT
    weights = (scores.view(len(key), shared, n, n) + mask).softmax(-1)
    return (weights.view(len(key), shared * n, n) @ value).reshape(heads, n, -1)
