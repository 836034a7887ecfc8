"""Shares, ratios, standard deviations and z-scores of prompts crossed with training seeds.

None of them is a mean over prompts, so each prompt under each seed gets its linearised value: the number plus the
prompt's influence on it. The mean of these values is the number, and `crossed` has its interval.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import special

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.bounded import no_nearer_than_exact
from rlhf_bench.stats.crossed import METHOD, all_alike, as_cells, crossed
from rlhf_bench.stats.estimates import ratio_estimate, share_estimate, std_estimate
from rlhf_bench.stats.resample import LEVEL, FloatArray, is_constant, nanmean, resampled_sums
from rlhf_bench.types import Estimate

LOGIT = f"{METHOD}, logit"


def crossed_share(samples: FloatArray, *, seed: int = 0) -> Estimate:
    """Share of 1 among (S, P, K) responses of 0, 1 or NaN, prompts crossed with seeds.

    `crossed` of the cells' shares y on the scale of the logit, logit(m) + (y - m) / (m (1 - m)) with m their mean: near
    0 and 1 the shares of seeds are skewed, and an interval that is symmetric about m leaves the truth out on one side.
    Where fewer than 10 prompts differ from the others, it is at least that of Clopper and Pearson with n = prompts.
    """
    shares = nanmean(samples, axis=2)
    kept = np.isfinite(shares).any(axis=1)
    if kept.sum() == 1 or (kept.any() and all_alike(np.nan_to_num(samples[kept].reshape(int(kept.sum()), -1), nan=-1))):
        return replace(share_estimate(samples[kept][0], seed=seed), n_seeds=int(kept.sum()))
    estimate = crossed(shares, seed=seed)
    if estimate.n == 0:
        return estimate
    m = estimate.value
    if 0 < m < 1:
        logit = crossed(special.logit(m) + (shares - m) / (m * (1 - m)), seed=seed)
        low, high = float(special.expit(logit.low)), float(special.expit(logit.high))
        estimate = replace(estimate, low=low, high=high, method=LOGIT if logit.method == METHOD else logit.method)
    return no_nearer_than_exact(estimate, shares, method=LOGIT)


def crossed_ratio(
    numerators: FloatArray,
    denominators: FloatArray,
    *,
    exponentiate: bool = False,
    seed: int = 0,
) -> Estimate:
    """Ratios of sums over prompts, r_s = sum_p a_sp / sum_p b_sp, averaged over seeds; (S, P) each.

    The cells are the linearised values r_s + (a_sp - r_s b_sp) / mean_p b_sp; their mean over prompts is r_s. With
    `exponentiate` the mean and its limits are exponentiated: the geometric mean of the seeds' perplexities, which is
    the perplexity of all tokens together where the seeds score the same texts.
    """
    a, b = as_cells(numerators), as_cells(denominators)
    if a.shape != b.shape:
        raise BadValue(f"numerators {a.shape} and denominators {b.shape} given; expected the same shape")
    a = np.where(b > 0, a, np.nan)
    seeds = np.isfinite(a).any(axis=1)
    a, b = a[seeds], b[seeds]
    if len(a) == 1:
        return ratio_estimate(a[0], b[0], exponentiate=exponentiate, seed=seed)
    there = np.isfinite(a).all(axis=0)
    a, b, n_missing = a[:, there], b[:, there], int((~there).sum())
    if a.size == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, LEVEL, "none", len(a), n_missing)
    if all_alike(a) and all_alike(b):
        one = ratio_estimate(a[0], b[0], exponentiate=exponentiate, seed=seed)
        return replace(one, n_seeds=len(a), n_missing=n_missing)
    r = a.sum(axis=1, keepdims=True) / b.sum(axis=1, keepdims=True)
    estimate = crossed(r + (a - r * b) / b.mean(axis=1, keepdims=True), seed=seed)
    estimate = replace(estimate, n_missing=n_missing)
    if not exponentiate:
        return estimate
    value, low, high = (float(np.exp(x)) for x in (estimate.value, estimate.low, estimate.high))
    return replace(estimate, value=value, low=low, high=high)


def crossed_std(samples: FloatArray, *, reference: FloatArray | None = None, seed: int = 0) -> Estimate:
    """Standard deviation (ddof 1) over the (S, P, K) responses of each seed, its geometric mean over the seeds.

    Each prompt under each seed has the linearised value log sd_s + (A_sp - var_s n_sp) / (2 var_s mean_p n_sp), with
    A_sp the sum of squared deviations from the seed's mean of its n_sp responses, as in `std_estimate`; their mean over
    prompts is log sd_s. `crossed` of these, exponentiated. One seed, or seeds that do not differ: `std_estimate`.

    `reference` (S, P, K): the responses with the standard deviation that divided the samples under each seed, which is
    an estimate from the same prompts as well: its influence is subtracted.
    """
    there: npt.NDArray[np.bool_] = np.asarray(np.isfinite(samples).any(axis=2))
    if reference is not None:
        there &= np.isfinite(reference).any(axis=2)
    seeds = there.any(axis=1)
    kept = there[seeds].all(axis=0)
    y = samples[seeds][:, kept]  # (S, P, K)
    n_missing = int(samples.shape[1] - kept.sum())
    if not y.size or (reference is None and (len(y) < 2 or all_alike(np.nan_to_num(y.reshape(len(y), -1), nan=0.0)))):
        one = std_estimate(y[0] if len(y) else np.empty((0, 1)), seed=seed)
        return replace(one, n_seeds=len(y), n_missing=n_missing)
    cells = np.stack([_log_std_cells(of_seed) for of_seed in y])
    if reference is not None:
        of_reference = np.stack([_log_std_cells(of_seed) for of_seed in reference[seeds][:, kept]])
        cells -= of_reference - of_reference.mean(axis=1, keepdims=True)
    estimate = crossed(cells, seed=seed)
    value, low, high = (float(np.exp(x)) for x in (estimate.value, estimate.low, estimate.high))
    return replace(estimate, value=value, low=low, high=high, n_missing=n_missing, kurtosis=None)


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


def reference_z_cells(z: FloatArray, reference: FloatArray) -> FloatArray:
    """(S, P) linearised values of mean z-scores, standardised by the reference's mean and standard deviation.

    `z` (S, P, K) are a model's z-scores, `reference` (S, P, K) those of the responses that gave the mean and standard
    deviation (ddof 1) under each seed. Both are estimates from the same prompts: with z = (r - mean) / sd,

        z_sp - reference_sp - z_s L_sp        L_sp: see `scale_influence`

    The mean under each seed stays that of z. A difference of two models' cells is linearised as well: the reference's
    mean cancels. All 0 for the reference itself. NaN where either has no value.
    """
    cells = nanmean(z, axis=2)
    if np.array_equal(z, reference, equal_nan=True):
        return np.where(np.isfinite(cells), 0.0, np.nan)
    of_reference = nanmean(reference, axis=2)
    there = np.isfinite(cells) & np.isfinite(of_reference)
    found = np.full(cells.shape, np.nan)
    for s in np.flatnonzero(there.any(axis=1)):
        p = there[s]
        value = float(cells[s, p].mean())
        influence = of_reference[s] + value * _log_std_cells(reference[s])
        found[s, p] = cells[s, p] - (influence[p] - influence[p].mean())
    return found


def scale_influence(reference: FloatArray) -> FloatArray:
    """(S, P): each prompt's influence on the log of the standard deviation under each seed, of mean 0 over prompts.

    `reference` (S, P, K): the responses that it is the standard deviation of. NaN where a prompt has none, 0 where the
    responses do not vary.
    """
    found = np.full(reference.shape[:2], np.nan)
    for s, responses in enumerate(reference):
        there = np.isfinite(responses).any(axis=1)
        if there.any():
            cells = _log_std_cells(responses)[there]
            found[s, there] = 0.0 if np.isnan(cells).any() else cells - cells.mean()
    return found


def resampled_scale(reference: FloatArray, *, seed: int) -> FloatArray:
    """(S, B): the standard deviation under each seed in each resample of the prompts, over that of the data.

    `reference` (S, P, K): the responses that it is the standard deviation of. NaN in a resample of equal responses,
    which can occur with few prompts.
    """
    there = np.isfinite(reference)
    y = np.where(there, reference, 0.0)
    y = np.where(there, y - y.sum(axis=(1, 2), keepdims=True) / there.sum(axis=(1, 2), keepdims=True), 0.0)
    moments = np.stack([there.sum(axis=2), y.sum(axis=2), (y**2).sum(axis=2)], axis=-1)  # (S, P, 3)

    def deviation(sums: FloatArray) -> FloatArray:
        n, total, squares = np.moveaxis(sums, -1, 0)
        found: FloatArray = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))
        return found

    drawn = np.stack([deviation(resampled_sums(of_seed, seed=seed)) for of_seed in moments])
    relative: FloatArray = drawn / deviation(moments.sum(axis=1))[:, None]
    return np.where(relative > 0, relative, np.nan)


def scaled_cells(difference: FloatArray, reference: FloatArray) -> FloatArray:
    """(S, P) linearised values of a difference of z-scores that one reference standardised, whichever models they are.

    The reference's mean cancels in a difference d, its standard deviation does not: d_sp - d_s L_sp, with L of
    `scale_influence` of `reference` (S, P, K). The mean under each seed stays that of d, over the prompts with both.
    """
    found = np.full(difference.shape, np.nan)
    influence = scale_influence(np.where(np.isfinite(difference)[..., None], reference, np.nan))
    for s in np.flatnonzero(np.isfinite(influence).any(axis=1)):
        there = np.isfinite(influence[s])
        found[s, there] = difference[s, there] - difference[s, there].mean() * influence[s, there]
    return found
