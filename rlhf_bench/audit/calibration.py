"""Is a reward model as sure as it is right?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_bench.audit.pairs import accuracy, right
from rlhf_bench.audit.regression import fit_temperature
from rlhf_bench.stats import FloatArray, mean_estimate
from rlhf_bench.types import Estimate

__all__ = ["BINS", "DEFINITION", "Bin", "Brier", "Calibration", "Subset", "calibration", "calibration_of_subset"]

BINS = 10
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
    share: Estimate  # over prompts

    def to_dict(self) -> dict[str, Any]:
        share_chosen = self.share.value if self.n else None
        return {
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "mean_predicted": self.mean_predicted,
            "share_chosen": share_chosen,
            "share": self.share.to_dict(),
        }


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
    bins: list[Bin]
    ece: float  # expected calibration error: mean over pairs of |share_chosen - mean_predicted| of their bin
    brier: Brier
    temperature: float  # T > 0 at which sigmoid(difference / T) fits the labels best; above 1 where it is too sure


def calibration(differences: FloatArray, prompts: Sequence[str]) -> Calibration:
    """Bins and expected calibration error of score differences, chosen minus rejected, (N,); see DEFINITION.

    Guo et al. 2017 (arXiv:1706.04599), eq. 3, for the two-way choice between the sides of a pair.
    """
    predicted = 1.0 / (1.0 + np.exp(-np.abs(differences)))
    correct = right(differences)
    edges = np.linspace(0.5, 1.0, BINS + 1)
    at = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, BINS - 1)
    bins, error = [], 0.0
    for k in range(BINS):
        index = np.flatnonzero(at == k)
        share = accuracy(correct[None, index], [prompts[i] for i in index.tolist()]) if len(index) else _EMPTY
        mean = float(predicted[index].mean()) if len(index) else None
        if mean is not None:
            error += abs(float(correct[index].mean()) - mean) * len(index) / len(differences)
        bins.append(Bin(round(float(edges[k]), 6), round(float(edges[k + 1]), 6), len(index), mean, share))
    if not len(differences):
        return Calibration(bins, math.nan, Brier(math.nan, math.nan, math.nan, math.nan), math.nan)
    return Calibration(bins, error, _brier(predicted, correct, at), fit_temperature(differences))


@dataclass(frozen=True)
class Subset:
    n: int  # pairs
    ece: float  # larger than 0 by chance alone where there are few pairs
    brier: Estimate
    overconfidence: Estimate  # mean of p - "the preferred side is the chosen one": above 0 where it is too sure


def calibration_of_subset(differences: FloatArray, prompts: Sequence[str]) -> Subset:
    """How sure and how right a model is on a part of the pairs, (N,) differences; intervals are over prompts."""
    predicted = 1.0 / (1.0 + np.exp(-np.abs(differences)))
    correct = right(differences)
    groups: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(i)

    def over_prompts(values: FloatArray) -> Estimate:
        return mean_estimate(np.array([float(values[index].mean()) for index in groups.values()]))

    squares, excess = (predicted - correct) ** 2, predicted - correct
    ece = calibration(differences, prompts).ece
    return Subset(len(differences), ece, over_prompts(squares), over_prompts(excess))


def _brier(predicted: FloatArray, correct: FloatArray, at: npt.NDArray[np.intp]) -> Brier:
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
