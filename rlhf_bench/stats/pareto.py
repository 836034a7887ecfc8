"""More reward at less KL: which models no other beats, how surely, and how much of the plane they cover together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.crossed import crossed
from rlhf_bench.stats.pigeonhole import resampled_means
from rlhf_bench.stats.resample import FloatArray
from rlhf_bench.types import Estimate


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points (kl, reward) that no other point dominates, by rising KL.

    A point is dominated if another has no more KL and no less reward, and is better in at least one of them.
    Point estimates are compared; `front_probability` says how sure each place is.
    """
    names = list(points)
    kl, reward = (np.array([points[name][i] for name in names], dtype=np.float64) for i in (0, 1))
    there = on_front(kl[None], reward[None])[0]
    return sorted((name for name, kept in zip(names, there, strict=True) if kept), key=lambda name: points[name])


def on_front(kl: FloatArray, reward: FloatArray) -> npt.NDArray[np.bool_]:
    """(B, M), (B, M) -> (B, M): True where no other of a row's M points dominates the point."""
    less_kl, more_reward = kl[:, None, :] <= kl[:, :, None], reward[:, None, :] >= reward[:, :, None]
    better = (kl[:, None, :] < kl[:, :, None]) | (reward[:, None, :] > reward[:, :, None])
    kept: npt.NDArray[np.bool_] = np.logical_not((less_kl & more_reward & better).any(axis=2))
    return kept


def front_probability(kl: FloatArray, reward: FloatArray, *, seed: int = 0) -> FloatArray:
    """(M, S, P) cells each, all finite -> (M,): the share of resamples in which each model is on the front.

    Prompts are resampled for all models at once, and training seeds crossed with them (`resampled_means`).
    """
    _check(kl, reward)
    m = len(kl)
    means = resampled_means(np.moveaxis(np.concatenate([kl, reward]), 0, 2), seed=seed)  # (B, 2 M)
    share: FloatArray = on_front(means[:, :m], means[:, m:]).mean(axis=0)
    return share


def hypervolume(kl: FloatArray, gain: FloatArray, *, limit: float) -> tuple[float, FloatArray, FloatArray]:
    """The area that M points dominate above gain 0 and below KL `limit`, and its derivatives by kl and gain (M,) each.

    The area under the staircase of the best gain to be had at each KL (Zitzler & Thiele 1999, for two objectives):
    with the front's points in order of KL, sum_i (kl_{i+1} - kl_i) gain_i, kl_{F+1} = limit.
    """
    d_kl, d_gain = np.zeros(len(kl)), np.zeros(len(kl))
    inside = np.flatnonzero((kl < limit) & (gain > 0))
    front = inside[on_front(kl[inside][None], gain[inside][None])[0]]
    front = front[np.argsort(kl[front], kind="stable")]
    # equal models share a corner; the first of them carries it
    front = front[np.concatenate([[True], np.diff(kl[front]) > 0])] if len(front) else front
    widths = np.diff(np.append(kl[front], limit))
    d_gain[front] = widths
    d_kl[front] = -np.diff(np.concatenate([[0.0], gain[front]]))
    return float((widths * gain[front]).sum()), d_kl, d_gain


def hypervolume_estimate(kl: FloatArray, gain: FloatArray, *, limit: float, seed: int = 0) -> Estimate:
    """Hypervolume of M models from their (M, S, P) cells, all finite; gain = reward minus the reference's.

    The unit is that of the reward times nats. The interval is that of `crossed` on the linearised cells
    hv + sum_m (d_kl_m (kl_msp - kl_m) + d_gain_m (gain_msp - gain_m)), which average to the hypervolume. Where no model
    gains anything below the limit the hypervolume is 0 and has no interval.
    """
    _check(kl, gain)
    if not limit > 0:
        raise BadValue(f"a hypervolume up to a KL of {limit!r} was given; expected a number of nats above 0")
    mean_kl, mean_gain = kl.mean(axis=(1, 2)), gain.mean(axis=(1, 2))
    value, d_kl, d_gain = hypervolume(mean_kl, mean_gain, limit=limit)
    shift = np.tensordot(d_kl, kl - mean_kl[:, None, None], 1) + np.tensordot(
        d_gain, gain - mean_gain[:, None, None], 1
    )
    estimate = crossed(value + shift, seed=seed)
    if value == 0:
        return replace(estimate, low=math.nan, high=math.nan, method="none")
    return replace(estimate, value=value, low=max(0.0, estimate.low))


def _check(kl: FloatArray, reward: FloatArray) -> None:
    if kl.ndim != 3 or kl.shape != reward.shape:
        raise BadValue(f"cells of shapes {kl.shape} and {reward.shape} given; expected (models, seeds, prompts) twice")
