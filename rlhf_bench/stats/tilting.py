"""Expectations under a tilted policy, pi exp(r / beta) / Z, from samples of pi: self-normalised weights, jackknifed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import FloatArray


class Tilted(NamedTuple):
    """Each prompt's numbers under the tilted policy, at each beta. G betas, P prompts."""

    kl: FloatArray  # (G, P) nats
    values: dict[str, FloatArray]  # (G, P) each: what the tilted policy expects of each quantity
    samples: FloatArray  # (G, P) effective sample size


def tilted(reward: FloatArray, values: Mapping[str, FloatArray], inverse_betas: Sequence[float]) -> Tilted:
    """KL and expected values of the policy pi exp(r / beta) / Z, from N samples of pi per prompt; jackknifed.

    reward, values: (P, N). `inverse_betas`: 1 / beta; 0 is the reference itself, with KL 0.

    Raises BadValue for fewer than two samples a prompt or rewards that are not finite.
    """
    check_rewards(reward)
    kl = np.empty((len(inverse_betas), len(reward)))
    samples, found = np.empty_like(kl), {name: np.empty_like(kl) for name in values}
    for g, t in enumerate(inverse_betas):
        weights = _Weights(t * reward)
        samples[g] = _size(weights.e)
        tilt, log_mean = weights.mean(t * reward), weights.log_mean
        kl[g] = _jackknife(tilt[0] - log_mean[0], tilt[1] - log_mean[1])
        for name, value in values.items():
            found[name][g] = _jackknife(*weights.mean(value))
    return Tilted(kl, found, samples)


def check_rewards(reward: FloatArray) -> None:
    """Raises BadValue as `tilted`."""
    if reward.shape[1] < 2:
        raise BadValue(
            f"{reward.shape[1]} samples per prompt given; the frontier needs at least 2, and 64 or more to reach far"
        )
    if not np.isfinite(reward).all():
        raise BadValue("rewards that are NaN or infinite given; the frontier needs a finite one for each sample")


def effective_size(scaled: FloatArray) -> FloatArray:
    """(P,): the effective number of samples of each prompt under weights exp(scaled), (P, N)."""
    return _size(_relative(scaled)[0])


def _relative(scaled: FloatArray) -> tuple[FloatArray, FloatArray]:
    """exp(scaled) over each prompt's largest, (P, N), and the largest of scaled, (P, 1)."""
    largest = scaled.max(1, keepdims=True)
    return np.exp(scaled - largest), largest


def _size(weights: FloatArray) -> FloatArray:
    size: FloatArray = weights.sum(1) ** 2 / (weights**2).sum(1)
    return size


class _Weights:
    """exp(scaled) over the N samples of each prompt: of all of them, and without each in turn."""

    def __init__(self, scaled: FloatArray) -> None:  # (P, N)
        self.rows, self.top = np.arange(len(scaled)), scaled.argmax(1)
        self.e, self.largest = _relative(scaled)
        rest = scaled.copy()
        rest[self.rows, self.top] = -np.inf
        # Without the likeliest sample the sum is taken afresh: a difference would keep no digit of a small remainder.
        self.e_rest, self.largest_rest = _relative(rest)

    @property
    def log_mean(self) -> tuple[FloatArray, FloatArray]:
        """log( mean exp ): (P,), and without each sample (P, N)."""
        n = self.e.shape[1]
        whole = np.log(self.e.sum(1) / n) + self.largest[:, 0]
        without = np.log(self._without(self.e) / (n - 1)) + self.largest
        without[self.rows, self.top] = np.log(self.e_rest.sum(1) / (n - 1)) + self.largest_rest[:, 0]
        return whole, without

    def mean(self, value: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The weighted mean of (P, N): (P,), and without each sample (P, N)."""
        whole = (self.e * value).sum(1) / self.e.sum(1)
        without = self._without(self.e * value) / self._without(self.e)
        without[self.rows, self.top] = (self.e_rest * value).sum(1) / self.e_rest.sum(1)
        return whole, without

    def _without(self, terms: FloatArray) -> FloatArray:
        """The sum without each sample; that without the likeliest is replaced by the caller."""
        left: FloatArray = terms.sum(1, keepdims=True) - terms
        left[self.rows, self.top] = 1.0
        return left


def _jackknife(whole: FloatArray, without: FloatArray) -> FloatArray:
    """n times the whole less (n - 1) times the mean of what is left without each: (P,), (P, N) -> (P,)."""
    n = without.shape[1]
    corrected: FloatArray = n * whole - (n - 1) * without.mean(1)
    return corrected
