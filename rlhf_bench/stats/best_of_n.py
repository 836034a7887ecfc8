"""Best-of-n from one pool of samples: the unbiased estimate over all its subsets, and what it costs in KL."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import FloatArray


def rank_weights(pool: int, n: int) -> FloatArray:
    """(N,): the chance that the sample of rank i, ascending, is the best of n drawn from N without replacement.

    C(i - 1, n - 1) / C(N, n) for ranks i = 1..N.

    Raises BadValue unless 1 <= n <= N.
    """
    if not 1 <= n <= pool:
        raise BadValue(f"best of {n} given a pool of {pool} samples a prompt; expected 1 to {pool}; draw more samples")
    rank = np.arange(1, pool + 1, dtype=np.float64)
    logs = _log_choose(rank[n - 1 :] - 1, n - 1) - _log_choose(np.array([float(pool)]), n)
    weights = np.zeros(pool)
    weights[n - 1 :] = np.exp(logs)
    return weights


def _log_choose(n: FloatArray, k: int) -> FloatArray:
    logs: FloatArray = special.gammaln(n + 1) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1)
    return logs


def best_of_n(scores: FloatArray, values: FloatArray, n: int) -> FloatArray:
    """(P,): the expected value of the response with the best score among n of each prompt's N samples.

    `scores` (P, N) select, `values` (P, N) are read off: the scores themselves, or a gold reward. Averaged over all
    subsets of n, so the estimate is unbiased for n independent draws. Among equal scores any one is taken with equal
    chance. A row with a score or value that is not finite gives NaN.
    """
    if scores.ndim != 2 or scores.shape != values.shape:
        raise BadValue(f"scores {scores.shape} and values {values.shape} given; expected (prompts, samples) twice")
    weights = rank_weights(scores.shape[1], n)
    there = np.isfinite(scores) & np.isfinite(values)
    scores, values = np.where(there, scores, 0.0), np.where(there, values, 0.0)
    order = np.argsort(scores, axis=1, kind="stable")
    cumulated = np.concatenate([[0.0], np.cumsum(weights)])
    # a group of equal scores holds the ranks first..last, and each member an equal part of their weights
    ranked = stats.rankdata(scores, method="min", axis=1), stats.rankdata(scores, method="max", axis=1)
    first, last = (np.take_along_axis(rank.astype(np.int64), order, axis=1) for rank in ranked)
    shared = (cumulated[last] - cumulated[first - 1]) / (last - first + 1)
    best: FloatArray = (shared * np.take_along_axis(values, order, axis=1)).sum(axis=1)
    best[~there.all(axis=1)] = np.nan
    return best


def best_of_n_kl_bound(n: int) -> float:
    """log n - (n - 1) / n nats: an upper bound on KL(best-of-n || reference) (arXiv 2401.01879), met without ties."""
    if n < 1:
        raise BadValue(f"best of {n} given; expected 1 or more")
    return float(np.log(n) - (n - 1) / n)


def best_of_n_kl(probabilities: FloatArray, scores: FloatArray, n: int) -> float:
    """KL(best-of-n || reference) in nats, of a reference with known probabilities and scores of all responses.

    A response y of probability p(y), with P the probability of all equal in score, is the best of n with probability
    p(y) / P * (F^n - (F - P)^n), F being the probability of a score no higher. Never above `best_of_n_kl_bound`.
    """
    _, group = np.unique(scores, return_inverse=True)  # ascending
    mass = np.bincount(group, weights=probabilities)
    upto = np.cumsum(mass)
    best = upto**n - (upto - mass) ** n
    there = best > 0
    return float((best[there] * np.log(best[there] / mass[there])).sum())
