"""McNemar's exact test of two raters of the same items."""

from __future__ import annotations

from typing import NamedTuple

from scipy import stats

from rlhf_bench.stats.resample import FloatArray

__all__ = ["McNemar", "mcnemar"]


class McNemar(NamedTuple):
    only_first: int  # items that the first has right and the second wrong
    only_second: int
    p: float  # two-sided, exact; 1 where they never differ


def mcnemar(first: FloatArray, second: FloatArray) -> McNemar:
    """Exact test that two raters are right equally often on the same items (McNemar 1947).

    first, second: (N,), above 0.5 where the rater is right on the item; a tie (0.5) counts as wrong. Under the null,
    the items on which one alone is right are split as tosses of a fair coin: binomial(only_first + only_second, 1/2).
    """
    a, b = first > 0.5, second > 0.5
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    n = only_first + only_second
    p = float(stats.binomtest(only_first, n, 0.5).pvalue) if n else 1.0
    return McNemar(only_first, only_second, p)
