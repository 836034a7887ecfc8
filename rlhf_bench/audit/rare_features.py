"""The price that labels pay for a feature which hardly any pair has more of on one of its sides, by a score test.

If all but a few of the pairs that differ in a feature agree about it, the labels' price is large or infinite, and its
standard error grows faster than the price does (Hauck & Donner 1977): Wald's test finds nothing, however many pairs
agree. The score test has its standard error at the price that is tested, where both are finite (Rao 1948), and the
prices that it does not reject are an interval, which may be open on one side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from rlhf_bench.audit.regression_fit import Index, critical_t, degrees_of_freedom, fit_logistic, sums_by_group
from rlhf_bench.stats import FloatArray

OPEN = 10.0  # logits for one standard deviation, where an open side of an interval is drawn


class Tested(NamedTuple):
    """A test that the labels' price is the model's over the attenuation, and what the labels' price may be."""

    labels: tuple[float, float]  # the interval of the labels' price
    difference: tuple[float, float]  # and of model - attenuation * labels
    p: float
    se: float  # of the difference, if the labels paid what the model does; NaN where no label could tell


def score_test(
    x: FloatArray,
    k: int,
    groups: Index,
    model: float,
    attenuation: float,
    model_influence: FloatArray,
    factor_influence: FloatArray,
) -> Tested:
    """Test column `k` of the differences x (N, K), chosen minus rejected, one standard deviation each.

    groups: the prompt of each pair (N,); labels of one prompt are taken to agree fully, which is the safe side. model:
    what the reward model pays; its influence and that of the attenuation: of each pair (N,).
    """
    others, column = np.delete(x, k, axis=1), x[:, k]
    degrees = degrees_of_freedom(groups[column != 0])
    critical = critical_t(degrees)

    def score(price: float, drift: FloatArray) -> tuple[float, float, float]:
        """The score of the labels' likelihood at that price, its standard error, and the information."""
        beta, _, hessian = fit_logistic(others, np.ones(len(x)), offset=price * column)
        p = special.expit(others @ beta + price * column)
        weight = p * (1 - p)
        own = column - others @ np.linalg.solve(hessian, others.T @ (weight * column) / len(x))
        information = float(weight @ (own * column))
        variance = (sums_by_group(own * np.sqrt(weight), groups) ** 2).sum()
        variance += (sums_by_group(information * drift, groups) ** 2).sum()
        return float(own @ (1 - p)), float(np.sqrt(variance)), information

    def of_labels(price: float) -> float:
        value, se, _ = score(price, np.zeros(len(x)))
        return value / max(se, 1e-300)

    def of_difference(price: float) -> float:
        value, se, _ = score(price, (model_influence - price * factor_influence) / attenuation)
        return value / max(se, 1e-300)

    same = model / attenuation
    value, se, information = score(same, (model_influence - same * factor_influence) / attenuation)
    low, high = _accepted(of_difference, critical)
    p = 2 * float(stats.t.sf(abs(value) / max(se, 1e-300), degrees))
    difference = (model - attenuation * high, model - attenuation * low)
    # beyond any price that the labels can tell from others there is no error of the difference
    spread = attenuation * se / information if information > 1e-6 else float("nan")
    return Tested(_accepted(of_labels, critical), difference, p, spread)


def _accepted(test: Callable[[float], float], critical: float) -> tuple[float, float]:
    """The prices from which and to which the test, which falls with the price, does not reject; at most OPEN."""
    ends = []
    for bound in (critical, -critical):
        at = [test(price) - bound for price in (-OPEN, OPEN)]
        if at[0] <= 0:
            ends.append(-OPEN)
        elif at[1] >= 0:
            ends.append(OPEN)
        else:
            ends.append(float(optimize.brentq(lambda price, bound=bound: test(price) - bound, -OPEN, OPEN, xtol=1e-3)))
    return ends[0], ends[1]
