"""Attention of packed rows tree by tree, on a CPU.

A mask over a whole packed row costs as much as if every token attended to every other one. Here each tree is a few
small matrix products: its tokens meet the prompt's keys in one, and responses of one length meet their own keys in
another, so that what responses would see of each other is not computed. For a large model that is faster than fused
attention, in bfloat16 several times; the scores of a long tree would take much memory, so that such a tree keeps fused
attention.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from rlhf_bench.modeling.attention import attending, can_replace_attention, for_query_heads, no_mask
from rlhf_bench.modeling.chunked_logps import wide
from rlhf_bench.modeling.kernels import product_dtype
from rlhf_bench.modeling.last_layer import queries_read
from rlhf_bench.modeling.packed import is_large
from rlhf_bench.modeling.tree_plans import CALLS, CALLS_IN_LOW_PRECISION, Tree, TreePlan, TreeRun, queries_of, runs_of


def cost_of_tree(model: PreTrainedModel) -> int | None:
    """What attention tree by tree costs beside its products, in pairs of tokens a tree; None where it cannot be.

    It can on a CPU where the model's attention can be replaced.
    """
    if model.device.type != "cpu" or not can_replace_attention(model):
        return None
    if is_large(model):
        return 0
    return CALLS if product_dtype(model.dtype, model.device) == torch.float32 else CALLS_IN_LOW_PRECISION


def _dtype(model: PreTrainedModel) -> torch.dtype:
    """The precision of attention's products. Those of a small model are too small to be faster in low precision, where
    each shape that is new costs more than a product."""
    dtype = product_dtype(model.dtype, model.device)
    return dtype if is_large(model) else wide(dtype)


@contextlib.contextmanager
def attending_by_tree(model: PreTrainedModel, trees: Sequence[Tree], tokens: int) -> Iterator[Tensor]:
    """Attention tree by tree over one row of so many tokens while the block lasts; tokens after the last tree are
    padding, a tree of its own. Gives the mask that the backbone is called with, which nothing may read."""
    dtype = _dtype(model)
    padding = tokens - sum(tree.size for tree in trees)
    trees = [*trees, Tree(padding, ())] if padding else trees
    all_of_them = runs_of(trees, dtype)

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        read = queries_read(module)
        if read is None:
            return _together(query[0] * scale, key[0], value[0], all_of_them, dtype)[None]
        queries, places = queries_of(trees, read)
        some = query[0].index_select(1, places) * scale
        out = _together(some, key[0], value[0], runs_of(trees, dtype, queries), dtype)
        return out.new_zeros(tokens, *out.shape[1:]).index_copy(0, places, out)[None]

    with attending(attend):
        yield no_mask(model)


def _together(query: Tensor, key: Tensor, value: Tensor, runs: Sequence[TreeRun], dtype: torch.dtype) -> Tensor:
    """Attention of all runs: query (heads, T, E), scaled, key and value (key heads, T', E) -> (T, heads, E)."""
    heads, given = len(query), value.dtype
    with _as_they_are(query):
        query, key, value = (for_query_heads(x.to(dtype), heads) for x in (query, key, value))
        if len(runs) == 1:
            return _attend(query, key, value, runs[0].how).to(given)
        queries, keys = [run.queries for run in runs], [run.keys for run in runs]
        split = zip(runs, query.split(queries, 1), key.split(keys, 1), value.split(keys, 1), strict=True)
        return torch.cat([_attend(q, k, v, run.how) for run, q, k, v in split]).to(given)


def _attend(query: Tensor, key: Tensor, value: Tensor, how: list[TreePlan] | Tensor) -> Tensor:
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
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, plans: list[TreePlan]) -> Tensor:
        heads, count, _ = query.shape
        out = value.new_empty(count, heads, value.shape[-1])
        weights = []
        of_queries, of_keys = _by_tree(plans, query, out.transpose(0, 1)), _by_tree(plans, key, value, of_keys=True)
        for plan, (q, o), (k, v) in zip(plans, of_queries, of_keys, strict=True):
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
        found = dquery, dkey, dvalue = [torch.empty_like(x) for x in (query, key, value)]
        of_queries = _by_tree(ctx.plans, query, grads[0].transpose(0, 1), dquery)
        of_keys = _by_tree(ctx.plans, key, value, dkey, dvalue, of_keys=True)
        with _as_they_are(query):
            for plan, p, (q, g, dq), (k, v, dk, dv) in zip(ctx.plans, weights, of_queries, of_keys, strict=True):
                _multiply_transposed(dv, p, g, plan)
                ds = torch._softmax_backward_data(_products(g, v, plan, 0.0), p, -1, p.dtype)
                _multiply(dq, ds, k, plan)
                _multiply_transposed(dk, ds, q, plan)
        return *found, None


def _by_tree(plans: Sequence[TreePlan], *sides: Tensor, of_keys: bool = False) -> Iterator[tuple[Tensor, ...]]:
    """Each tree's queries, or keys, of all sides, (heads, T, E)."""
    counts = [plan.keys if of_keys else plan.queries for plan in plans]
    return zip(*(side.split(counts, dim=1) for side in sides), strict=True)


# Of one tree: queries x (heads, n, E), keys y (heads, n', E), scores (heads, n, width). A tree of one part needs no
# slices.


def _scores(query: Tensor, key: Tensor, plan: TreePlan) -> Tensor:
    if len(plan.parts) == 1:
        return torch.baddbmm(plan.parts[0].mask, query, key.mT)
    scores = _products(query, key, plan, -torch.inf)
    for part in plan.parts:
        part.by_block(scores[:, part.masked, part.columns]).add_(part.mask)
    return scores


def _products(x: Tensor, y: Tensor, plan: TreePlan, elsewhere: float) -> Tensor:
    """The products of queries and keys that meet. (heads, n, width)"""
    if len(plan.parts) == 1:
        return torch.bmm(x, y.mT)
    products = x.new_full((*x.shape[:2], plan.width), elsewhere)
    for part in plan.parts:
        found = torch.bmm(part.of(x, part.queries), part.of(y, part.keys).mT)
        products[:, part.queries, part.columns] = part.together(found)
    return products


def _multiply(out: Tensor, scores: Tensor, y: Tensor, plan: TreePlan) -> None:
    """Each query's sum of y over the keys that it meets."""
    first, *others = plan.parts  # the first has all queries
    out.copy_(torch.bmm(scores[:, :, first.columns], y[:, first.keys]) if others else torch.bmm(scores, y))
    for part in others:
        found = torch.bmm(part.of(scores[:, :, part.columns], part.queries), part.of(y, part.keys))
        out[:, part.queries] += part.together(found)


def _multiply_transposed(out: Tensor, scores: Tensor, x: Tensor, plan: TreePlan) -> None:
    """Each key's sum of x over the queries that meet it."""
    if len(plan.parts) == 1:
        out.copy_(torch.bmm(scores.mT, x))
        return
    for part in plan.parts:
        found = torch.bmm(part.of(scores[:, :, part.columns], part.queries).mT, part.of(x, part.queries))
        out[:, part.keys] = part.together(found)
