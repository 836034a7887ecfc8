"""Prompts crossed with training seeds: an interval and a test that allow for new seeds and new prompts.

The cell y_sp is seed s's mean on prompt p, of S seeds and P prompts, and y_sp = mu + seed_s + prompt_p + residual_sp.
Every seed answers the same prompts, so the prompts are not nested in the seeds.
With the mean squares MS_seed, MS_prompt, MS_res of the two-way table without replication, the variance of the mean is
that of two parts,

    seeds, with their responses   MS_seed / (S P)                      S - 1 degrees of freedom
    prompts                       max(MS_prompt - MS_res, 0) / (S P)

and of each part a limit is known: Student's t over the seeds' means, and the bootstrap-t over the prompts' means. Their
distances from the mean are combined as sqrt(d_seeds^2 + d_prompts^2) (Howe 1974; Graybill & Wang 1980), and the limit
is never nearer than that of the prompts alone, the seeds being taken as they are. p is the largest error rate at which
the interval still holds the null value. Degrees of freedom by Satterthwaite (1946), estimated from two or three seeds,
give p < .001 fifteen times too often; this test keeps its level in the tail too (docs/coverage.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import special

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.compare import Difference, chi2_middles, difference, smallest_found
from rlhf_bench.stats.estimates import mean_estimate
from rlhf_bench.stats.resample import (
    FloatArray,
    Interval,
    Pivots,
    check_level,
    excess_kurtosis,
    is_constant,
    mean_pivots,
)
from rlhf_bench.types import Estimate

METHOD = "crossed-t"


class MeanSquares(NamedTuple):
    seed: float
    prompt: float
    residual: float


def mean_squares(cells: FloatArray) -> MeanSquares:
    """The two-way table's mean squares, of (S, P) cells, all finite, S and P at least 2."""
    s, p = cells.shape
    value = float(cells.mean())
    of_seed, of_prompt = cells.mean(axis=1) - value, cells.mean(axis=0) - value
    ms_seed = p * float((of_seed**2).sum()) / (s - 1)
    ms_prompt = s * float((of_prompt**2).sum()) / (p - 1)
    residual = cells - value - of_seed[:, None] - of_prompt[None, :]
    return MeanSquares(ms_seed, ms_prompt, float((residual**2).sum()) / ((s - 1) * (p - 1)))


class Spread(NamedTuple):
    """Standard errors of the mean of S x P cells, by what is drawn again."""

    seeds: float  # sqrt(MS_seed / (S P)): the seeds, with the responses that they give
    prompts: float  # sqrt(max(MS_prompt - MS_res, 0) / (S P)): the prompts, beyond the responses
    prompts_alone: float  # sqrt(max(MS_prompt, MS_res) / (S P)): prompts and responses, of the same seeds

    @property
    def both(self) -> float:
        """Standard error with new seeds and new prompts."""
        return max(math.hypot(self.seeds, self.prompts), self.prompts_alone)


def spread_of(squares: MeanSquares, s: int, p: int) -> Spread:
    """Of S x P cells; elementwise, so that a simulation may give arrays of mean squares."""
    of_prompts = np.maximum(squares.prompt - squares.residual, 0.0)
    alone = np.maximum(squares.prompt, squares.residual)
    return Spread(*(np.sqrt(square / (s * p)) for square in (squares.seed, of_prompts, alone)))


def distances(spread: Spread, s: int, pivots: Pivots, tail: float) -> tuple[float, float]:
    """How far below and above the mean the limits lie, with this probability on each side; elementwise."""
    of_seeds = -special.stdtrit(s - 1, tail) * spread.seeds
    below, above = (
        np.maximum(q * spread.prompts_alone, np.hypot(of_seeds, max(q, 0.0) * spread.prompts))
        for q in pivots.limits(tail)
    )
    return below, above


def crossed_interval(cells: FloatArray, *, level: float, seed: int) -> Interval:
    """Interval and test of the mean of (S, P) cells, all finite, S and P at least 2, seeds that differ."""
    s, p = cells.shape
    value, of_prompt = float(cells.mean()), cells.mean(axis=0)
    found = spread_of(mean_squares(cells), s, p)
    pivots = Pivots(p - 1) if is_constant(of_prompt) else mean_pivots(of_prompt, seed=seed)
    if pivots.drawn is not None and not np.isfinite(pivots.drawn).all():  # some resamples have no spread
        pivots = Pivots(p - 1)
    below, above = distances(found, s, pivots, (1 - level) / 2)
    side = 0 if value > 0 else 1

    def excluded(tail: float) -> bool:
        return bool(distances(found, s, pivots, tail)[side] < abs(value))

    return Interval(float(value - below), float(value + above), 2 * _smallest(excluded), METHOD)


def _smallest(excluded: Callable[[float], bool]) -> float:
    """The smallest tail, of at most 0.5, at which the interval leaves out 0."""
    if not excluded(0.5):
        return 0.5
    low, high = math.log(1e-300), math.log(0.5)
    for _ in range(64):  # halves: to the last digit of log 1e-300
        middle = (low + high) / 2
        low, high = (low, middle) if excluded(math.exp(middle)) else (middle, high)
    return math.exp(high)


def crossed_detectable(spread: Spread, s: int, p: int, *, level: float, power: float = 0.8) -> float:
    """Smallest true mean found with this power if the spread of seeds and prompts is the true one."""
    tail = (1 - level) / 2
    of_seeds, of_prompts = (float(-special.stdtrit(df, tail)) for df in (s - 1, p - 1))
    estimated = np.sqrt(chi2_middles(s - 1) / (s - 1)) * spread.seeds
    limits = np.maximum(of_prompts * spread.prompts_alone, np.hypot(of_seeds * estimated, of_prompts * spread.prompts))
    return float(spread.both) * smallest_found(limits / spread.both, level=level, power=power)


def as_cells(values: FloatArray) -> FloatArray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2:
        raise BadValue(f"values of shape {values.shape} given; expected (seeds, prompts)")
    return values


def complete(values: FloatArray) -> FloatArray:
    """(S, P) -> the seeds that have any value, and of those the prompts that every one of these seeds has."""
    there = np.isfinite(values)
    seeds = there.any(axis=1)
    kept: FloatArray = values[seeds][:, there[seeds].all(axis=0)]
    return kept


def all_alike(cells: FloatArray) -> bool:
    """True if the seeds do not differ at all: one seed, or responses that were never trained."""
    return len(cells) < 2 or bool((cells == cells[0]).all())


def crossed(values: FloatArray, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean of (S, P) per-cell means, prompts crossed with training seeds; `n` counts prompts, `n_seeds` seeds.

    One seed, or seeds that do not differ at all: `mean_estimate` of the prompts. A prompt that is missing (NaN) under
    some seed is left out and counted; a seed without any value is left out of `n_seeds`.
    """
    check_level(level)
    values = as_cells(values)
    cells = complete(values)
    (s, n), n_missing = cells.shape, values.shape[1] - cells.shape[1]
    if s == 0 or n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, level, "none", s, values.shape[1])
    if all_alike(cells):
        return replace(mean_estimate(cells[0], level=level, seed=seed), n_seeds=s, n_missing=n_missing)
    if n < 2:
        return Estimate(float(cells.mean()), math.nan, math.nan, n, level, "none", s, n_missing)
    return _estimate(cells, crossed_interval(cells, level=level, seed=seed), level=level, n_missing=n_missing)


def _estimate(cells: FloatArray, interval: Interval, *, level: float, n_missing: int) -> Estimate:
    s, n = cells.shape
    kurtosis = excess_kurtosis(cells.mean(axis=0))
    value = float(cells.mean())
    return Estimate(value, interval.low, interval.high, n, level, interval.method, s, n_missing, kurtosis)


def crossed_difference(a: FloatArray, b: FloatArray, *, level: float = 0.95, seed: int = 0) -> Difference:
    """a - b within each seed, (S, P) per-cell means each, then `crossed`; p from the same test as the interval.

    Wilcoxon's test and the effect size know no seeds, so several that differ have neither (None, NaN). One seed, or
    differences that are the same under every seed: `difference`.
    """
    check_level(level)
    a, b = as_cells(a), as_cells(b)
    if a.shape != b.shape:
        raise BadValue(f"shapes {a.shape} and {b.shape} given; expected the same seeds and prompts on both sides")
    d = complete(a - b)
    s = len(d)
    n = d.shape[1] if s else 0
    n_missing = a.shape[1] - n
    if all_alike(d):
        one = difference(d[0] if s else np.zeros(0), np.zeros(n), level=level, seed=seed)
        return replace(one, estimate=replace(one.estimate, n_seeds=s, n_missing=n_missing))
    if n < 2:
        none = replace(crossed(d, level=level, seed=seed), n_missing=n_missing)
        return Difference(none, math.nan, None, math.nan, math.nan)
    interval = crossed_interval(d, level=level, seed=seed)
    detectable = crossed_detectable(spread_of(mean_squares(d), s, n), s, n, level=level)
    estimate = _estimate(d, interval, level=level, n_missing=n_missing)
    return Difference(estimate, interval.p, None, math.nan, detectable)
