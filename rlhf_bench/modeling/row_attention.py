"""Attention of packed rows by a mask, as a small model on a CPU computes it, without queries that are not read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_bench.modeling.attention import adds_mask, attending, can_replace_attention, for_query_heads, no_mask
from rlhf_bench.modeling.kernels import product_dtype
from rlhf_bench.modeling.last_layer import queries_read
from rlhf_bench.modeling.tokens import ROUND_WIDTH


def can_attend_by_row(model: PreTrainedModel) -> bool:
    """Whether the model is on a CPU, adds its mask to the scores, and its attention can be replaced."""
    return model.device.type == "cpu" and adds_mask(model) and can_replace_attention(model)


@contextlib.contextmanager
def attending_by_row(model: PreTrainedModel, visible: Tensor) -> Iterator[Tensor]:
    """Attention of rows by a mask, (R, 1, W, W) bool, True where token i attends to token j, while the block lasts.
    Gives the mask that the backbone is called with, which nothing may read."""
    dtype = product_dtype(model.dtype, visible.device)
    added = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        read = queries_read(module)
        with torch.autocast(query.device.type, enabled=False):
            heads = query.shape[1]
            query, key, value = (for_query_heads(x.to(dtype), heads) for x in (query * scale, key, value))
            if read is None:
                return _attend(query, key, value, added)
            rows, width = added.shape[0], added.shape[-1]
            index, found = _by_row(read, rows, width)
            out = _attend(
                query.take_along_dim(index[:, None, :, None], 2), key, value,
                added.take_along_dim(index[:, None, :, None], 2),
            )  # fmt: skip
            whole = out.new_zeros(rows * width, *out.shape[2:])
            return whole.index_copy(0, read, out.flatten(0, 1)[found]).view(rows, width, *out.shape[2:])

    with attending(attend):
        yield no_mask(model)


def _attend(query: Tensor, key: Tensor, value: Tensor, added: Tensor) -> Tensor:
    """Query (R, heads, T, E), scaled, key and value (R, heads, T', E), mask (R, 1, T, T') -> (R, T, heads, E)."""
    scores = (query @ key.mT).add_(added)
    return (scores.softmax(-1) @ value).transpose(1, 2)


def _by_row(places: Tensor, rows: int, width: int) -> tuple[Tensor, Tensor]:
    """Places in the flattened rows, in their order, as columns of each row, filled up to one number: (rows, n); and
    where each is among the columns, flattened."""
    row = places // width
    counts = torch.bincount(row, minlength=rows)
    number = torch.arange(len(places), device=places.device) - (counts.cumsum(0) - counts)[row]
    most = min(width, -(-int(counts.max()) // ROUND_WIDTH) * ROUND_WIDTH)  # few distinct shapes
    found = row * most + number
    columns = torch.zeros(rows * most, dtype=torch.long, device=places.device).index_copy_(0, found, places % width)
    return columns.view(rows, most), found
