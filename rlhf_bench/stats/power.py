"""How many prompts a difference needs."""

from __future__ import annotations

import math

from scipy import stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.compare import detectable_from_se
from rlhf_bench.stats.crossed import all_alike, complete, crossed_detectable, mean_squares, spread_of
from rlhf_bench.stats.resample import LEVEL, FloatArray, is_constant

MOST_PROMPTS = 10_000_000


def prompts_needed(differences: FloatArray, difference: float, *, power: float = 0.8) -> int | None:
    """The fewest prompts with which a true mean difference of this size is found with this power, paired, at 5 %.

    `differences` (S, P): a pilot's differences under each seed; their variance components count as the truth. One
    seed, or seeds that do not differ: the paired t test. Several: the same seeds on more prompts. None where no number
    of prompts suffices, since the seeds differ too much: then only more seeds help, or where there is no variance to go
    by (fewer than 2 prompts, or all alike).

    Raises BadValue for a difference that is not above 0.
    """
    if not 0 < difference < math.inf:
        raise BadValue(f"a difference of {difference!r} given; expected a number above 0, in the metric's own unit")
    d = complete(differences)
    if d.shape[0] == 0 or d.shape[1] < 2 or is_constant(d):
        return None
    s, p = d.shape
    squares = None if all_alike(d) else mean_squares(d)
    sd = float(d[0].std(ddof=1))

    def enough(n: int) -> bool:
        spread = None
        if squares is not None:  # the standard errors expected of S seeds x n prompts
            of_seed = max(0.0, squares.seed - squares.residual) / p
            spread = spread_of(squares._replace(seed=n * of_seed + squares.residual), s, n)
        se = sd / math.sqrt(n) if spread is None else spread.both
        if se * float(stats.norm.ppf(power)) > difference:  # a lower bound first: the exact one is costly
            return False
        if spread is None:
            return detectable_from_se(se, n - 1, level=LEVEL, power=power) <= difference
        return crossed_detectable(spread, s, n, level=LEVEL, power=power) <= difference

    high = 2
    while not enough(high):
        high *= 2
        if high > MOST_PROMPTS:
            return None
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
