"""How good stated probabilities are: the Brier score, its parts, and the curve of what happened at each probability."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import FloatArray, check_level
from rlhf_bench.types import Estimate

__all__ = ["Brier", "ReliabilityPoint", "brier_score", "reliability_curve"]


class Brier(NamedTuple):
    """Brier (1950) score and its parts by Murphy (1973): score = reliability - resolution + uncertainty + within."""

    score: float  # mean of (probability - outcome)^2; 0 is best
    reliability: float  # how far a bin's outcomes are from its mean probability; 0 is calibrated
    resolution: float  # how far the bins' outcomes are from the outcome of all; more is better
    uncertainty: float  # variance of the outcomes
    within: float  # what the bins hide: 0 where all probabilities of a bin are equal


class ReliabilityPoint(NamedTuple):
    probability: float  # mean of what was stated in this bin
    outcome: Estimate  # share that happened, Wilson's interval


def brier_score(probabilities: FloatArray, outcomes: FloatArray, *, bins: int = 10) -> Brier:
    """The score of (n,) probabilities of (n,) outcomes of 0 or 1, and its parts over bins of equal width."""
    p, y = _checked(probabilities, outcomes, bins)
    reliability = resolution = 0.0
    for inside in _bins(p, bins):
        share = float(y[inside].mean())
        weight = float(inside.mean())
        reliability += weight * (float(p[inside].mean()) - share) ** 2
        resolution += weight * (share - float(y.mean())) ** 2
    score, uncertainty = float(((p - y) ** 2).mean()), float(y.var())
    return Brier(score, reliability, resolution, uncertainty, score - (reliability - resolution + uncertainty))


def reliability_curve(
    probabilities: FloatArray, outcomes: FloatArray, *, bins: int = 10, level: float = 0.95
) -> list[ReliabilityPoint]:
    """What happened in each of so many bins of equal width that is not empty, by rising probability."""
    check_level(level)
    p, y = _checked(probabilities, outcomes, bins)
    points = []
    for inside in _bins(p, bins):
        n, happened = int(inside.sum()), int(y[inside].sum())
        low, high = stats.binomtest(happened, n).proportion_ci(level, method="wilson")
        points.append(
            ReliabilityPoint(
                float(p[inside].mean()), Estimate(happened / n, float(low), float(high), n, level, "wilson")
            )
        )
    return points


def _bins(p: FloatArray, bins: int) -> list[np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """A mask for each bin that is not empty; 1 belongs to the last."""
    at = np.minimum((p * bins).astype(np.int64), bins - 1)
    return [at == b for b in np.unique(at)]


def _checked(probabilities: FloatArray, outcomes: FloatArray, bins: int) -> tuple[FloatArray, FloatArray]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape or not len(p):
        raise BadValue(f"probabilities {p.shape} and outcomes {y.shape} given; expected one of each for every response")
    if not ((p >= 0) & (p <= 1)).all() or not np.isin(y, (0.0, 1.0)).all():
        raise BadValue("a probability outside of 0 to 1, or an outcome other than 0 and 1 given; expected none")
    if bins < 1:
        raise BadValue(f"{bins} bins given; expected at least 1, such as 10")
    return p, y
