"""Forward passes without padding, in which a prompt that several rows share is computed once.

Rows of a batch that have one prompt become a tree, the prompt and then each response; trees are packed into rows of one
width. A mask says who attends to whom: a token sees its own prompt and what precedes it in its own response. Hidden
states come back in the layout of the batch, so that callers notice the time and nothing else; gradients of a shared
prompt add up, as they must.

    batch                     packed, one row
    a b  x y .                a b  x y  u v w  c  z
    a b  u v w                position 0 1 2 3 2 3 4 0 1
    c z  . . .
"""

from __future__ import annotations

import contextlib
import heapq
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_bench.modeling.attention import REFUSALS, adds_mask, close_states, warn_of_own_fault
from rlhf_bench.modeling.heads import backbone_of, first_position
from rlhf_bench.modeling.kernels import product_dtype
from rlhf_bench.modeling.last_layer import reading
from rlhf_bench.modeling.row_attention import attending_by_row, can_attend_by_row
from rlhf_bench.modeling.tokens import ROUND_WIDTH, Batch, Encoded, collate, length_batches
from rlhf_bench.modeling.tree_attention import attending_by_tree
from rlhf_bench.modeling.tree_plans import LARGEST, Tree
from rlhf_bench.runtime.sharding import is_sharded

Ints = npt.NDArray[np.int64]

WIDTHS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # limits of a packed row that are tried, in lengths of the longest


class Packing(NamedTuple):
    """A batch of B rows of T tokens, packed into R rows of W; into one row where attention goes tree by tree."""

    ids: Tensor  # (R, W) int64
    position_ids: Tensor  # (R, W) int64: from 0 in each tree; each response goes on where its prompt ends
    places: Tensor  # (B, T) int64: the place of each token in the flattened packing; any place for padding
    visible: Tensor | None  # (R, 1, W, W) bool: [r, 0, i, j] is True where token i attends to token j; None: by tree
    trees: list[Tree]  # in the order of the flattened packing, where attention goes by tree


class _Group(NamedTuple):
    size: int
    rows: list[int]  # rows of the batch that have this prompt


class _Rows(NamedTuple):
    """The rows of a batch, in arrays. B rows of T tokens."""

    ids: Ints  # (B, T)
    positions: Ints  # (B, T)
    starts: Ints  # (B,) the column of the first token
    heads: Ints  # (B,) tokens of the prompt
    lengths: Ints  # (B,) tokens

    def same_prompt(self) -> list[list[int]]:
        """Rows that have one prompt, together; the longest first, so that responses of one length are side by side."""
        groups: dict[bytes, list[int]] = {}
        for b, (start, head) in enumerate(zip(self.starts, self.heads, strict=True)):
            groups.setdefault(self.ids[b, start : start + head].tobytes(), []).append(b)
        return [sorted(group, key=lambda b: -int(self.lengths[b])) for group in groups.values()]

    def tree(self, same_prompt: Sequence[int]) -> Tree:
        head = int(self.heads[same_prompt[0]])
        return Tree(head, tuple(int(self.lengths[b]) - head for b in same_prompt))


def pack(
    batch: Batch, hidden_size: int, *, multiple_of: int = ROUND_WIDTH, cost_of_tree: int | None = None
) -> Packing | None:
    """The packing of a batch that costs least, or None where the batch as it is costs about as little.

    The cost of R rows of W tokens is taken as R W (6 H + 2 W), H being the hidden size: matrix products and attention.
    Attention tree by tree costs 2 (its pairs + cost_of_tree) for each tree; None: it cannot be, and 0: it is always
    better. W is a multiple of `multiple_of`.
    """
    ids, real, response, positions = (tensor.cpu().numpy() for tensor in batch)
    rows = _Rows(ids, positions, real.argmax(1), (real & ~response).sum(1), real.sum(1))
    if (response.sum(1) + rows.heads != rows.lengths).any() or not rows.lengths.all():
        return None

    def cost(count: int, width: int) -> int:
        return count * width * (6 * hidden_size + 2 * width)

    groups, longest = rows.same_prompt(), int(rows.lengths.max())
    best: tuple[list[list[_Group]], int, bool] | None = None  # trees of each row, width, by tree
    least = sys.maxsize if cost_of_tree == 0 else int(0.95 * cost(*ids.shape))
    if cost_of_tree is not None:
        most = int(longest * WIDTHS[-1])
        whole = [tree for group in groups for tree in _trees(group, rows, max(most, LARGEST // rows.tree(group).width))]
        total = sum(tree.size for tree in whole)
        by_tree = 6 * hidden_size * total + 2 * sum(rows.tree(tree.rows).pairs + cost_of_tree for tree in whole)
        if by_tree < least:
            best, least = ([whole], _rounded(total, multiple_of), True), by_tree
    for factor in WIDTHS:
        limit = int(longest * factor)
        trees = [tree for group in groups for tree in _trees(group, rows, limit)]
        total = sum(tree.size for tree in trees)
        fewest = -(-total // limit)
        for count in range(fewest, min(fewest + 2, len(trees)) + 1):
            if cost(count, total // count) >= least:  # even in rows of equal length
                continue
            bins = _balanced(trees, count)
            width = _rounded(max(sum(tree.size for tree in row) for row in bins), multiple_of)
            if cost(count, width) < least:
                best, least = (bins, width, False), cost(count, width)
    return None if best is None else _written(*best, rows, batch.ids.device)


def packed_hidden_states(model: PreTrainedModel, packing: Packing, read: Tensor) -> Tensor:
    """The backbone's last hidden state where `read`, (B, T) bool, is True in the layout of the batch, row by row.
    (N, H)"""
    backbone: Any = backbone_of(model)
    places = packing.places[read]
    packed_read = torch.zeros_like(packing.ids, dtype=torch.bool).flatten().index_fill_(0, places, True)
    with reading(model, packed_read.view_as(packing.ids)), _attending(model, packing) as mask:
        out = backbone(
            input_ids=packing.ids, attention_mask=mask, position_ids=packing.position_ids + first_position(model),
            use_cache=False,
        )  # fmt: skip
    hidden: Tensor = out.last_hidden_state.flatten(0, 1)
    return hidden.index_select(0, places)


@contextlib.contextmanager
def _attending(model: PreTrainedModel, packing: Packing) -> Iterator[Tensor]:
    """The mask that the backbone is called with, while the block lasts."""
    if packing.visible is None:
        with attending_by_tree(model, packing.trees, packing.ids.numel()) as mask:
            yield mask
    elif can_attend_by_row(model):
        with attending_by_row(model, packing.visible) as mask:
            yield mask
    elif adds_mask(model):
        dtype = product_dtype(model.dtype, packing.visible.device)
        zeros = torch.zeros(packing.visible.shape, dtype=dtype, device=packing.visible.device)
        yield zeros.masked_fill_(~packing.visible, torch.finfo(dtype).min)
    else:
        yield packing.visible


_known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # backbone -> whether it can
_lock = threading.Lock()


def can_pack(model: PreTrainedModel) -> bool:
    """Whether the model gives packed rows the hidden states that they have alone: tried once, on a small batch.

    It does not where attention has a window, where a state passes from token to token, or where the architecture makes
    its own mask or positions. Compiled and sharded models are not packed.
    """
    backbone = backbone_of(model)
    if "forward" in vars(backbone) or is_sharded(backbone):  # compiled for other inputs; gathered in step with others
        return False
    with _lock:
        if backbone not in _known:
            _known[backbone] = has_full_attention(model) and _tries(model)
        return _known[backbone]


def has_full_attention(model: PreTrainedModel) -> bool:
    """Whether every layer's attention reads all that precedes a token: no window, no recurrent state."""
    config: Any = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return set(kinds) == {"full_attention"}
    # some windows are switched off; they have many names (GPT-Neo's window_size)
    windows = {name for name, value in vars(config).items() if "window" in name and type(value) is int and value > 0}
    return not (windows - {"sliding_window"} or (windows and getattr(config, "use_sliding_window", True)))


@torch.no_grad()
def _tries(model: PreTrainedModel) -> bool:
    rows = [Encoded([1, 2], [3, 4, 1]), Encoded([1, 2], [4]), Encoded([3, 3, 2], [2, 1])]
    batch = collate(rows, pad_id=0).to(model.device)
    arrays = [tensor.cpu().numpy() for tensor in batch]
    ids, real, response, positions = arrays
    heads, lengths = (real & ~response).sum(1), real.sum(1)
    trees = [_Group(6, [0, 1]), _Group(5, [2])]
    packing = _written([trees], ROUND_WIDTH, False, _Rows(ids, positions, real.argmax(1), heads, lengths), model.device)
    backbone: Any = backbone_of(model)
    with torch.autocast(model.device.type, enabled=False):
        try:
            packed = packed_hidden_states(model, packing, batch.attention_mask)
        except REFUSALS as error:
            warn_of_own_fault(model, error)
            return False  # the architecture takes no mask of this form
        plain = backbone(
            input_ids=batch.ids, attention_mask=batch.attention_mask.long(),
            position_ids=batch.position_ids + first_position(model), use_cache=False,
        ).last_hidden_state  # fmt: skip
    return close_states(packed, plain[batch.attention_mask])


def grouped_batches(model: PreTrainedModel, rows: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches, each exactly once: rows of one prompt side by side where the model packs them, else rows of
    similar length, longest first."""
    if not can_pack(model):
        yield from length_batches([row.length for row in rows], batch_size)
        return
    heads = [tuple(row.prompt) for row in rows]
    first = {head: i for i, head in reversed(list(enumerate(heads)))}
    order = sorted(range(len(rows)), key=lambda i: (-len(heads[i]), first[heads[i]], i))
    yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def _rounded(width: int, multiple_of: int) -> int:
    return -(-width // multiple_of) * multiple_of


def _trees(group: Sequence[int], rows: _Rows, width: int) -> list[_Group]:
    """The rows of one prompt in trees of at most `width` tokens."""
    trees: list[_Group] = []
    head = int(rows.heads[group[0]])
    size, members = head, list[int]()
    for b in group:
        extra = int(rows.lengths[b]) - head
        if members and size + extra > width:
            trees.append(_Group(size, members))
            size, members = head, []
        size += extra
        members.append(b)
    return [*trees, _Group(size, members)]


def _balanced(trees: Sequence[_Group], count: int) -> list[list[_Group]]:
    """The trees in `count` rows of nearly equal length: longest first, each in the row that is shortest so far."""
    rows: list[list[_Group]] = [[] for _ in range(count)]
    shortest = [(0, r) for r in range(count)]
    for tree in sorted(trees, key=lambda tree: -tree.size):
        size, r = shortest[0]
        rows[r].append(tree)
        heapq.heapreplace(shortest, (size + tree.size, r))
    return rows


def _written(
    bins: Sequence[Sequence[_Group]], width: int, by_tree: bool, rows: _Rows, device: torch.device
) -> Packing:  # fmt: skip
    shape = (len(bins), width)
    packed_ids, packed_positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    tree_of = np.tile(np.arange(-width, 0, dtype=np.int32), (len(bins), 1))  # a token of padding is a tree of its own
    branch_of = np.zeros(shape, dtype=np.int32)  # 0: the prompt, seen by every response of its tree
    places = np.zeros(rows.ids.shape, dtype=np.int64)
    written = []
    for r, trees in enumerate(bins):
        at = 0
        for t, tree in enumerate(trees):
            head = int(rows.heads[tree.rows[0]])
            first, end = int(rows.starts[tree.rows[0]]), at + head
            tree_of[r, at : at + tree.size] = t
            packed_ids[r, at:end] = rows.ids[tree.rows[0], first : first + head]
            packed_positions[r, at:end] = rows.positions[tree.rows[0], first : first + head]
            for k, b in enumerate(tree.rows, 1):
                begin, n = int(rows.starts[b]) + head, int(rows.lengths[b]) - head
                places[b, begin - head : begin] = r * width + np.arange(at, at + head)
                places[b, begin : begin + n] = r * width + np.arange(end, end + n)
                branch_of[r, end : end + n] = k
                packed_ids[r, end : end + n] = rows.ids[b, begin : begin + n]
                packed_positions[r, end : end + n] = rows.positions[b, begin : begin + n]
                end += n
            written.append(rows.tree(tree.rows))
            at = end
    visible = None if by_tree else _visible(torch.from_numpy(tree_of), torch.from_numpy(branch_of)).to(device)
    return Packing(
        torch.from_numpy(packed_ids).to(device), torch.from_numpy(packed_positions).to(device),
        torch.from_numpy(places).to(device), visible, written,
    )  # fmt: skip


def _visible(tree: Tensor, branch: Tensor) -> Tensor:
    """Who attends to whom, by the tree and the branch of each token, (R, W) each. (R, 1, W, W)"""
    width = tree.shape[1]
    visible = (tree[:, :, None] == tree[:, None, :]) & torch.ones(width, width, dtype=torch.bool).tril()
    return (visible & ((branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])))[:, None]
