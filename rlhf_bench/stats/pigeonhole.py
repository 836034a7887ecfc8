"""The pigeonhole bootstrap (Owen 2007, arXiv:0712.1111): prompts and training seeds resampled separately, and crossed.

For statistics that are no mean of prompts; `crossed` has the means.
"""

from __future__ import annotations

import math

import numpy as np

from rlhf_bench.stats.resample import LEVEL, TAILS, FloatArray, resampled_sums
from rlhf_bench.types import Estimate


def seed_counts(n: int, *, seed: int, resamples: int) -> FloatArray:
    """(resamples, n): how often each of n training seeds occurs; 1 where there is one seed only."""
    # a stream of its own: the same one would tie the seeds' draws to the first prompts'
    generator = np.random.Generator(np.random.PCG64([seed, n]))
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def crossed_sums(features: FloatArray, *, seed: int, resamples: int | None = None) -> FloatArray:
    """(S, P, k) features of seeds and prompts -> (resamples, k): their sums over each resample of both.

    It errs on the wide side but for what two or three seeds cannot show.
    """
    sums = np.stack([resampled_sums(of_seed, seed=seed, resamples=resamples) for of_seed in features])
    counts = seed_counts(len(features), seed=seed, resamples=sums.shape[1])
    total: FloatArray = np.einsum("bs,sbk->bk", counts, sums)
    return total


def resampled_means(cells: FloatArray, *, seed: int) -> FloatArray:
    """(S, P, k) cells, one a seed and prompt -> (B, k): the mean of each resample of both.

    The few seeds' deviations are stretched by sqrt(S / (S - 1)), without which their variance comes out (S - 1) / S of
    what it is.
    """
    s, p, k = cells.shape
    sums = resampled_sums(np.moveaxis(cells, 0, 1).reshape(p, s * k), seed=seed)
    if s == 1:
        alone: FloatArray = sums / p
        return alone
    weights = seed_weights(s, seed=seed, resamples=len(sums))
    means: FloatArray = np.einsum("bs,bsk->bk", weights, sums.reshape(len(sums), s, k) / p)
    return means


def seed_weights(n: int, *, seed: int, resamples: int) -> FloatArray:
    """(resamples, n): the weight of each of n training seeds in a mean over them, stretched as in `resampled_means`."""
    if n == 1:
        return np.ones((resamples, 1))
    weights: FloatArray = 1 / n + math.sqrt(n / (n - 1)) * (seed_counts(n, seed=seed, resamples=resamples) - 1) / n
    return weights


def percentile(value: float, values_b: FloatArray, *, n: int, n_seeds: int) -> Estimate:
    """The percentile interval of a bootstrap; resamples where the statistic is not defined (NaN) are left out."""
    values_b = values_b[np.isfinite(values_b)]
    if n < 2 or not len(values_b) or not math.isfinite(value):
        return Estimate(value, math.nan, math.nan, n, LEVEL, "none", n_seeds)
    low, high = (float(q) for q in np.quantile(values_b, TAILS))
    return Estimate(value, min(low, value), max(high, value), n, LEVEL, "bootstrap", n_seeds)
