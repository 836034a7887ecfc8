"""The difference of two shares on the same prompts, each prompt's own difference between -1 and 1.

One sample a prompt: b prompts with 1 and 0, c with 0 and 1, n in all, of which the difference (b - c)/n has the score
interval of Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", eq. 12: the values D that the test

    |b - c - n D| / sqrt(n (2 q + D (1 - D))) <= z

does not reject, with q the likeliest share of 0 and 1 given D. It lies within [-1, 1] for every table and needs no
prompt that differs. A t interval does neither.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import optimize, stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.compare import Difference
from rlhf_bench.stats.crossed import all_alike, complete, crossed, crossed_difference
from rlhf_bench.stats.resample import LEVEL, MIN_PROMPTS, FloatArray, nanmean
from rlhf_bench.types import Estimate

_INSIDE = 1e-9


def tango_interval(b: float, c: float, n: int) -> tuple[float, float]:
    """Tango's score limits of (b - c)/n, for counts b and c that need not be whole. Raises BadValue for b + c > n."""
    if n < 1 or min(b, c) < 0 or b + c > n * (1 + 1e-9):
        raise BadValue(f"{b:g} and {c:g} of {n} prompts given; expected counts of 0 or more that n holds")
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    value = (b - c) / n

    def beyond(delta: float) -> float:
        """The score statistic's square minus z^2: negative inside the interval."""
        spread = n * (2 * _likeliest(b, c, n, delta) + delta * (1 - delta))
        return (b - c - n * delta) ** 2 - z**2 * max(spread, 0.0)

    # inside by _INSIDE: where all prompts agree, value itself has no spread and is a root as well
    low = -1.0 if beyond(-1.0) <= 0 else float(optimize.brentq(beyond, -1.0, value - _INSIDE, xtol=1e-12))
    high = 1.0 if beyond(1.0) <= 0 else float(optimize.brentq(beyond, value + _INSIDE, 1.0, xtol=1e-12))
    return low, high


def _likeliest(b: float, c: float, n: int, delta: float) -> float:
    """The share of (0, 1) that maximises the likelihood where that of (1, 0) is larger by `delta`."""
    minus_p = (2 * n - b + c) * delta - b - c
    root = minus_p**2 + 8 * n * c * delta * (1 - delta)
    return (math.sqrt(max(root, 0.0)) - minus_p) / (4 * n)


def crossed_share_difference(samples: FloatArray, *, seed: int = 0) -> Estimate:
    """Mean of the (S, P, K) differences of -1, 0, 1 or NaN: seeds, prompts, samples.

    One sample of each prompt in all: Tango's. Several: `crossed` of the cells' means where 10 prompts or more
    differ from the most frequent value; else Tango's with n = prompts and b and c the sums of the prompts'
    means above and below 0, which errs on the wide side, as a mean of several varies less than one draw.

    Raises BadValue for other values.
    """
    wrong = samples[np.isfinite(samples) & ~np.isin(samples, (-1.0, 0.0, 1.0))]
    if wrong.size:
        raise BadValue(f"a difference of shares was given the value {float(wrong[0])!r}; expected -1, 0 or 1")
    cells = nanmean(samples, axis=2)
    single = bool((np.isfinite(samples).sum(axis=2) <= 1).all())
    return _estimate(cells, single=single, seed=seed)[0]


def share_difference(a: FloatArray, b: FloatArray, *, seed: int = 0) -> Difference:
    """a - b of two shares on the same prompts, from their 0, 1 or NaN, (S, P, K) each; K may differ.

    `crossed_difference`, but where `crossed_share_difference` takes Tango's interval also the p value of its test of no
    difference, |b - c| / sqrt(b + c) (McNemar 1947): it is below 0.05 exactly where the interval leaves out 0.
    Where fewer than 10 prompts differ, their spread does not say which difference would have shown (NaN).
    """
    found = crossed_difference(nanmean(a, axis=2), nanmean(b, axis=2), seed=seed)
    single = all(bool((np.isfinite(side).sum(axis=2) <= 1).all()) for side in (a, b))
    cells = nanmean(a, axis=2) - nanmean(b, axis=2)
    estimate, counts = _estimate(cells, single=single, seed=seed)
    if counts is None:
        return found
    gained, lost = counts
    p = 2 * float(stats.norm.sf(abs(gained - lost) / math.sqrt(gained + lost))) if gained + lost else 1.0
    detectable = found.detectable if gained + lost >= MIN_PROMPTS else math.nan
    return replace(found, estimate=estimate, p_paired=p, detectable=detectable)


def _estimate(cells: FloatArray, *, single: bool, seed: int) -> tuple[Estimate, tuple[float, float] | None]:
    """The mean of (S, P) differences of shares, and Tango's b and c where its interval is his."""
    estimate = crossed(cells, seed=seed)
    if estimate.n == 0:
        return estimate, None
    kept = complete(cells)
    of_prompt = np.round(kept.mean(axis=0), 12)
    differing = estimate.n - int(np.unique(of_prompt, return_counts=True)[1].max())
    if not (single and all_alike(kept)) and differing >= MIN_PROMPTS:
        return estimate, None
    b, c = float(of_prompt.clip(min=0).sum()), float(-of_prompt.clip(max=0).sum())
    low, high = tango_interval(b, c, estimate.n)
    return replace(estimate, low=low, high=high, method="tango"), (b, c)
