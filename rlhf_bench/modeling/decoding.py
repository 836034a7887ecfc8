"""The forward passes of sampling: prompts once, then a token at a time, with the rows that are still being written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from rlhf_bench.modeling.attention import REFUSALS, can_replace_attention, close_states, no_mask, warn_of_own_fault
from rlhf_bench.modeling.decoding_step import decoding_step
from rlhf_bench.modeling.heads import first_position
from rlhf_bench.modeling.logprobs import hidden_states, logits_of, takes
from rlhf_bench.modeling.packed import on_cpu
from rlhf_bench.modeling.sampling_cache import (
    cache_argument,
    grows_in_place,
    has_usual_cache,
    preallocated_cache,
    take_rows,
)
from rlhf_bench.modeling.sampling_groups import GroupCache, attending_in_groups, taking_prompts
from rlhf_bench.modeling.tokens import ROUND_WIDTH, Encoded, collate
from rlhf_bench.modeling.trees import has_full_attention

PREFILL_TOKENS, PREFILL_PADDING = 2048, 1.1  # of prompts that are read at once on a CPU; padded tokens to real ones
LEAVE = 8  # finished rows leave the batch once they are an eighth of it


class Alive:
    """Which rows are still being written; `drop` marks those that have ended."""

    def __init__(self, alive: Tensor) -> None:
        self.alive = alive
        self.running = torch.ones_like(alive, dtype=torch.bool)

    def drop(self, finished: Tensor) -> None:
        self.running &= ~finished

    def leave(self) -> Tensor:
        """The running rows alone are left; gives their places among those before."""
        stay = self.running.nonzero().squeeze(1)
        self.alive = self.alive[stay]
        self.running = torch.ones_like(self.alive, dtype=torch.bool)
        return stay


def decode_steps(
    model: PreTrainedModel, prompts: list[list[int]], samples: int, steps: int, drawn: Tensor, alive: Tensor
) -> Iterator[tuple[Tensor, Alive]]:
    """Yield the next token's logits of the living rows, step by step, until none is left."""
    state = Alive(alive)
    if not has_usual_cache(model):
        yield from _recomputed_steps(model, prompts, samples, steps, drawn, state)
        return
    prefix = _Prefix.of(model, prompts, steps, pad=int(drawn[0, 0]))
    cache: DynamicCache
    if on_cpu(model) and can_group(model):
        logits, cache = _in_groups(model, prompts, prefix, samples, steps)
    else:
        logits, cache = _in_rows(model, prefix, samples, steps)
    logits, mask, positions = (t.repeat_interleave(samples, dim=0) for t in (logits, prefix.mask, prefix.positions))
    for step in range(steps):
        yield logits, state
        if not bool(state.running.any()) or step + 1 == steps:
            return
        # Finished rows leave in packs: batches of few distinct sizes, and no copy of the cache for a single row.
        if len(state.running) - int(state.running.sum()) >= max(1, len(state.running) // LEAVE):
            stay = state.leave()
            cache.batch_select_indices(stay)
            mask, positions = mask[stay], positions[stay]
        column = prefix.width + step
        token = drawn[state.alive, step : step + 1]
        logits = next_logits(model, token, mask[:, : column + 1], positions[:, column : column + 1], cache)


class _Prefix(NamedTuple):
    """Prompts padded on the left, so that every row's next token is in the same column; positions count real
    tokens. Mask and positions have room for the tokens to come."""

    ids: Tensor  # (B, width)
    mask: Tensor  # (B, width + steps)
    positions: Tensor  # (B, width + steps)

    @property
    def width(self) -> int:
        return self.ids.shape[1]

    @classmethod
    def of(cls, model: PreTrainedModel, prompts: list[list[int]], steps: int, *, pad: int) -> _Prefix:
        width = max(len(p) for p in prompts)
        ids = torch.full((len(prompts), width), pad, dtype=torch.long)
        mask = torch.ones((len(prompts), width + steps), dtype=torch.long)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, : width - len(prompt)] = 0
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return cls(ids.to(model.device), mask.to(model.device), positions.to(model.device))


def _in_groups(
    model: PreTrainedModel, prompts: list[list[int]], prefix: _Prefix, samples: int, steps: int
) -> tuple[Tensor, GroupCache]:
    """The logits of the token after each prompt, (B, V), and the cache for its responses.

    Prompts are read one after the other in one row, without padding.
    """
    layers = len(DynamicCache(config=model.config).layers)
    cache = GroupCache(layers, prefix.mask[:, : prefix.width], samples, steps)
    found = []
    for piece in _pieces([len(prompt) for prompt in prompts], padded=False):
        some = prompts[piece]
        lengths = [len(prompt) for prompt in some]
        padding = -sum(lengths) % ROUND_WIDTH
        ids, positions = (
            torch.tensor([[*itertools.chain(*rows), *[0] * padding]], device=model.device)
            for rows in (some, map(range, lengths))
        )
        last = torch.tensor(lengths, device=model.device).cumsum(0) - 1
        read = torch.zeros_like(ids, dtype=torch.bool).index_fill_(1, last, True)
        with taking_prompts(model, cache, piece.start, lengths, read) as mask:
            found.append(_logits(model, ids, positions, last, attention_mask=mask, use_cache=False)[0])
    return torch.cat(found), cache


def _in_rows(model: PreTrainedModel, prefix: _Prefix, samples: int, steps: int) -> tuple[Tensor, DynamicCache]:
    """As `_in_groups`, with a cache of a row for each response.

    On a CPU prompts of about the same length are read together, since what is computed for padding is lost.
    """
    width, rows = prefix.width, len(prefix.ids)
    cache = preallocated_cache(model, room=width + steps)
    mask, positions = prefix.mask[:, :width], prefix.positions[:, :width]
    if not (on_cpu(model) and grows_in_place(cache)):
        logits = next_logits(model, prefix.ids, mask, positions, cache)
    else:
        found = []
        lengths = mask.sum(1).tolist()
        for piece in _pieces(lengths, padded=True):
            longest = max(lengths[piece])
            part, own = preallocated_cache(model, room=longest), (piece, slice(width - longest, width))
            found.append(next_logits(model, prefix.ids[own], mask[own], positions[own], part))
            take_rows(cache, piece.start, part, rows=rows, used=width)
        logits = torch.cat(found)
    if samples > 1:
        cache.batch_repeat_interleave(samples)
    return logits, cache


def _pieces(lengths: Sequence[int], *, padded: bool) -> Iterator[slice]:
    """Consecutive rows with few tokens between them, or one alone; where they are padded to the longest of them, with
    little padding."""
    start = 0
    for end in range(1, len(lengths) + 1):
        part = lengths[start : end + 1]  # with the next row, if there is one
        tokens = max(part) * len(part) if padded else sum(part)
        if end == len(lengths) or tokens > min(PREFILL_TOKENS, PREFILL_PADDING * sum(part)):
            yield slice(start, end)
            start = end


def _recomputed_steps(
    model: PreTrainedModel, prompts: list[list[int]], samples: int, steps: int, drawn: Tensor, state: Alive
) -> Iterator[tuple[Tensor, Alive]]:
    """As `decode_steps`, without a cache: each step reads the whole row again, padded on the right, where no state of
    a recurrent layer has seen the padding."""
    pad = int(drawn[0, 0])  # what `drawn` is filled with
    for step in range(steps):
        rows = [Encoded(prompts[row // samples], drawn[row, :step].tolist()) for row in state.alive.tolist()]
        batch = collate(rows, pad_id=pad).to(model.device)
        last = batch.attention_mask.sum(1) - 1
        read = F.one_hot(last, batch.ids.shape[1]).bool()
        yield logits_of(model, hidden_states(model, batch, read)), state
        if not bool(state.running.any()):
            return
        state.leave()


def next_logits(model: PreTrainedModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
    """Logits after the last column, (B, V); only that position goes through the output layer."""
    cached = {cache_argument(model): cache, "use_cache": True}
    if not isinstance(cache, GroupCache):
        return _logits(model, ids, positions, 1, attention_mask=mask, **cached)[:, -1]
    step = decoding_step(model)
    if step is not None:
        return step(model, ids[:, 0], positions[:, 0], cache)
    with attending_in_groups(cache):
        return _logits(model, ids, positions, 1, attention_mask=no_mask(model), **cached)[:, -1]


def _logits(model: PreTrainedModel, ids: Tensor, positions: Tensor, keep: int | Tensor, **options: Any) -> Tensor:
    """The model's own logits of the last `keep` tokens, or of the tokens `keep`, of each row."""
    if takes(model, "position_ids"):
        options["position_ids"] = positions + first_position(model)
    if takes(model, "logits_to_keep"):
        return model(input_ids=ids, logits_to_keep=keep, **options).logits  # type: ignore[no-any-return]
    logits: Tensor = model(input_ids=ids, **options).logits
    return logits[:, -keep:] if isinstance(keep, int) else logits[:, keep]


_known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # model -> whether it can


def can_group(model: PreTrainedModel) -> bool:
    """Whether the model decodes over a `GroupCache` as over its own cache: tried once, on two short prompts.

    It does not where attention has a window, a state passes from token to token, or scores are more than products.
    """
    if model not in _known:
        full = has_usual_cache(model) and has_full_attention(model)
        _known[model] = full and can_replace_attention(model) and _tries_groups(model)
    return _known[model] and can_replace_attention(model)  # its attention may be another since


@torch.no_grad()
def _tries_groups(model: PreTrainedModel) -> bool:
    size = model.get_input_embeddings().weight.shape[0]
    tokens = torch.tensor([[5, 1], [2, 6], [7, 3], [1, 1]], device=model.device) % size
    prompts, steps = [[1, 2, 3], [4, 2]], tokens.shape[1]
    prefix = _Prefix.of(model, prompts, steps, pad=0)

    def logits(*, grouped: bool) -> Tensor:
        cache: DynamicCache
        if grouped:
            first, cache = _in_groups(model, prompts, prefix, 2, steps)
        else:
            first, cache = _in_rows(model, prefix, 2, steps)
        mask, positions = (t.repeat_interleave(2, dim=0) for t in (prefix.mask, prefix.positions))
        found = [first.repeat_interleave(2, dim=0)]
        for i, column in enumerate(range(prefix.width, prefix.width + steps)):
            at = slice(column, column + 1)
            found.append(next_logits(model, tokens[:, i : i + 1], mask[:, : column + 1], positions[:, at], cache))
        return torch.stack(found)

    try:
        plain = logits(grouped=False)
        found = logits(grouped=True)
    except REFUSALS as error:
        warn_of_own_fault(model, error)
        return False  # the architecture keeps something else in its cache
    return close_states(found, plain)
