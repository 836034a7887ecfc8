"""Two models on the same prompts: the paired difference, its p values, and what so many prompts could have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import (
    FloatArray,
    Values,
    check_level,
    excess_kurtosis,
    is_constant,
    mean_interval,
    prompt_means,
)
from rlhf_bench.types import Estimate


@dataclass(frozen=True, slots=True)
class Difference:
    """A minus B. `p_paired` tests the mean (the primary test) and agrees with the interval of `estimate`."""

    estimate: Estimate
    p_paired: float  # two-sided; NaN with fewer than 2 prompts
    p_wilcoxon: float | None  # signed-rank, which tests symmetry about 0 instead; None where nothing differs
    effect: float  # Cohen's d_z; NaN with fewer than 2 prompts or where all differ alike
    detectable: float  # smallest true difference found with 80 % power; NaN as for `effect`, without a spread


def difference(a: Values, b: Values, *, level: float = 0.95, seed: int = 0) -> Difference:
    """Mean over prompts of a - b, paired by prompt; a and b as in `mean_estimate`, in the same order of prompts.

    Bootstrap-t over prompts, and the p value that inverts it: p < 1 - level exactly where the interval leaves out 0,
    but for five prompts or fewer that all differ by the same: no sign-flip test of so few can be that sure.
    A prompt that lacks either side is left out and counted. Raises BadValue if the numbers of prompts differ.
    """
    check_level(level)
    x, y = prompt_means(a), prompt_means(b)
    if x.shape != y.shape:
        raise BadValue(f"{len(x)} and {len(y)} prompts given; expected the same prompts on both sides of a difference")
    d = x - y
    d = d[np.isfinite(d)]
    n, n_missing = len(d), len(x) - len(d)
    low, high, p, method = mean_interval(d, level=level, seed=seed)
    value = float(d.mean()) if n else math.nan
    return Difference(
        estimate=Estimate(value, low, high, n, level, method, 1, n_missing, excess_kurtosis(d)),
        p_paired=p,
        p_wilcoxon=wilcoxon_p(d),
        effect=effect_size(d),
        detectable=math.nan if n < 2 or is_constant(d) else detectable_difference(float(d.std(ddof=1)), n, level=level),
    )


def effect_size(differences: FloatArray) -> float:
    """Cohen's d_z (Cohen 1988, section 2.3.5): mean over prompts of the differences (n,) by their sd (ddof 1).

    A prompt's difference is that of its means over samples, so d_z grows with the number of samples as the sd falls.
    """
    if len(differences) < 2 or is_constant(differences):
        return math.nan
    return float(differences.mean() / differences.std(ddof=1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment, in the order given: p_(i) times (m - i + 1), made monotone, at most 1.

    A NaN stays NaN and does not count in m.
    """
    adjusted = [math.nan] * len(p_values)
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini & Hochberg's (1995) adjustment, in the order given: those below q hold a share of q false ones at most.

    p_(i) m / i, made monotone from the largest down, at most 1. A NaN stays NaN and does not count in m.
    """
    adjusted = [math.nan] * len(p_values)
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: -p_values[i])
    smallest = 1.0
    for rank, i in enumerate(order):
        smallest = min(smallest, p_values[i] * len(order) / (len(order) - rank))
        adjusted[i] = smallest
    return adjusted


def detectable_difference(sd: float, n: int, *, level: float = 0.95, power: float = 0.8) -> float:
    """Smallest true mean difference that a paired two-sided t test at 1 - level finds with this power.

    `sd` is that of the n per-prompt differences (ddof 1); the power is exact, not the normal approximation.
    """
    check_level(level)
    if n < 2:
        raise BadValue(f"{n} prompts given; expected at least 2 to say what difference they could show")
    return detectable_from_se(sd / math.sqrt(n), n - 1, level=level, power=power)


def detectable_from_se(se: float, df: float, *, level: float, power: float = 0.8) -> float:
    critical = float(stats.t.ppf(0.5 + level / 2, df))
    return se * smallest_found(critical * np.sqrt(chi2_middles(df) / df), level=level, power=power)


@lru_cache(maxsize=64)
def chi2_middles(df: float) -> FloatArray:
    """(2,000,): the middles of as many equal shares of the chi-squared distribution."""
    middles: FloatArray = stats.chi2.ppf((np.arange(2_000) + 0.5) / 2_000, df)
    middles.setflags(write=False)
    return middles


def smallest_found(limits: FloatArray, *, level: float, power: float) -> float:
    """The delta at which |Z + delta| is beyond a limit with this power, Z normal, each of the limits equally likely.

    scipy's noncentral t is the same number for a t test, but NaN for some of the few degrees of freedom of few seeds.
    """
    if not 1 - level < power < 1:
        raise BadValue(f"power {power!r} given; expected a number between {1 - level:g} and 1, such as 0.8")

    def shortfall(delta: float) -> float:
        return float((special.ndtr(delta - limits) + special.ndtr(-delta - limits)).mean()) - power

    upper = float(np.median(limits)) + 1.0
    while shortfall(upper) < 0:
        upper *= 1.5
    return float(optimize.brentq(shortfall, 0.0, upper, xtol=1e-9))


EXACT = 50  # differences up to which Wilcoxon's distribution is enumerated, as scipy does where nothing is tied


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
