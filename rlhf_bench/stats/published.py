"""Differences of published means, of which only mean, standard deviation and number of prompts are known.

Unpaired: nothing says how the models' scores of one prompt go together. By the normal approximation throughout, since
a published table seldom has fewer than 30 prompts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy import special

from rlhf_bench.stats.resample import LEVEL
from rlhf_bench.types import Estimate


class PublishedMean(NamedTuple):
    """A model's row of a published table."""

    model: str
    mean: float
    sd: float  # over prompts
    n: int  # prompts


class PublishedDifference(NamedTuple):
    """A minus B."""

    estimate: Estimate  # n is the smaller of the two
    se: float
    p: float  # two-sided, of the unpaired z test
    correlation: float | None  # see `correlation_needed`


def published_difference(a: PublishedMean, b: PublishedMean) -> PublishedDifference:
    """a.mean - b.mean with its standard error sqrt(a.sd^2 / a.n + b.sd^2 / b.n), interval and p."""
    value, se = a.mean - b.mean, math.sqrt(a.sd**2 / a.n + b.sd**2 / b.n)
    half = float(special.ndtri(0.5 + LEVEL / 2)) * se
    p = 2.0 * float(special.ndtr(-abs(value) / se)) if se else (1.0 if value == 0 else 0.0)
    estimate = Estimate(value, value - half, value + half, min(a.n, b.n), LEVEL, "normal, unpaired")
    return PublishedDifference(estimate, se, p, correlation_needed(a, b))


def correlation_needed(a: PublishedMean, b: PublishedMean) -> float | None:
    """Correlation of two models' scores over the same prompts from which on their difference is significant.

        z sqrt((sa^2 + sb^2 - 2 r sa sb) / n) = |difference|   <=>
        r = (sa^2 + sb^2 - n (difference / z)^2) / (2 sa sb)

    At most 0: it is without any. Above 1: it never is. None where the numbers of prompts differ, so that there are no
    pairs, or where a standard deviation is 0.
    """
    if a.n != b.n or not a.sd or not b.sd:
        return None
    z = float(special.ndtri(0.5 + LEVEL / 2))
    return (a.sd**2 + b.sd**2 - a.n * ((a.mean - b.mean) / z) ** 2) / (2 * a.sd * b.sd)
