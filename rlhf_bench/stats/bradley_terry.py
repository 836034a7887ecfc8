"""Bradley-Terry strengths of several models on an Elo scale, from how often each beat each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.pigeonhole import crossed_sums, percentile
from rlhf_bench.stats.resample import LEVEL, TAILS
from rlhf_bench.types import Estimate

ELO = 400 / math.log(10)  # one unit of log odds on the Elo scale
BASELINE = 1000.0
PRIOR = 0.01  # precision of a normal prior on each strength in log odds: a standard deviation of 10, or 1,737 Elo
STEPS = 100
RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Strength:
    """One model on the Elo scale, the baseline at 1000 exactly."""

    model: str
    elo: Estimate  # NaN where no chain of pairs leads to the baseline; no limits where all its pairs were won or lost
    rank: int  # 1 the strongest of those joined to the baseline; equal strengths share the better rank; 0 not joined
    rank_low: int  # the interval of the rank over the resamples
    rank_high: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_strengths(wins: FloatArray, *, prior: float = PRIOR) -> FloatArray:
    """Bradley & Terry (1952) by penalised maximum likelihood: (B, M, M) wins -> (B, M) strengths in log odds, mean 0.

        P(i beats j) = 1 / (1 + exp(theta_j - theta_i))
        maximise  sum_ij w_ij log P(i beats j) - prior / 2 sum_i theta_i^2

    `wins[b, i, j]` counts how often i beat j, a tie half for each. The prior keeps the strengths finite where a model
    has won or lost everything. Newton's method, all B fits at once; a step is at most 2.
    """
    b, m, _ = wins.shape
    theta = np.zeros((b, m))
    met = wins + wins.transpose(0, 2, 1)
    eye = np.eye(m)
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(theta[:, None, :] - theta[:, :, None]))  # (B, M, M): i beats j
        gradient = (wins - met * chance).sum(axis=2) - prior * theta
        weight = met * chance * (1 - chance)
        hessian = (weight.sum(axis=2) + prior)[:, :, None] * eye - weight
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        step /= np.maximum(1.0, np.abs(step).max(axis=1, keepdims=True) / 2)
        theta += step
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    return theta


def strengths(
    features: FloatArray,
    models: Sequence[str],
    *,
    baseline: str,
    seed: int = 0,
    prior: float = PRIOR,
) -> list[Strength]:
    """Strengths of M models from wins (S, P, M, M), how often i beat j on each prompt of each seed; strongest first.

    Prompts and training seeds are resampled, and the fit is repeated in each resample.
    """
    s, p, m, _ = features.shape
    wins = features.sum(axis=(0, 1))
    zero = models.index(baseline)
    joined = connected_components(wins + wins.T, directed=False)[1]
    joined = joined == joined[zero]
    separated = (wins.sum(axis=0) == 0) | (wins.sum(axis=1) == 0)

    theta = fit_strengths(wins[None], prior=prior)[0]
    drawn = crossed_sums(features.reshape(s, p, m * m), seed=seed, resamples=RESAMPLES).reshape(-1, m, m)
    theta_b = fit_strengths(drawn, prior=prior)
    elo = np.where(joined, BASELINE + ELO * (theta - theta[zero]), np.nan)
    elo_b = BASELINE + ELO * (theta_b - theta_b[:, [zero]])
    ranks, ranks_b = _ranks(elo[None], joined)[0], _ranks(elo_b, joined)
    low, high = np.quantile(ranks_b, TAILS, axis=0, method="nearest").astype(int)
    found = []
    for i, model in enumerate(models):
        estimate = percentile(float(elo[i]), elo_b[:, i], n=p, n_seeds=s)
        if i == zero:
            estimate = Estimate(BASELINE, BASELINE, BASELINE, p, LEVEL, "fixed", s)
        elif not joined[i] or separated[i] or separated[zero]:
            method = "separated" if joined[i] else "none"
            estimate = Estimate(float(elo[i]), math.nan, math.nan, p, LEVEL, method, s)
        rank = int(ranks[i])
        found.append(Strength(model, estimate, rank, min(rank, int(low[i])), max(rank, int(high[i]))))
    return sorted(found, key=lambda strength: (strength.rank == 0, strength.rank, strength.model))


def _ranks(elo: FloatArray, joined: np.ndarray) -> FloatArray:
    ranks = np.zeros(elo.shape)
    ranks[:, joined] = rankdata(-np.round(elo[:, joined], 9), method="min", axis=1)
    return ranks
