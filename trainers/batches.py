"""Which rows make which optimiser step: a function of the seed and the step's number alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from rlhf_bench.modeling.tokens import Encoded, length_batches

__all__ = ["Order", "Pair", "both_sides", "count_steps", "count_tokens", "pair_lengths"]

Pair = tuple[Encoded, Encoded]  # chosen, rejected


def count_steps(rows: int, batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Optimiser steps of `epochs` passes, whose last batch may be short, or `max_steps` where it is given; at least 1.

    Both as in transformers' Trainer.
    """
    return max_steps or max(1, math.ceil(math.ceil(rows / batch_size) * epochs - 1e-9))


class Order:
    """Rows of each step: every epoch a new shuffle in batches of similar length.

    `order[step]` can be asked for in any sequence, so that a resumed stage sees what it would have seen.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.per_epoch = math.ceil(len(lengths) / batch_size)
        self._epoch = -1
        self._batches: list[list[int]] = []

    def __getitem__(self, step: int) -> list[int]:
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            rng = np.random.Generator(np.random.Philox(key=self.seed, counter=epoch))
            self._batches = list(length_batches(self.lengths, self.batch_size, rng=rng))
            self._epoch = epoch
        return self._batches[index]


def both_sides(pairs: Sequence[Pair]) -> list[Encoded]:
    """All chosen, then all rejected: one forward pass scores both."""
    return [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]


def pair_lengths(pairs: Sequence[Pair]) -> list[int]:
    """Tokens of each pair, both sides."""
    return [chosen.length + rejected.length for chosen, rejected in pairs]


def count_tokens(rows: Iterable[Encoded]) -> int:
    return sum(row.length for row in rows)
