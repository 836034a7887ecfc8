"""Estimates of means that lie between 0 and 1, exact at both ends: win rates, shares of verdicts, accuracies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlhf_bench.stats.crossed import METHOD, complete, crossed
from rlhf_bench.stats.estimates import clopper_pearson
from rlhf_bench.stats.resample import MIN_PROMPTS, FloatArray, nanmean
from rlhf_bench.types import Estimate


def bounded_mean(samples: FloatArray, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean over prompts of (S, P, K) values in [0, 1], NaN where there is none; prompts crossed with seeds.

    `stats.crossed`, clipped to [0, 1]. Where fewer than 10 prompts differ from the most frequent value (all won, say),
    it is that of Clopper and Pearson with n = prompts, so that the interval never has zero width: a value in [0, 1]
    varies no more than a 0/1 draw of the same mean, so it errs on the wide side. It knows no seeds: where these differ,
    the limits are no nearer than those of `stats.crossed`.
    """
    cells = nanmean(samples, axis=2)
    estimate = crossed(cells, level=level, seed=seed)
    if estimate.n == 0:
        return estimate
    estimate = no_nearer_than_exact(estimate, cells, method=METHOD)
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def no_nearer_than_exact(estimate: Estimate, cells: FloatArray, *, method: str) -> Estimate:
    """The estimate of the mean of (S, P) cells in [0, 1] with limits no nearer than Clopper and Pearson's.

    That is where fewer than 10 prompts differ from the most frequent value. `method` is that of an estimate over
    several seeds; any other is replaced by the exact one.
    """
    of_prompt = np.round(complete(cells).mean(axis=0), 12)
    if estimate.n - int(np.unique(of_prompt, return_counts=True)[1].max()) >= MIN_PROMPTS:
        return estimate
    exact = clopper_pearson(estimate.value, estimate.n, level=estimate.level)
    if estimate.method != method or not (estimate.low < exact.low or estimate.high > exact.high):
        return replace(estimate, low=exact.low, high=exact.high, method=exact.method)
    return replace(estimate, low=min(estimate.low, exact.low), high=max(estimate.high, exact.high))
