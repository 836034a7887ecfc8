"""The accuracy that is promised of each pair by its margin and by what the labels pay for its features.

The promise is fitted to the same labels that accuracy is measured by, so it follows a part of their noise. Accuracy
less the promise has therefore a smaller error than accuracy alone; `Promise` keeps what is needed to calculate it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from rlhf_bench.audit.regression_fit import fit_logistic
from rlhf_bench.stats import FloatArray


class Promise(NamedTuple):
    probability: FloatArray  # (N,) that the side which the model prefers is the chosen one
    gradient: FloatArray  # (N, P) of the probability, by the parameters of the fit
    influence: FloatArray  # (N, P) of each pair on the parameters
    flip: FloatArray  # (N, P) what the parameters would lose if the pair's label were the other one

    def errors(self, residual: FloatArray, inside: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Each pair's influence on the mean residual of some pairs, (N,), and what a label is worth there, (N,).

        residual: right less promised, (N,); inside: 1 for the pairs of the mean, else 0, (N,).
        """
        n = inside.sum()
        moved = inside @ self.gradient / n
        influence = inside * (residual - (inside @ residual) / n) / n - self.influence @ moved
        return influence, inside / n - self.flip @ moved


def promised(margins: FloatArray, differences: FloatArray) -> Promise:
    """The probability that the preferred side of each pair is the chosen one: from its margin and its features.

    margins: chosen minus rejected (N,); differences: of features, one standard deviation each (N, K). The labels' logit
    is a * m + b * m / (1 + |m|) + c * (differences @ prices), with m the margin in root mean squares, the labels'
    prices of `regression.payments`, and a, b and c fitted: a noisy reward model's margin and the features' worth
    predict the label together, and large margins of a model that is too sure promise less than a straight line does.
    """
    n = len(margins)
    prices, price_influence, price_hessian = fit_logistic(differences, np.ones(n))
    m = margins / (float(np.sqrt(np.mean(margins**2))) or 1.0)
    x = np.column_stack([m, m / (1 + np.abs(m)), differences @ prices])  # (N, 3)
    slopes, slope_influence, slope_hessian = fit_logistic(x, np.ones(n))
    p = special.expit(x @ slopes)
    # the worth is fitted, too: how the prices move the slopes, (3, K)
    moved = -slopes[-1] * (x * (p * (1 - p))[:, None]).T @ differences / n
    moved[-1] += (1 - p) @ differences / n
    through = np.linalg.solve(slope_hessian, moved)
    price_flip = np.linalg.solve(price_hessian, differences.T).T / n
    slope_flip = np.linalg.solve(slope_hessian, x.T).T / n
    sign = np.sign(margins)[:, None]
    return Promise(
        np.where(margins == 0, 0.5, np.where(margins > 0, p, 1 - p)),
        sign * (p * (1 - p))[:, None] * np.column_stack([x, slopes[-1] * differences]),
        np.column_stack([slope_influence + price_influence @ through.T, price_influence]),
        sign * np.column_stack([slope_flip + price_flip @ through.T, price_flip]),
    )
