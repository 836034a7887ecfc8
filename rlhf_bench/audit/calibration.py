"""Is a reward model as sure as it is right?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from rlhf_bench.audit.pairs import accuracy, mean_over_prompts, right
from rlhf_bench.audit.regression import fit_temperature
from rlhf_bench.audit.regression_fit import Index, groups_of
from rlhf_bench.stats import FloatArray
from rlhf_bench.types import Estimate

BINS = 10
_DRAWS = 4000
DEFINITION = (
    "p = sigmoid(|score of chosen - score of rejected|), the probability that the model gives to the side it prefers; "
    "share_chosen = how often that side is the chosen one; ten bins of p from 0.5 to 1. Counting each pair in both "
    "orders over [0, 1] would only add the mirror image of these bins and give the same expected calibration error"
)


@dataclass(frozen=True)
class Bin:
    low: float
    high: float
    n: int  # pairs
    mean_predicted: float | None  # None where the bin is empty
    share_chosen: float | None  # likewise
    share: Estimate  # the same over prompts


@dataclass(frozen=True)
class Brier:
    """Mean squared error of p against "the preferred side is the chosen one", and its parts over the bins.

    Murphy 1973: score = reliability - resolution + uncertainty, exactly where all p of a bin are equal.
    """

    score: float
    reliability: float  # mean over pairs of (mean_predicted - share_chosen)^2 of their bin
    resolution: float  # mean over pairs of (share_chosen - accuracy)^2
    uncertainty: float  # accuracy * (1 - accuracy)


@dataclass(frozen=True)
class Calibration:
    n: int  # pairs
    bins: list[Bin]
    ece: Estimate  # expected calibration error: mean over pairs of |share_chosen - mean_predicted| of their bin
    brier: Brier
    brier_score: Estimate  # over prompts
    overconfidence: Estimate  # mean of p - "the preferred side is the chosen one": above 0 where it is too sure
    temperature: float  # T > 0 at which sigmoid(difference / T) fits the labels best; above 1 where it is too sure


def calibration(differences: FloatArray, prompts: Sequence[str]) -> Calibration:
    """Is the model as sure as it is right? Of score differences, chosen minus rejected, (N,), N >= 1; see DEFINITION.

    Guo et al. 2017 (arXiv:1706.04599), eq. 3, for the two-way choice between the sides of a pair.
    """
    predicted = special.expit(np.abs(differences))
    correct = right(differences)
    excess = predicted - correct
    edges = np.linspace(0.5, 1.0, BINS + 1)
    at = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, BINS - 1)
    bins = []
    for k in range(BINS):
        index = np.flatnonzero(at == k)
        share = accuracy(correct[None, index], [prompts[i] for i in index.tolist()]) if len(index) else _EMPTY
        mean, chosen = (float(predicted[index].mean()), share.value) if len(index) else (None, None)
        bins.append(Bin(round(float(edges[k]), 6), round(float(edges[k + 1]), 6), len(index), mean, chosen, share))
    groups = groups_of(prompts)
    return Calibration(
        len(differences), bins, _expected_error(excess, at, groups), _brier(predicted, correct, at),
        mean_over_prompts(excess**2, groups), mean_over_prompts(excess, groups), fit_temperature(differences),
    )  # fmt: skip


def _expected_error(excess: FloatArray, at: Index, groups: Index) -> Estimate:
    """The sum over bins of |c|, c being the sum of a bin's excesses over N; (N,) each: p - right, bin, prompt.

    Chance makes each |c| larger and never smaller in the mean. So the lower end is the value less the 97.5th percentile
    of the sum of |error of c|, which bounds how far chance can have raised it (triangle inequality), at least 0; the
    upper end adds 1.96 standard errors of the sum of sign * c. Both ends are safe: together they cover 95 % or more.
    """
    n_groups = int(groups.max()) + 1
    sums = np.zeros((n_groups, BINS))
    np.add.at(sums, (groups, at), excess / len(excess))
    of_bins = sums.sum(axis=0)
    covariance = np.cov(sums, rowvar=False) * n_groups if n_groups > 1 else np.zeros((BINS, BINS))
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(BINS), covariance, size=_DRAWS, method="eigh")
    value, signs = float(np.abs(of_bins).sum()), np.sign(of_bins)
    raised = float(np.quantile(np.abs(draws).sum(axis=1), 0.975))
    se = math.sqrt(max(float(signs @ covariance @ signs), 0.0))
    return Estimate(value, max(0.0, value - raised), min(1.0, value + 1.959964 * se), n_groups, method="simultaneous")


def _brier(predicted: FloatArray, correct: FloatArray, at: Index) -> Brier:
    """The score and its parts, (N,) each: p, right or wrong, and the bin."""
    n = np.bincount(at, minlength=BINS)
    filled = n > 0
    share, mean = (np.bincount(at, weights=w, minlength=BINS)[filled] / n[filled] for w in (correct, predicted))
    weight, accuracy_ = n[filled] / len(at), float(correct.mean())
    return Brier(
        float(((predicted - correct) ** 2).mean()),
        float((weight * (mean - share) ** 2).sum()),
        float((weight * (share - accuracy_) ** 2).sum()),
        accuracy_ * (1 - accuracy_),
    )


_EMPTY = Estimate(math.nan, math.nan, math.nan, 0, method="none")
