"""Permutation tests over prompts: exact for any number of prompts, and for rare events."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.resample import CHUNK

PERMUTATIONS = 2_000


def sign_flip_p(values: FloatArray, *, seed: int = 0, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p of mean 0 for values (P,), which under the null are as likely to have the other sign (Fisher 1935).

    The share of random signs with a sum as far from 0 as the observed one, which is counted among them.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    seen, beyond = abs(float(values.sum())), 0
    for b in _chunks(permutations, len(values)):
        signs = 2.0 * generator.integers(0, 2, size=(b, len(values))) - 1
        beyond += int((np.abs(signs @ values) >= seen - 1e-9).sum())
    return (beyond + 1) / (permutations + 1)


def two_group_p(errors: FloatArray, groups: FloatArray, *, seed: int = 0, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p that the mean error is the same in group -1 and group +1; both arrays (P, C), a row a prompt.

    Under the null a prompt's errors do not depend on its groups, so the rows of `groups` may be shuffled. An error of
    NaN is missing, a group of 0 or NaN is neither.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    there = np.isfinite(errors)
    weights = np.column_stack([np.where(there, errors, 0.0).ravel(), there.ravel().astype(np.float64)])  # (P * C, 2)
    members = np.stack([groups == -1, groups == 1]).astype(np.float64)  # (2, P, C)

    def gaps(order: np.ndarray) -> FloatArray:
        """(b, P) orders of the rows -> (b,): |mean error of -1 less that of +1|, 0 where a group is empty."""
        sums = members[:, order].reshape(2, len(order), -1) @ weights  # (2, b, 2): errors, counts
        total, count = sums[..., 0], sums[..., 1]
        means = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        found: FloatArray = np.where((count > 0).all(axis=0), np.abs(means[0] - means[1]), 0.0)
        return found

    rows = np.arange(len(errors))
    seen, beyond = float(gaps(rows[None])[0]), 0
    for b in _chunks(permutations, errors.size):
        orders = generator.permuted(np.broadcast_to(rows, (b, len(rows))), axis=1)
        beyond += int((gaps(orders) >= seen - 1e-9).sum())
    return (beyond + 1) / (permutations + 1)


def _chunks(total: int, width: int) -> Iterator[int]:
    """Sizes of pieces that add up to `total`, so that a piece times `width` stays small."""
    size = max(1, CHUNK // max(1, 2 * width))
    for start in range(0, total, size):
        yield min(size, total - start)
