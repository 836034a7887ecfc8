"""Prompts crossed with training seeds: two-way variance components and a Satterthwaite t.

The cell y_sp is seed s's mean on prompt p, of S seeds and P prompts, and y_sp = mu + seed_s + prompt_p + residual_sp.
Every seed answers the same prompts, so the prompts are not nested in the seeds (METHODS, "Numbers with error bars").
With the mean squares MS_seed, MS_prompt, MS_res of the two-way table without replication,

    s2_res = MS_res,  s2_seed = (MS_seed - MS_res) / P,  s2_prompt = (MS_prompt - MS_res) / S
    Var(mean) = s2_seed / S + s2_prompt / P + s2_res / (S P) = (MS_seed + MS_prompt - MS_res) / (S P)
    df = (MS_seed + MS_prompt - MS_res)^2 / (MS_seed^2/(S-1) + MS_prompt^2/(P-1) + MS_res^2/((S-1)(P-1)))

(Satterthwaite 1946). Where a component comes out negative, MS_res is not subtracted, in the variance and in df: the
interval errs on the wide side. Simulated at 3 seeds x 150 prompts, a 95 % interval covers 92 to 99 %.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.compare import Difference, detectable_from_se, difference, effect_size
from rlhf_bench.stats.estimates import clopper_pearson, mean_estimate, ratio_estimate, share_estimate, std_estimate
from rlhf_bench.stats.resample import MIN_PROMPTS, FloatArray, check_level, excess_kurtosis, is_constant, nanmean
from rlhf_bench.stats.signed_rank import wilcoxon_p
from rlhf_bench.types import Estimate

METHOD = "crossed-t"


class _Parts(NamedTuple):
    value: float
    se: float
    df: float


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


def se_and_df(squares: MeanSquares, s: int, p: int) -> tuple[float, float]:
    """Standard error of the mean of S x P cells, and its degrees of freedom."""
    ms_seed, ms_prompt, ms_res = squares
    if ms_seed + ms_prompt < ms_res:  # seeds and prompts cancel more exactly than independent cells would
        return math.sqrt(ms_res / (s * p)), (s - 1) * (p - 1)
    if min(ms_seed, ms_prompt) < ms_res:
        ms_res = 0.0
    total = ms_seed + ms_prompt - ms_res
    df = total**2 / (ms_seed**2 / (s - 1) + ms_prompt**2 / (p - 1) + ms_res**2 / ((s - 1) * (p - 1)))
    return math.sqrt(total / (s * p)), df


def _parts(cells: FloatArray) -> _Parts:
    return _Parts(float(cells.mean()), *se_and_df(mean_squares(cells), *cells.shape))


def _check(values: FloatArray) -> FloatArray:
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
    values = _check(values)
    cells = complete(values)
    (s, n), n_missing = cells.shape, values.shape[1] - cells.shape[1]
    if s == 0 or n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, level, "none", s, values.shape[1])
    if all_alike(cells):
        return replace(mean_estimate(cells[0], level=level, seed=seed), n_seeds=s, n_missing=n_missing)
    if n < 2:
        return Estimate(float(cells.mean()), math.nan, math.nan, n, level, "none", s, n_missing)
    value, se, df = _parts(cells)
    half = float(stats.t.ppf(0.5 + level / 2, df)) * se
    kurtosis = excess_kurtosis(cells.mean(axis=0))
    return Estimate(value, value - half, value + half, n, level, METHOD, s, n_missing, kurtosis)


def crossed_share(samples: FloatArray, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Share of 1 among (S, P, K) responses of 0, 1 or NaN: `crossed` on the cells' shares, cut to [0, 1].

    As in `share_estimate`, Clopper-Pearson with n = prompts where fewer than 10 prompts differ from the others.
    """
    check_level(level)
    shares = nanmean(samples, axis=2)
    kept = np.isfinite(shares).any(axis=1)
    if kept.sum() == 1 or (kept.any() and all_alike(np.nan_to_num(samples[kept].reshape(int(kept.sum()), -1), nan=-1))):
        return replace(share_estimate(samples[kept][0], level=level, seed=seed), n_seeds=int(kept.sum()))
    estimate = crossed(shares, level=level, seed=seed)
    if estimate.n == 0:
        return estimate
    of_prompt = np.round(complete(shares).mean(axis=0), 12)
    if estimate.n - int(np.unique(of_prompt, return_counts=True)[1].max()) < MIN_PROMPTS:
        low, high, _, method = clopper_pearson(estimate.value, estimate.n, level=level)
        return replace(estimate, low=low, high=high, method=method)
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def crossed_ratio(
    numerators: FloatArray,
    denominators: FloatArray,
    *,
    exponentiate: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Ratios of sums over prompts, r_s = sum_p a_sp / sum_p b_sp, averaged over seeds; (S, P) each.

    The cells are the linearised values r_s + (a_sp - r_s b_sp) / mean_p b_sp, whose mean over prompts is r_s. With
    `exponentiate` the mean and its limits are exponentiated: the geometric mean of the seeds' perplexities, which is
    the perplexity of all tokens together where the seeds score the same texts.
    """
    check_level(level)
    a, b = _check(numerators), _check(denominators)
    if a.shape != b.shape:
        raise BadValue(f"numerators {a.shape} and denominators {b.shape} given; expected the same shape")
    a = np.where(b > 0, a, np.nan)
    seeds = np.isfinite(a).any(axis=1)
    a, b = a[seeds], b[seeds]
    if len(a) == 1:
        return ratio_estimate(a[0], b[0], exponentiate=exponentiate, level=level, seed=seed)
    there = np.isfinite(a).all(axis=0)
    a, b, n_missing = a[:, there], b[:, there], int((~there).sum())
    if a.size == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, level, "none", len(a), n_missing)
    if all_alike(a) and all_alike(b):
        one = ratio_estimate(a[0], b[0], exponentiate=exponentiate, level=level, seed=seed)
        return replace(one, n_seeds=len(a), n_missing=n_missing)
    r = a.sum(axis=1, keepdims=True) / b.sum(axis=1, keepdims=True)
    estimate = crossed(r + (a - r * b) / b.mean(axis=1, keepdims=True), level=level, seed=seed)
    estimate = replace(estimate, n_missing=n_missing)
    if not exponentiate:
        return estimate
    value, low, high = (float(np.exp(x)) for x in (estimate.value, estimate.low, estimate.high))
    return replace(estimate, value=value, low=low, high=high)


def crossed_std(samples: FloatArray, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Standard deviation (ddof 1) over the (S, P, K) responses of each seed, its geometric mean over the seeds.

    Each prompt under each seed has the linearised value log sd_s + (A_sp - var_s n_sp) / (2 var_s mean_p n_sp), with
    A_sp the sum of squared deviations from the seed's mean of its n_sp responses, as in `std_estimate`; their mean over
    prompts is log sd_s. `crossed` of these, exponentiated. One seed, or seeds that do not differ: `std_estimate`.
    """
    check_level(level)
    there: npt.NDArray[np.bool_] = np.asarray(np.isfinite(samples).any(axis=2))
    seeds = there.any(axis=1)
    kept = there[seeds].all(axis=0)
    y = samples[seeds][:, kept]  # (S, P, K)
    if len(y) < 2 or all_alike(np.nan_to_num(y.reshape(len(y), -1), nan=0.0)):
        one = std_estimate(y[0] if len(y) else np.empty((0, 1)), level=level, seed=seed)
        return replace(one, n_seeds=len(y), n_missing=int(samples.shape[1] - kept.sum()))
    cells = np.stack([_log_std_cells(of_seed) for of_seed in y])
    estimate = crossed(cells, level=level, seed=seed)
    value, low, high = (float(np.exp(x)) for x in (estimate.value, estimate.low, estimate.high))
    return replace(estimate, value=value, low=low, high=high, n_missing=int((~kept).sum()), kurtosis=None)


def _log_std_cells(y: FloatArray) -> FloatArray:
    """(P, K) responses of one seed -> (P,) linearised values of log sd (ddof 1); NaN where they do not vary."""
    finite = y[np.isfinite(y)]
    if len(finite) < 2 or is_constant(finite):
        return np.full(len(y), np.nan)
    sizes = np.isfinite(y).sum(axis=1)
    variance = float(finite.var())
    squares = np.nansum((y - finite.mean()) ** 2, axis=1)
    cells: FloatArray = math.log(finite.std(ddof=1)) + (squares - variance * sizes) / (2 * variance * sizes.mean())
    return cells


def crossed_difference(a: FloatArray, b: FloatArray, *, level: float = 0.95, seed: int = 0) -> Difference:
    """a - b within each seed, (S, P) per-cell means each, then `crossed`; p from the same t as the interval.

    Wilcoxon's test and the effect size are of each prompt's difference averaged over the seeds. One seed, or
    differences that are the same under every seed: `difference`.
    """
    check_level(level)
    a, b = _check(a), _check(b)
    if a.shape != b.shape:
        raise BadValue(f"shapes {a.shape} and {b.shape} given; expected the same seeds and prompts on both sides")
    d = complete(a - b)
    s = len(d)
    n = d.shape[1] if s else 0
    n_missing = a.shape[1] - n
    if all_alike(d):
        one = difference(d[0] if s else np.zeros(0), np.zeros(n), level=level, seed=seed)
        return replace(one, estimate=replace(one.estimate, n_seeds=s, n_missing=n_missing))
    estimate = replace(crossed(d, level=level, seed=seed), n_missing=n_missing)
    p = detectable = math.nan
    if n > 1:
        value, se, df = _parts(d)
        p = 2 * float(stats.t.sf(abs(value) / se, df))
        detectable = detectable_from_se(se, df, level=level)
    of_prompt = d.mean(axis=0)
    return Difference(estimate, p, wilcoxon_p(of_prompt), effect_size(of_prompt), detectable)
