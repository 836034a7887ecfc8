"""Gold reward against distance from the reference: two functional forms, their turning point, reward at equal KL.

Gao, Schulman & Hilton 2022, arXiv 2210.10760: with d = sqrt(KL), the gold reward gained is

    best-of-n   d (alpha - beta d)        which turns at d = alpha / (2 beta),       KL = alpha^2 / (4 beta^2)
    RL          d (alpha - beta log d)    which turns at log d = alpha / beta - 1,   KL = exp(2 (alpha / beta - 1))

Both are linear in alpha and beta. The fit says nothing beyond the largest KL that was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import linalg

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.pigeonhole import resampled_means
from rlhf_bench.stats.resample import LEVEL, TAILS, FloatArray
from rlhf_bench.types import Estimate

Form = Literal["rl", "best-of-n"]


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients with percentile intervals over resampled prompts."""

    form: Form
    alpha: Estimate
    beta: Estimate
    turning_kl: Estimate | None  # nats; None where beta <= 0, or where the curve turns beyond the data
    turns_share: float  # share of resamples with a curve that turns within the data
    largest_kl: float  # of the data: the fit says nothing beyond it


def _columns(d: FloatArray, form: Form) -> FloatArray:
    """(..., C) -> (..., C, 2): what alpha and beta are multiplied with."""
    second = d**2 if form == "best-of-n" else d * np.log(np.where(d > 0, d, 1.0))  # d log d is 0 at 0
    return np.stack([d, -second], axis=-1)


def gold_gain(kl: FloatArray, alpha: float, beta: float, *, form: Form) -> FloatArray:
    """The form's gold reward gained at `kl` nats, any shape."""
    gain: FloatArray = _columns(np.sqrt(kl), form) @ np.array([alpha, beta])
    return gain


def turning_point(alpha: float, beta: float, *, form: Form) -> float | None:
    """KL in nats at which the form is largest; None where it never turns (beta <= 0, or falling from the start)."""
    if beta <= 0 or (form == "best-of-n" and alpha <= 0):
        return None
    return alpha**2 / (4 * beta**2) if form == "best-of-n" else math.exp(min(700.0, 2 * (alpha / beta - 1)))


def _coefficients(kl: FloatArray, gain: FloatArray, form: Form) -> FloatArray:
    """(C,), (C,) -> alpha, beta by least squares."""
    solved, *_ = linalg.lstsq(_columns(np.sqrt(np.maximum(kl, 0.0)), form), gain)
    coefficients: FloatArray = np.asarray(solved, dtype=np.float64)
    return coefficients


def fit_overoptimisation(kl: FloatArray, gain: FloatArray, *, form: Form, seed: int = 0) -> Fit:
    """Fit one form to the C points of a curve (checkpoints, betas, n) by least squares on their means.

    `kl`, `gain` (C, S, P): each point's exact KL and its gold reward minus the reference's, per seed and prompt, all
    finite. Prompts are resampled for all points at once, and seeds crossed with them; the intervals are percentiles.

    Raises BadValue for fewer than 3 points, or no two different KLs above 0.
    """
    if kl.ndim != 3 or kl.shape != gain.shape or len(kl) < 3:
        raise BadValue(
            f"points of shapes {kl.shape} and {gain.shape} given; expected (points, seeds, prompts), 3 or more"
        )
    c, s, p = kl.shape
    x, y = kl.mean(axis=(1, 2)), gain.mean(axis=(1, 2))
    if len(np.unique(x[x > 0])) < 2:
        raise BadValue(f"points at the KLs {x.tolist()} given; expected at least two different ones above 0")
    means = resampled_means(np.moveaxis(np.concatenate([kl, gain]), 0, 2), seed=seed)  # (B, 2 C)
    drawn = np.array([_coefficients(row[:c], row[c:], form) for row in means])  # (B, 2)
    alpha, beta = (float(v) for v in _coefficients(x, y, form))
    largest = float(x.max())
    turns = [
        _within(turning_point(a, b, form=form), float(row[:c].max())) for (a, b), row in zip(drawn, means, strict=True)
    ]
    inside = np.array([t for t in turns if t is not None])
    turning = _within(turning_point(alpha, beta, form=form), largest)

    def estimate(value: float, values: FloatArray) -> Estimate:
        low, high = np.quantile(values, TAILS) if p > 1 else (math.nan, math.nan)
        return Estimate(value, float(low), float(high), p, LEVEL, "bootstrap", s)

    return Fit(
        form,
        estimate(alpha, drawn[:, 0]),
        estimate(beta, drawn[:, 1]),
        estimate(turning, inside) if turning is not None and len(inside) else None,
        len(inside) / len(turns),
        largest,
    )


def _within(kl: float | None, largest: float) -> float | None:
    return kl if kl is not None and kl <= largest else None


class AtKl(NamedTuple):
    """A curve at one KL."""

    cells: FloatArray  # (S, P), linearised in the neighbours' KLs: their mean is the reward there
    slope: float  # reward a nat


def curve_at(kl: FloatArray, reward: FloatArray, at: float) -> AtKl | None:
    """A curve of C points at `at` nats, linear between its neighbours in KL; None outside the data.

    `kl`, `reward` (C, S, P), all finite. A neighbour's uncertain KL counts as well as its uncertain reward.
    """
    x, y = kl.mean(axis=(1, 2)), reward.mean(axis=(1, 2))
    order = np.argsort(x, kind="stable")
    if len(order) == 0 or not x[order[0]] <= at <= x[order[-1]]:
        return None
    right = min(max(int(np.searchsorted(x[order], at)), 1), len(order) - 1)
    i, j = order[right - 1], order[right]
    gap = x[j] - x[i]
    share = (at - x[i]) / gap if gap > 0 else 0.0
    slope = float((y[j] - y[i]) / gap) if gap > 0 else 0.0
    # d value / d x_i = -slope (1 - share), d value / d x_j = -slope share
    cells = (1 - share) * (reward[i] - slope * (kl[i] - x[i])) + share * (reward[j] - slope * (kl[j] - x[j]))
    return AtKl(cells, slope)
