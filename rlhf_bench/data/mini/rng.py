"""Integer randomness that is the same on every platform: a SplitMix64 stream per key, and Bradley-Terry by a table.

`random` and NumPy are not used: their streams, and the last bits of `math.exp`, are free to change between versions
and platforms, and a data set of promised bytes may not depend on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal, localcontext
from functools import cache
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1
PROBABILITY_ONE = 1 << 32
"""Probabilities are integers out of this many, so that a decision compares two integers."""


def hash_int(*key: str | int) -> int:
    """The first 64 bits of the SHA-256 of `key`, as an integer."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class Stream:
    """SplitMix64 (Steele, Lea and Flood 2014), started at the hash of a key."""

    __slots__ = ("state",)

    def __init__(self, *key: str | int) -> None:
        self.state = hash_int(*key)

    def bits(self) -> int:
        """The next 64 bits."""
        self.state = z = (self.state + 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        """An integer in [0, n). Multiply and shift: biased by less than n / 2**64."""
        return (self.bits() * n) >> 64

    def chance(self, per_mille: int) -> bool:
        """True with probability per_mille / 1000."""
        return self.below(1000) < per_mille

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def weighted(self, table: Sequence[tuple[T, int]]) -> T:
        """One of `table`'s (item, weight) rows, with probability in proportion to its weight."""
        left = self.below(sum(weight for _, weight in table))
        for item, weight in table:
            left -= weight
            if left < 0:
                return item
        raise AssertionError("weights are positive integers")


@cache
def preference_threshold(difference: int, *, slope: int, noise: int) -> int:
    """Probability, out of PROBABILITY_ONE, that the first of two responses is preferred.

    difference: utility of the first minus the second, in hundredths.
    slope: how sharp the annotator is, in hundredths per unit of utility; noise: labels flipped, per mille.

        p = (1 - 2 noise) / (1 + exp(-slope * difference)) + noise

    Bradley and Terry 1952, with symmetric label noise. `Decimal.exp` is correctly rounded, hence the same everywhere.
    Computed for |difference| and mirrored, so that swapping the sides gives exactly the complement.
    """
    with localcontext() as context:
        context.prec = 40
        exponent = -Decimal(slope) * abs(difference) / 10_000
        sharp = 1 / (1 + exponent.exp())
        p = sharp * (1000 - 2 * noise) / 1000 + Decimal(noise) / 1000
        threshold = int((p * PROBABILITY_ONE).to_integral_value())
    return threshold if difference >= 0 else PROBABILITY_ONE - threshold
