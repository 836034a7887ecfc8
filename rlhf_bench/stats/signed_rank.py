"""Wilcoxon's signed-rank test, exact where prompts are few, with ties or without."""

from __future__ import annotations

import numpy as np
from scipy import stats

from rlhf_bench.stats.resample import FloatArray

__all__ = ["wilcoxon_p"]

EXACT = 50  # differences up to which the distribution is enumerated, as scipy does where nothing is tied


def wilcoxon_p(differences: FloatArray) -> float | None:
    """Two-sided signed-rank p of the differences (n,); zeros are dropped, None where nothing is left.

    Up to 50 differences: over all 2^n signs of the ranks at hand, tied ones included (scipy permutes where there are
    ties, which takes it seconds). Beyond: the normal approximation (scipy).
    """
    scale = float(np.abs(differences).max()) if len(differences) else 0.0
    if scale == 0:
        return None
    d = np.round(differences / scale, 12)  # a tie stays a tie after averages that rounded differently
    d = d[d != 0]
    return _exact_p(d) if len(d) <= EXACT else float(stats.wilcoxon(d).pvalue)


def _exact_p(d: FloatArray) -> float:
    """Twice the smaller tail of the sum of the positive ranks, every sign being equally likely."""
    ranks = np.rint(2 * stats.rankdata(np.abs(d))).astype(np.int64)  # doubled, so that the ranks of ties are whole
    ways = np.zeros(int(ranks.sum()) + 1)  # how many choices of signs give each sum: at most 2^50, exact in a float
    ways[0] = 1
    for rank in ranks:
        ways[rank:] += ways[:-rank].copy()
    at = int(ranks[d > 0].sum())
    return min(1.0, 2 * float(min(ways[: at + 1].sum(), ways[at:].sum())) / 2.0 ** len(d))
