"""Pearson's correlation of two numbers of each response, prompts resampled with all their samples."""

from __future__ import annotations

import math

import numpy as np

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import (
    LEVEL,
    MIN_PROMPTS,
    FloatArray,
    Values,
    bootstrap_t_interval,
    is_constant,
    ragged,
    resampled_sums,
    t_interval,
)
from rlhf_bench.types import Estimate

_LIMIT = 1 - 1e-12  # a correlation of 1 has no Fisher z


def correlation_estimate(x: Values, y: Values, *, seed: int = 0) -> Estimate:
    """Pearson's r over all responses; x and y (n,) or (n, K), the same prompts and samples. Ranks give Spearman's.

    A bootstrap-t over prompts on Fisher's z = atanh r; below 10 prompts a plain t. The standard error comes from the
    prompts' influence: with standardised u, v a response adds u v - r (u^2 + v^2) / 2 (Devlin et al. 1975), and
    se(z) = sqrt(n / (n - 1) sum_i (its prompt's sum)^2) / (responses (1 - r^2)).
    """
    a, b = ragged(x), ragged(y)
    if a.shape != b.shape:
        raise BadValue(f"values of shapes {a.shape} and {b.shape} given; expected the same responses twice")
    there = np.isfinite(a) & np.isfinite(b)
    kept = there.any(axis=1)
    a, b, there = a[kept], b[kept], there[kept]
    n, n_missing = len(a), int((~kept).sum())
    if n < 2 or is_constant(a[there]) or is_constant(b[there]):
        return Estimate(math.nan, math.nan, math.nan, n, LEVEL, "none", 1, n_missing)
    u, v = (np.where(there, (t - t[there].mean()) / t[there].std(), 0.0) for t in (a, b))
    parts = (u * u, v * v, u * v, u, v, there.astype(np.float64))
    features = np.column_stack([part.sum(axis=1) for part in parts])  # (n, 6)
    products = (features[:, :, None] * features[:, None, :]).reshape(n, 36)
    z, se = _fisher(features.sum(axis=0)[None], products.sum(axis=0)[None], n)
    value = float(np.tanh(z[0]))
    if abs(value) > 1 - 1e-9 or se[0] < 1e-9:  # every prompt says the same: nothing tells how far it is from the truth
        return Estimate(value, math.nan, math.nan, n, LEVEL, "none", 1, n_missing)
    if n < MIN_PROMPTS:
        interval = t_interval(float(z[0]), float(se[0]), n - 1, level=LEVEL)
    else:
        z_b, se_b = _fisher(resampled_sums(features, seed=seed), resampled_sums(products, seed=seed), n)
        interval = bootstrap_t_interval(float(z[0]), float(se[0]), n - 1, z_b, se_b, level=LEVEL)
    low, high = math.tanh(interval.low), math.tanh(interval.high)
    return Estimate(value, low, high, n, LEVEL, interval.method, 1, n_missing)


def _fisher(sums: FloatArray, products: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """Sums over prompts of uu, vv, uv, u, v, 1 (B, 6) and of their products (B, 36) -> Fisher's z and its se (B,)."""
    uu, vv, uv, u, v, count = (column / sums[:, 5] for column in sums.T)
    total = sums[:, 5]
    var_u, var_v = np.maximum(uu - u * u, 1e-300), np.maximum(vv - v * v, 1e-300)
    scale = np.sqrt(var_u * var_v)
    r = np.clip((uv - u * v) / scale, -_LIMIT, _LIMIT)
    # (u - mu)(v - mv) / scale - r/2 ((u - mu)^2 / var_u + (v - mv)^2 / var_v), as a combination of the six features
    p, q, s = -r / (2 * var_u), -r / (2 * var_v), 1 / scale
    c = np.column_stack([p, q, s, -2 * p * u - s * v, -2 * q * v - s * u, p * u * u + q * v * v + s * u * v])
    spread = ((c[:, :, None] * c[:, None, :]).reshape(len(c), 36) * products).sum(axis=1)
    return np.arctanh(r), np.sqrt(np.maximum(spread, 0.0) * n / (n - 1)) / (total * (1 - r * r) * count)
