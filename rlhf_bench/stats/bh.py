"""Benjamini and Hochberg's correction: the expected share of false findings among the findings is held."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import FloatArray

__all__ = ["benjamini_hochberg"]


def benjamini_hochberg(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """q of each p, (N,): the smallest false discovery rate at which it is a finding (Benjamini & Hochberg 1995).

        q_(i) = min over k >= i of N p_(k) / k, with p_(1) <= ... <= p_(N)

    NaN stays NaN and does not count in N. Raises BadValue for a p outside 0 to 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    there = np.flatnonzero(np.isfinite(p))
    outside = p[there][(p[there] < 0) | (p[there] > 1)]
    if len(outside):
        raise BadValue(f"the p-value {float(outside[0])!r} was given; expected 0 to 1")
    q = np.full(len(p), np.nan)
    order = there[np.argsort(p[there], kind="stable")]
    raw = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(1.0, np.minimum.accumulate(raw[::-1])[::-1])
    return q
