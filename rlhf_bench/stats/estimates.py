"""One model's number: a mean, a share, a standard deviation or a ratio of sums, each with its interval over prompts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import (
    LEVEL,
    MIN_PROMPTS,
    FloatArray,
    Interval,
    Values,
    bootstrap_t_interval,
    check_level,
    constant_interval,
    excess_kurtosis,
    is_constant,
    mean_interval,
    nanmean,
    prompt_means,
    ragged,
    resampled_sums,
    t_interval,
)
from rlhf_bench.types import Estimate


def _nothing(n_missing: int, level: float = LEVEL) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, 0, level, "none", 1, n_missing)


def mean_estimate(values_by_prompt: Values, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean over prompts, every prompt with equal weight.

    `values_by_prompt`: a number a prompt (n,), or the samples of each prompt, (n, K) or ragged, which are averaged
    first. A prompt without a finite value is left out and counted in `n_missing`.

    The interval is a bootstrap-t over prompts, since a percentile bootstrap is too narrow under heavy tails; below 10
    prompts a plain t; of zero width and method "constant" where all prompts agree (the KL of a model to itself).
    """
    check_level(level)
    means = prompt_means(values_by_prompt)
    x = means[np.isfinite(means)]
    if len(x) == 0:
        return _nothing(len(means), level)
    low, high, _, method = mean_interval(x, level=level, seed=seed)
    kurtosis = excess_kurtosis(x)
    return Estimate(float(x.mean()), low, high, len(x), level, method, 1, len(means) - len(x), kurtosis)


def share_estimate(samples_by_prompt: Values, *, seed: int = 0) -> Estimate:
    """Share of responses that are 1 (values are 0 or 1): the mean over prompts of each prompt's share.

    One sample a prompt: Wilson (1927), at every value. Several: bootstrap-t over prompts, clipped to [0, 1]; where all
    prompts agree, where fewer than 10 of them differ from the most frequent share, or with fewer than 10 prompts:
    Clopper-Pearson with n = prompts, which errs on the wide side (a prompt's share varies less than a 0/1 draw).

    Raises BadValue for values other than 0 and 1.
    """
    table = ragged(samples_by_prompt)
    there = np.isfinite(table)
    wrong = table[there & (table != 0) & (table != 1)]
    if wrong.size:
        raise BadValue(f"a share was given the value {float(wrong[0])!r}; expected 0 or 1; use mean_estimate")
    shares = nanmean(table, axis=1)
    x = shares[np.isfinite(shares)]
    n, n_missing = len(x), len(shares) - len(x)
    if n == 0:
        return _nothing(n_missing)
    value = float(x.mean())
    if there.sum(axis=1).max() == 1:
        low, high = stats.binomtest(round(float(x.sum())), n).proportion_ci(LEVEL, method="wilson")
        return Estimate(value, float(low), float(high), n, LEVEL, "wilson", 1, n_missing)
    differing = n - int(np.unique(x, return_counts=True)[1].max())
    interval = Interval(math.nan, math.nan, math.nan, "t")
    if n >= MIN_PROMPTS and differing >= MIN_PROMPTS:
        interval = mean_interval(x, level=LEVEL, seed=seed)
    if interval.method == "t":
        interval = clopper_pearson(value, n, level=LEVEL)
    return Estimate(value, max(0.0, interval.low), min(1.0, interval.high), n, LEVEL, interval.method, 1, n_missing)


def clopper_pearson(share: float, n: int, *, level: float) -> Interval:
    """Clopper & Pearson (1934) by the quantiles of the beta distribution, for any share of n, whole number or not."""
    k = share * n
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, k, n - k + 1)) if k > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return Interval(low, high, math.nan, "clopper-pearson")


def std_estimate(samples_by_prompt: Values, *, seed: int = 0) -> Estimate:
    """Standard deviation (ddof 1) over all responses; the interval resamples prompts with all their samples.

    A bootstrap-t on the log of the standard deviation; its standard error comes from the influence of each prompt:
    with A_i the sum of squared deviations of prompt i's n_i responses, var = sum A_i / sum n_i is a ratio, and
    se(log sd) = sqrt(n/(n-1) sum (A_i - var n_i)^2) / (2 var sum n_i).
    """
    table = ragged(samples_by_prompt)
    table = table[np.isfinite(table).any(axis=1)]
    n, n_missing = len(table), len(samples_by_prompt) - len(table)
    y = table[np.isfinite(table)]
    if len(y) < 2:
        return Estimate(math.nan, math.nan, math.nan, n, LEVEL, "none", 1, n_missing)
    value = float(y.std(ddof=1))
    if n < 2 or is_constant(y):
        low, high, _, method = constant_interval(value, n)
        return Estimate(value, low, high, n, LEVEL, method, 1, n_missing)
    z = (table - y.mean()) / value  # neither offset nor scale costs digits
    sizes = np.isfinite(z).sum(axis=1).astype(np.float64)
    features = np.column_stack([np.nansum(z**2, axis=1), np.nansum(z, axis=1), sizes])  # (n, 3): squares, sum, count
    log_sd, se = _log_std(features.sum(axis=0)[None], _products(features).sum(axis=0)[None], n)
    shift = math.log(value) - float(log_sd[0])  # from ddof 0 of z to ddof 1 of the responses

    def resample() -> tuple[FloatArray, FloatArray]:
        return _log_std(resampled_sums(features, seed=seed), resampled_sums(_products(features), seed=seed), n)

    interval = _interval_of(float(log_sd[0]), float(se[0]), n, resample, scale=1.0)
    low, high = math.exp(interval.low + shift), math.exp(interval.high + shift)
    return Estimate(value, low, high, n, LEVEL, interval.method, 1, n_missing)


def _products(features: FloatArray) -> FloatArray:
    """(n, 3) -> (n, 9): the products of each prompt's features, for sums of squares of their combinations."""
    return (features[:, :, None] * features[:, None, :]).reshape(len(features), 9)


def _log_std(sums: FloatArray, products: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """Sums over prompts of squares, sums and counts (B, 3), and of their products (B, 9) -> log sd, its se (B,)."""
    squares, total, count = sums.T
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 1e-300)
    # A_i - var n_i = squares_i - 2 mean sum_i + (mean^2 - var) n_i, a combination c of the three features
    c = np.column_stack([np.ones_like(mean), -2 * mean, mean**2 - variance])  # (B, 3)
    spread = (_products(c) * products).sum(axis=1)
    se = np.sqrt(np.maximum(spread, 0) * n / (n - 1)) / (2 * variance * count)
    return 0.5 * np.log(variance), se


def _interval_of(
    value: float,
    se: float,
    n: int,
    resample: Callable[[], tuple[FloatArray, FloatArray]],
    *,
    scale: float,
) -> Interval:
    """Bootstrap-t from `resample()`, or a plain t below 10 prompts, or zero width where prompts do not differ."""
    if se <= 1e-7 * scale:  # the square root of what rounding leaves
        return constant_interval(value, n)
    if n < MIN_PROMPTS:
        return t_interval(value, se, n - 1, level=LEVEL)
    values_b, ses_b = resample()
    return bootstrap_t_interval(value, se, n - 1, values_b, ses_b, level=LEVEL)


def ratio_estimate(
    numerators: Values,
    denominators: Values,
    *,
    exponentiate: bool = False,
    seed: int = 0,
) -> Estimate:
    """Ratio of sums over prompts, r = sum a_i / sum b_i; with `exponentiate`, exp(r) and its interval.

    Perplexity is exp(negative log-likelihood / tokens), `exponentiate=True`; bits per byte is -log2-likelihood /
    bytes. Bootstrap-t over prompts on r, with the linearised standard error
    se = sqrt(n/(n-1) sum (a_i - r b_i)^2) / sum b_i. A prompt is left out and counted if its a is not
    finite or its b not positive.
    """
    a, b = prompt_means(numerators), prompt_means(denominators)
    if a.shape != b.shape:
        raise BadValue(f"{len(a)} numerators and {len(b)} denominators given; expected one of each a prompt")
    there = np.isfinite(a) & np.isfinite(b) & (b > 0)
    n_missing = len(a) - int(there.sum())
    a, b = a[there], b[there]
    n = len(a)
    if n == 0:
        return _nothing(n_missing)
    r = float(a.sum() / b.sum())
    # with e = a - r b, a resample's ratio is r + sum e* / sum b*: nothing cancels where the prompts hardly differ
    e = a - r * b
    features, squares = np.column_stack([e, b]), np.column_stack([e * e, e * b, b * b])
    interval = constant_interval(r, n)
    if n > 1:
        se = float(_ratio(features.sum(axis=0)[None], squares.sum(axis=0)[None], n)[1][0])

        def resample() -> tuple[FloatArray, FloatArray]:
            shifts, ses = _ratio(resampled_sums(features, seed=seed), resampled_sums(squares, seed=seed), n)
            return r + shifts, ses

        interval = _interval_of(r, se, n, resample, scale=abs(r))
    value, low, high = r, interval.low, interval.high
    if exponentiate:
        value, low, high = float(np.exp(value)), float(np.exp(low)), float(np.exp(high))
    return Estimate(value, low, high, n, LEVEL, interval.method, 1, n_missing, excess_kurtosis(e))


def _ratio(sums: FloatArray, squares: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """Sums of e, b (B, 2) and of ee, eb, bb (B, 3) -> sum e / sum b and its standard error (B,)."""
    r = sums[:, 0] / sums[:, 1]
    spread = squares[:, 0] - 2 * r * squares[:, 1] + r**2 * squares[:, 2]
    return r, np.sqrt(np.maximum(spread, 0) * n / (n - 1)) / sums[:, 1]
