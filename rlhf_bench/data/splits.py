"""Splits that are a function of the seed and the prompt's hash alone.

So they are disjoint by prompt, do not depend on the order or the number of the other rows, and two people with the
same seed have the same split.
"""

from __future__ import annotations

from typing import NamedTuple

from rlhf_bench.types import stable_hash

SPLITS = ("train", "validation", "test", "test_unseen", "test_new")  # the last two are of hh-mini alone
ALL = "all"  # every pair of a source, for a file that nothing is trained on
SMALL = 5_000  # rows: below this a twentieth is too few prompts to measure anything on


class Fractions(NamedTuple):
    """Shares of the prompts; they sum to 1."""

    train: float
    validation: float
    test: float


def default_fractions(n_rows: int) -> Fractions:
    """Of the splits that are made of `n_rows` rows."""
    return Fractions(0.8, 0.1, 0.1) if n_rows < SMALL else Fractions(0.9, 0.05, 0.05)


def split_of(prompt: str, seed: int, fractions: Fractions) -> str:
    """The split, "train", "validation" or "test", that a prompt belongs to.

    A prompt's place in [0, 1) is fixed; test takes the low end and validation the high end, so that a larger share
    for one of them only ever takes prompts from train.
    """
    place = order_key(seed, prompt) / 2**64
    if place < fractions.test:
        return "test"
    return "validation" if place >= 1.0 - fractions.validation else "train"


def order_key(seed: int, text: str) -> int:
    """64 bits of the hash of (seed, text): a random order that is the same on every platform."""
    return int(stable_hash(str(seed), text), 16)
