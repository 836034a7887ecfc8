"""A logistic regression of preferences without an intercept, and standard errors that allow for prompts.

Swapping the two sides of every pair changes no coefficient. Errors are a sandwich estimate: the influence of each pair
on the coefficients, summed by prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.resample import LEVEL

Index = npt.NDArray[np.intp]
_RIDGE = 1e-4  # per pair: keeps a coefficient finite where the labels separate
POWER = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))  # standard errors that are found with 80 % power at p < .05


def fit_logistic(
    x: FloatArray, share: FloatArray, *, offset: FloatArray | float = 0.0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Coefficients (K,), the influence of each pair on them (N, K), and the Hessian of the mean loss (K, K).

    offset: what is added to the logits of each pair, (N,). A residual is divided by 1 - leverage (HC3, MacKinnon &
    White 1985), since a pair draws the fit towards itself.
    """
    n, k = x.shape
    beta = np.zeros(k)
    for _ in range(100):
        p = special.expit(x @ beta + offset)
        hessian = (x * (p * (1 - p))[:, None]).T @ x / n + _RIDGE * np.eye(k)
        step = np.linalg.solve(hessian, x.T @ (share - p) / n - _RIDGE * beta)
        beta = beta + step * min(1.0, 5.0 / max(float(np.abs(step).max(initial=0.0)), 1e-300))
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    p = special.expit(x @ beta + offset)
    hessian = (x * (p * (1 - p))[:, None]).T @ x / n + _RIDGE * np.eye(k)
    leverage = (x * np.linalg.solve(hessian, x.T).T).sum(axis=1) * p * (1 - p) / n
    influence = np.linalg.solve(hessian, (x * ((share - p) / (1 - np.minimum(leverage, 0.9)))[:, None]).T).T / n
    return beta, influence, hessian


def groups_of(prompts: Sequence[str]) -> Index:
    """A number for each prompt, (N,)."""
    return np.asarray(np.unique(np.asarray(prompts, dtype=str), return_inverse=True)[1], dtype=np.intp)


def standard_errors(influence: FloatArray, groups: Index) -> FloatArray:
    """Standard errors (K,) from the influence of each pair (N, K), summed by prompt."""
    sums = sums_by_group(influence, groups)
    found: FloatArray = np.sqrt((sums**2).sum(axis=0) * len(sums) / max(len(sums) - 1, 1))
    return np.maximum(found, 1e-300)


def degrees_of_freedom(groups: Index) -> int:
    """Of a number that pairs of these prompts tell: the prompts less one, and at least 1."""
    return max(len(np.unique(groups)) - 1, 1)


def critical_t(degrees: float) -> float:
    """The standard errors on either side of a 95 % interval."""
    return float(stats.t.ppf((1 + LEVEL) / 2, degrees))


def sums_by_group(values: FloatArray, groups: Index) -> FloatArray:
    """The sum of each prompt's pairs: (G,) or (G, K)."""
    sums = np.zeros((int(groups.max()) + 1, *values.shape[1:]))
    np.add.at(sums, groups, values)
    return sums
