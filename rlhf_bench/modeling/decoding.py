"""The forward passes of sampling: prompts once, then a token at a time, with the rows that are still being written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from rlhf_bench.modeling.attention import REFUSALS, can_replace_attention, close_states, no_mask, warn_of_own_fault
from rlhf_bench.modeling.gpt2_step import gpt2_logits, is_gpt2
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
from rlhf_bench.modeling.sampling_groups import GroupCache, attending_in_groups
from rlhf_bench.modeling.tokens import Encoded, collate
from rlhf_bench.modeling.trees import has_full_attention

PREFILL_TOKENS, PREFILL_PADDING = 1024, 1.1  # of prompts at once on a CPU; padded tokens to real ones
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
    grouped = on_cpu(model) and can_group(model)
    cache = preallocated_cache(model, room=prefix.width + (0 if grouped else steps))
    logits = _prefill(model, prefix, cache)
    if grouped:
        cache = GroupCache(cache, prefix.mask[:, : prefix.width], samples, steps)
    elif samples > 1:
        cache.batch_repeat_interleave(samples)
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


def _prefill(model: PreTrainedModel, prefix: _Prefix, cache: DynamicCache) -> Tensor:
    """Fill the cache with the prompts; logits of the token after each, (B, V).

    On a CPU prompts of about the same length are read together, since what is computed for padding is lost.
    """
    width, rows = prefix.width, len(prefix.ids)
    mask, positions = prefix.mask[:, :width], prefix.positions[:, :width]
    if not (on_cpu(model) and grows_in_place(cache)):
        return next_logits(model, prefix.ids, mask, positions, cache)
    logits = []
    for piece, longest in _pieces(mask.sum(1).tolist()):
        part = preallocated_cache(model, room=longest)
        columns = slice(width - longest, width)
        logits.append(
            next_logits(model, prefix.ids[piece, columns], mask[piece, columns], positions[piece, columns], part)
        )
        take_rows(cache, piece.start, part, rows=rows, used=width)
    return torch.cat(logits)


def _pieces(lengths: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Consecutive rows with little padding and few tokens between them, and the longest row's length."""
    start = 0
    for end in range(1, len(lengths) + 1):
        part = lengths[start : end + 1]  # with the next row, if there is one
        tokens = max(part) * len(part)
        if end == len(lengths) or tokens > PREFILL_TOKENS or tokens > PREFILL_PADDING * sum(part):
            yield slice(start, end), max(lengths[start:end])
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
    if isinstance(cache, GroupCache) and ids.shape[1] == 1 and is_gpt2(model):
        return gpt2_logits(model, ids[:, 0], positions[:, 0], cache)
    options: dict[str, Any] = {"position_ids": positions + first_position(model), "logits_to_keep": 1}
    options = {name: value for name, value in options.items() if takes(model, name)}
    options |= {cache_argument(model): cache, "use_cache": True}
    if isinstance(cache, GroupCache):
        with attending_in_groups(cache):
            out: Any = model(input_ids=ids, attention_mask=no_mask(model), **options)
    else:
        out = model(input_ids=ids, attention_mask=mask, **options)
    return out.logits[:, -1]  # type: ignore[no-any-return]


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
    prefix = _Prefix.of(model, [[1, 2, 3], [4, 2]], tokens.shape[1], pad=0)

    def logits(*, grouped: bool) -> Tensor:
        cache = preallocated_cache(model, room=prefix.width + tokens.shape[1])
        _prefill(model, prefix, cache)
        if grouped:
            cache = GroupCache(cache, prefix.mask[:, : prefix.width], 2, tokens.shape[1])
        else:
            cache.batch_repeat_interleave(2)
        mask, positions = (t.repeat_interleave(2, dim=0) for t in (prefix.mask, prefix.positions))
        steps = []
        for i, column in enumerate(range(prefix.width, prefix.width + tokens.shape[1])):
            at = slice(column, column + 1)
            steps.append(next_logits(model, tokens[:, i : i + 1], mask[:, : column + 1], positions[:, at], cache))
        return torch.stack(steps)

    try:
        plain = logits(grouped=False)
        found = logits(grouped=True)
    except REFUSALS as error:
        warn_of_own_fault(model, error)
        return False  # the architecture keeps something else in its cache
    return close_states(found, plain)
