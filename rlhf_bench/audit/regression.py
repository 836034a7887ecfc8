"""What a reward model pays for, beside what the labels pay for: two logistic regressions on feature differences.

Both have the features' differences (chosen minus rejected, one standard deviation each) as inputs and no intercept, so
that swapping the two sides changes nothing. The labels' has "chosen" as its outcome. The model's preference has no
noise and would separate, so its outcome is a share: sigmoid(margin / T), with T fitted on the labels (the fractional
logit, Papke & Wooldridge 1996). So both are in logits for one standard deviation.

A reward model that is right but noisy pays a bit less for everything. That is no fault in one feature: the labels'
coefficients are scaled by a common factor, the attenuation, before the two are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from rlhf_bench.audit.rare_features import score_test
from rlhf_bench.audit.regression_fit import (
    POWER,
    Index,
    critical_t,
    degrees_of_freedom,
    fit_logistic,
    groups_of,
    standard_errors,
)
from rlhf_bench.errors import BadValue
from rlhf_bench.stats import FloatArray

Mask = npt.NDArray[np.bool_]
MIN_PAIRS = 30
_TUKEY = 4.685  # standard errors from which a coefficient has no pull at all
COLLINEAR = 5.0  # a variance inflation factor from which a feature is called collinear
_MIN_PRESENT = 10  # pairs in which a feature must differ
_FEW = 10  # pairs in which either side has more of it, below which the labels' price has a score test


@dataclass(frozen=True)
class Coefficient:
    """One feature's price, in logits for one standard deviation of its difference."""

    feature: str
    sd: float  # root mean square of the difference, in the feature's own unit
    model: float
    model_low: float
    model_high: float
    labels: float
    labels_low: float
    labels_high: float
    difference: float  # model - attenuation * labels
    difference_low: float
    difference_high: float
    p: float
    detectable: float  # the smallest true difference that so many pairs show with 80 % power at p < .05
    inflation: float  # variance inflation factor

    @property
    def is_collinear(self) -> bool:
        return self.inflation >= COLLINEAR


@dataclass(frozen=True)
class Payments:
    temperature: float
    attenuation: float  # what the labels' coefficients are multiplied by before the two are compared
    n_pairs: int
    coefficients: list[Coefficient]


def fit_temperature(margins: FloatArray) -> float:
    """T > 0 under which sigmoid(margin / T) fits best that the chosen sides were chosen; inf for margins of 0."""
    scale = float(np.sqrt(np.mean(margins**2)))
    if scale == 0:
        return math.inf
    x = margins / scale

    def loss(log_slope: float) -> float:
        return float(-special.log_expit(math.exp(log_slope) * x).mean())

    found = optimize.minimize_scalar(loss, bounds=(-7.0, 7.0), method="bounded", options={"xatol": 1e-8})
    return scale / math.exp(float(found.x))


def usable(differences: FloatArray) -> Mask:
    """Which features differ in enough pairs to be looked at, (K,) of bool."""
    found: Mask = (differences != 0).sum(axis=0) >= _MIN_PRESENT
    return found


def payments(
    differences: FloatArray, margins: FloatArray, names: Sequence[str], prompts: Sequence[str], *, tested: bool = True
) -> Payments:
    """The price of each feature by the reward model and by the labels, and their difference.

    differences: features of chosen minus rejected, (N, K); margins: score of chosen minus rejected, (N,); prompts:
    what is resampled in effect: standard errors are summed by prompt (a sandwich estimate, with the estimation of T
    and of the attenuation in it). Features that differ in fewer than 10 pairs are left out; those of which either
    side has more in fewer than 10 pairs have a score test (`rare_features`) in place of Wald's, unless `tested`
    is False: prices alone need none.

    Raises BadValue for fewer than 30 pairs, or none of two different scores.
    """
    if len(margins) < MIN_PAIRS:
        raise BadValue(f"{len(margins)} pairs given; a regression of preferences needs {MIN_PAIRS} or more")
    temperature = fit_temperature(margins)
    if math.isinf(temperature):
        raise BadValue("both sides of every pair have the same score; expected scores that differ")
    kept = np.flatnonzero(usable(differences))
    raw = differences[:, kept]
    sd = np.sqrt(np.mean(raw**2, axis=0))
    x = raw / sd
    share = special.expit(margins / temperature)
    model, model_influence, model_hessian = fit_logistic(x, share)
    labels, labels_influence, _ = fit_logistic(x, np.ones(len(x)))
    model_influence = model_influence + _through_temperature(x, margins, temperature, model_hessian)
    groups = groups_of(prompts)
    more, less = (x > 0).sum(axis=0), (x < 0).sum(axis=0)
    few = np.minimum(more, less) < _FEW
    attenuation, factor_influence = _attenuation(
        model[~few], labels[~few], model_influence[:, ~few], labels_influence[:, ~few], groups
    )
    difference = model - attenuation * labels
    influence = model_influence - attenuation * labels_influence - np.outer(factor_influence, labels)
    # a feature's price is known by the prompts with responses that differ in it
    degrees = [degrees_of_freedom(groups[column != 0]) for column in x.T]
    t = np.array([critical_t(each) for each in degrees])
    se, model_se, labels_se = (standard_errors(of, groups) for of in (influence, model_influence, labels_influence))
    p: FloatArray = 2 * np.asarray(stats.t.sf(np.abs(difference) / se, degrees))
    labels_ends = np.stack([labels - t * labels_se, labels + t * labels_se])
    ends = np.stack([difference - t * se, difference + t * se])
    for i in np.flatnonzero(few).tolist() if tested else []:
        test = score_test(x, i, groups, float(model[i]), attenuation, model_influence[:, i], factor_influence)
        labels_ends[:, i], ends[:, i], p[i], se[i] = test.labels, test.difference, test.p, test.se
    inflation = _inflation(x)
    rows = [
        Coefficient(
            names[k], float(sd[i]),
            float(model[i]), float(model[i] - t[i] * model_se[i]), float(model[i] + t[i] * model_se[i]),
            float(labels[i]), float(labels_ends[0, i]), float(labels_ends[1, i]),
            float(difference[i]), float(ends[0, i]), float(ends[1, i]),
            float(p[i]), POWER * float(se[i]), float(inflation[i]),
        )
        for i, k in enumerate(kept.tolist())
    ]  # fmt: skip
    return Payments(temperature, attenuation, len(margins), rows)


def _through_temperature(x: FloatArray, margins: FloatArray, temperature: float, hessian: FloatArray) -> FloatArray:
    """How each pair moves the model's coefficients by moving T: (N, K)."""
    p = special.expit(margins / temperature)
    slope_hessian = float(np.mean(margins**2 * p * (1 - p)))
    slope_influence = margins * (1 - p) / max(slope_hessian, 1e-300) / len(margins)  # of 1 / T
    moved = np.linalg.solve(hessian, x.T @ (margins * p * (1 - p)) / len(margins))
    return np.outer(slope_influence, moved)


def _attenuation(
    model: FloatArray, labels: FloatArray, model_influence: FloatArray, labels_influence: FloatArray, groups: Index
) -> tuple[float, FloatArray]:
    """The factor a that fits the labels' coefficients to the model's, and its influence, (N,).

    It minimises the sum of Tukey's biweight loss of z = (model - a labels) / se(a). The standard error depends on a:
    the labels' coefficients have errors, too, and least squares with se held fixed would be drawn towards 0 by them. A
    feature that is paid for wrongly has no pull there, so that one fault does not pass for attenuation. It is at most
    1: at the temperature that fits the labels a model without noise pays what they pay, and a larger factor would make
    the standard errors so wide that nothing is distinguishable from them.
    """
    if not len(model):
        return 1.0, np.zeros(len(groups))
    own, other = (standard_errors(influence, groups) ** 2 for influence in (model_influence, labels_influence))
    both = standard_errors(model_influence + labels_influence, groups) ** 2
    shared = (both - own - other) / 2  # covariance of the two coefficients

    def spread(a: float) -> FloatArray:
        return np.asarray(np.sqrt(np.maximum(own - 2 * a * shared + a * a * other, 1e-300)))

    def loss(log_a: float) -> float:
        a = math.exp(log_a)
        z = (model - a * labels) / spread(a)
        return float(-((1 - np.minimum((z / _TUKEY) ** 2, 1.0)) ** 3).sum())

    grid = np.linspace(-3.0, 0.0, 31)
    start = float(grid[np.argmin([loss(point) for point in grid])])
    around = (start - 0.1, min(start + 0.1, 0.0))
    found = optimize.minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-7})
    a = math.exp(float(found.x))
    se = spread(a)
    z = (model - a * labels) / se
    slope = -labels / se - z * (a * other - shared) / se**2  # of z in a
    weight = slope * (1 - np.minimum((z / _TUKEY) ** 2, 1.0)) ** 2
    below = float((weight * slope).sum())
    influence = -(model_influence - a * labels_influence) @ (weight / se)
    return a, influence / below if below > 0 else np.zeros(len(groups))


def _inflation(x: FloatArray) -> FloatArray:
    """Variance inflation factor of each column, (K,): from the diagonal of the inverse of their Gram matrix.

    A millionth more on the diagonal gives a column that is a sum of others a large factor and no division by zero.
    """
    gram = x.T @ x / len(x)
    diagonal = np.diag(gram)
    return np.asarray(np.diag(np.linalg.inv(gram + 1e-6 * np.diag(diagonal))) * diagonal, dtype=np.float64)
