"""Attention of packed rows tree by tree, on a CPU.

A mask over a whole packed row costs as much as if every token attended to every other one. Here each tree is a few
small matrix products with a mask of its own. For a large model they are faster than fused attention, in bfloat16
several times; the scores of a long tree would take much memory, so that such a tree keeps fused attention.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from rlhf_bench.modeling.heads import backbone_of, first_position
from rlhf_bench.modeling.kernels import product_dtype
from rlhf_bench.modeling.last_layer import recomputes_layers
from rlhf_bench.modeling.packed import is_large
from rlhf_bench.modeling.sampling_groups import PLAIN

EXTENDED = {"eager": "rlhf_bench_trees", "sdpa": "rlhf_bench_trees_sdpa"}  # names in transformers' registry
LONG = 512  # tokens of a tree from which attention is fused
CALLS = 2_000  # what the calls for one tree of a small model take, in pairs of tokens

Attention = Callable[..., tuple[Tensor, Any]]


class Tree(NamedTuple):
    """A prompt and its responses, one after the other."""

    prompt: int  # tokens; may be 0
    responses: tuple[int, ...]  # tokens of each

    @property
    def size(self) -> int:
        return self.prompt + sum(self.responses)

    def hidden(self) -> Tensor:
        """(n, n) bool: True where token i may not attend to token j, which comes later or is another response's."""
        of = torch.repeat_interleave(torch.tensor((self.prompt, *self.responses)))  # 0 the prompt, then each response
        return ((of[None] != 0) & (of[None] != of[:, None])) | torch.ones(len(of), len(of), dtype=torch.bool).triu_(1)


class _Trees(NamedTuple):
    sizes: list[int]  # tokens of each tree, in the order of the row
    masks: list[Tensor]  # of each tree, (n, n): added to the scores


_trees: ContextVar[_Trees | None] = ContextVar("_trees", default=None)
_known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # backbone -> whether it can
_lock = threading.Lock()


def cost_of_tree(model: PreTrainedModel) -> int | None:
    """What attention tree by tree costs beside its products, in pairs of tokens a tree; None where it cannot be.

    It can on a CPU where the architecture attends as transformers' plain attention does: tried once, on a small tree.
    It cannot with gradient checkpointing, which computes layers again when `attending_by_tree` is over. For a small
    model in low precision it does not pay: trees come in ever new shapes.
    """
    small_and_low = not is_large(model) and product_dtype(model.dtype, model.device) != torch.float32
    if model.device.type != "cpu" or recomputes_layers(model) or small_and_low:
        return None
    backbone = backbone_of(model)
    with _lock:
        if backbone not in _known:
            _known[backbone] = _extend(backbone)
        if not _known[backbone]:
            return None
    return 0 if is_large(model) else CALLS


def adds_mask(model: PreTrainedModel) -> bool:
    """Whether the model's attention adds its mask to the scores, in place of reading True and False."""
    return model.config.get_text_config()._attn_implementation in ("eager", EXTENDED["eager"])


@contextlib.contextmanager
def attending_by_tree(model: PreTrainedModel, trees: Sequence[Tree], tokens: int) -> Iterator[Tensor]:
    """Attention tree by tree over one row of so many tokens while the block lasts; tokens after the last tree are
    padding, and attend to themselves. Gives the mask that the backbone is called with, which says nothing."""
    dtype = product_dtype(model.dtype, model.device)
    sizes = [tree.size for tree in trees]
    hidden = [tree.hidden() for tree in trees]
    if sum(sizes) < tokens:
        sizes.append(tokens - sum(sizes))
        hidden.append(~torch.eye(sizes[-1], dtype=torch.bool))
    masks = [torch.zeros(x.shape, dtype=dtype).masked_fill_(x, torch.finfo(dtype).min) for x in hidden]
    token = _trees.set(_Trees(sizes, masks))
    try:
        yield torch.zeros(1, 1, 1, 1, dtype=dtype)  # transformers passes a mask of four dimensions on as it is
    finally:
        _trees.reset(token)


@torch.no_grad()
def _extend(backbone: Any) -> bool:
    """Give the backbone attention that knows trees and is else its own; undone where its results differ."""
    config = cast(Any, backbone.config).get_text_config()
    before = config._attn_implementation
    if before in EXTENDED.values():  # of a copy
        return True
    if before not in EXTENDED:
        return False
    ids = torch.tensor([[1, 2, 3, 4, 3]])
    positions = torch.tensor([[0, 1, 2, 3, 2]]) + first_position(backbone)
    tree = Tree(2, (2, 1))
    options = {"input_ids": ids, "position_ids": positions, "use_cache": False}
    mask = torch.zeros(5, 5, dtype=backbone.dtype).masked_fill_(tree.hidden(), torch.finfo(backbone.dtype).min)
    with torch.autocast("cpu", enabled=False):
        try:
            expected = [backbone(**options, attention_mask=m).last_hidden_state for m in (mask[None, None], None)]
            config._attn_implementation = EXTENDED[before]
            with attending_by_tree(backbone, [tree], 5) as nothing:
                found = [backbone(**options, attention_mask=nothing).last_hidden_state]
            found.append(backbone(**options, attention_mask=None).last_hidden_state)
        except (ValueError, TypeError, RuntimeError, IndexError, AttributeError):
            found = []  # an attention that is more than products and a softmax, or takes no such mask
    tolerance = (1e-3 if backbone.dtype in (torch.float32, torch.float64) else 5e-2) * expected[0].abs().max()
    same = bool(found) and all((a - b).abs().max() <= tolerance for a, b in zip(found, expected, strict=True))
    if not same:
        config._attn_implementation = before
    return same


def _attend(
    base: str, module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    scaling: float | None = None, dropout: float = 0.0, **more: Any,
) -> tuple[Tensor, Any]:  # fmt: skip
    """query (1, heads, W, E), key and value (1, key heads, W, E) -> (1, W, heads, E); without trees as `base` does.

    Raises TypeError for what an architecture wants beyond plain attention.
    """
    trees = _trees.get()
    if trees is None:
        return _own(base, module)(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more
        )  # fmt: skip
    special = [name for name, given in more.items() if given is not None and name not in PLAIN]
    if special:
        raise TypeError(f"this attention does not know {', '.join(special)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    dtype = product_dtype(query.dtype, query.device)
    with torch.autocast(query.device.type, enabled=False):
        sides = [x[0].to(dtype).split(trees.sizes, dim=1) for x in (query * scale, key, value)]
        parts = [_attend_one(q, k, v, mask, dropout) for q, k, v, mask in zip(*sides, trees.masks, strict=True)]
    return torch.cat(parts, dim=1).transpose(0, 1)[None], None


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


def _own(base: str, module: Any) -> Attention:
    """The architecture's own plain attention, or transformers' fused one."""
    if base == "eager":
        return cast(Attention, sys.modules[type(module).__module__].eager_attention_forward)
    return cast(Attention, AttentionInterface()[base])


for _base, _name in EXTENDED.items():
    AttentionInterface.register(_name, partial(_attend, _base))
    AttentionMaskInterface.register(_name, AttentionMaskInterface()[_base])
