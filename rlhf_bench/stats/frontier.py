"""The most reward at each KL: the optimal frontier of a reference policy, estimated from its own samples.

For a reward r and a reference pi the policy with the most expected reward at its KL is
pi(y|x) exp(r(x, y) / beta) / Z(x), one beta for all prompts. N samples of the reference per prompt give its reward and
its KL by self-normalised weights w_i = exp(r_i / beta) / sum_j exp(r_j / beta):

    reward = sum w r,    KL = sum w r / beta - log( mean exp(r / beta) ),

averaged over prompts. Both ratios are biased by some 1 / N; the jackknife over samples removes the leading term.

What N samples can reach is bounded: KL cannot exceed log N, and where rewards are Gaussian the effective sample size
1 / sum w^2 is about N exp(-2 KL). The curve ends, for all prompts together, where more than 5 % of them have an
effective sample size below 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.pigeonhole import seed_counts
from rlhf_bench.stats.resample import FloatArray
from rlhf_bench.types import Estimate

__all__ = [
    "Efficiency",
    "Frontier",
    "SeedCurve",
    "efficiency",
    "estimate_frontier",
    "samples_needed",
    "seed_curve",
    "tilted",
]

LEAST_SAMPLES = 10.0  # effective sample size below which a prompt's weights rest on too few samples
SHARE = 0.05  # of the prompts that may fall below it
POINTS = 40  # of the curve


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
    p, n = reward.shape
    if n < 2:
        raise BadValue(f"the frontier needs at least 2 samples per prompt, 64 or more to be useful; given {n}")
    if not np.isfinite(reward).all():
        raise BadValue("the frontier needs a finite reward for each sample; given NaN or infinity")
    kls, samples = np.empty((len(inverse_betas), p)), np.empty((len(inverse_betas), p))
    found = {name: np.empty((len(inverse_betas), p)) for name in values}
    for g, t in enumerate(inverse_betas):
        scaled = t * reward
        e = np.exp(scaled - scaled.max(1, keepdims=True))  # (P, N)
        total = e.sum(1, keepdims=True)
        w = e / total
        without = np.maximum(total - e, np.finfo(float).tiny)  # (P, N): the total without each sample in turn
        samples[g] = 1.0 / (w**2).sum(1)
        top = scaled.max(1)
        log_mean = np.log(total[:, 0] / n) + top
        log_mean_without = np.log(without / (n - 1)) + top[:, None]
        tilt = (w * scaled).sum(1)
        tilt_without = ((e * scaled).sum(1, keepdims=True) - e * scaled) / without
        kls[g] = _jackknife(tilt - log_mean, tilt_without - log_mean_without)
        for name, value in values.items():
            whole = (w * value).sum(1)
            each = ((e * value).sum(1, keepdims=True) - e * value) / without
            found[name][g] = _jackknife(whole, each)
    return Tilted(kls, found, samples)


def _jackknife(whole: FloatArray, without: FloatArray) -> FloatArray:
    """n times the whole less (n - 1) times the mean of what is left without each: (P,), (P, N) -> (P,)."""
    n = without.shape[1]
    corrected: FloatArray = n * whole - (n - 1) * without.mean(1)
    return corrected


def samples_needed(kl: float) -> int:
    """Samples per prompt for an effective sample size of 10 at this KL, were rewards Gaussian: 10 exp(2 KL)."""
    return math.ceil(LEAST_SAMPLES * math.exp(min(2 * kl, 60.0)))


@dataclass(frozen=True)
class SeedCurve:
    """One seed's frontier as a function of its mean KL, prompt by prompt."""

    kl: FloatArray  # (G, P)
    values: dict[str, FloatArray]  # (G, P) each; gains over the reference, in units of the scale given
    reach: float  # nats: the largest mean KL that the samples support

    def at(self, grid: FloatArray, name: str, counts: FloatArray | None = None) -> FloatArray:
        """The mean gain at each KL of `grid`, (M,), or with `counts` (B, P), how often each prompt counts in each of B
        resamples, (B, M). NaN beyond the KL that the curve reaches."""
        counts = np.ones((1, self.kl.shape[1])) if counts is None else counts
        weights = counts / counts.sum(1, keepdims=True)
        kl, value = weights @ self.kl.T, weights @ self.values[name].T  # (B, G)
        grid = np.broadcast_to(grid, (len(kl), grid.shape[-1]))
        rows = [
            np.interp(x, np.maximum.accumulate(k), v, right=np.nan) for x, k, v in zip(grid, kl, value, strict=True)
        ]
        return np.array(rows) if len(counts) > 1 else rows[0]


def seed_curve(
    reward: FloatArray, others: Mapping[str, FloatArray], *, scale: float = 1.0, points: int = POINTS
) -> SeedCurve:
    """The curve of one seed, from samples of its reference. reward, others: (P, N).

    `scale` divides the gain in reward: the standard deviation that rewards are standardised by. Beta is swept until the
    effective sample size ends the curve.

    Raises BadValue where no prompt's rewards differ.
    """
    spread = float(np.mean(reward.std(1, ddof=1))) if reward.shape[1] > 1 else math.nan
    if spread == 0:
        raise BadValue("the frontier needs rewards that differ within prompts; given the same for all samples")
    low, high = 0.0, 3.0 * math.sqrt(2 * math.log(max(2, reward.shape[1]))) / spread
    for _ in range(30):  # the largest 1 / beta that is supported: the effective sample size falls as it grows
        middle = (low + high) / 2
        few = tilted(reward, {}, [middle]).samples[0] < LEAST_SAMPLES
        low, high = (low, middle) if few.mean() > SHARE else (middle, high)
    result = tilted(reward, {"reward": reward, **others}, np.linspace(0.0, low, points).tolist())
    values = {name: value - value[:1] for name, value in result.values.items()}
    values["reward"] = values["reward"] / scale
    return SeedCurve(result.kl, values, float(result.kl[-1].mean()))


@dataclass(frozen=True)
class Frontier:
    """The frontier over all seeds: gains over the reference at each KL, with a band."""

    kl: FloatArray  # (M,) nats, from 0 to the reach
    gain: dict[str, FloatArray]  # (M,) each: "reward" and what was read off beside it
    low: dict[str, FloatArray]
    high: dict[str, FloatArray]
    bias: FloatArray  # (M,) what is left of the reward's bias, about: the change from half of the samples to all
    seeds: list[SeedCurve]
    n_samples: int
    level: float

    @property
    def reach(self) -> float:
        return float(self.kl[-1])


def estimate_frontier(
    rewards: Sequence[FloatArray],
    others: Mapping[str, Sequence[FloatArray]] | None = None,
    *,
    scales: Sequence[float] | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 1000,
) -> Frontier:
    """The frontier of a reference, from N samples per prompt under each training seed.

    rewards: (P, N) of each seed, the same prompts; others: likewise, such as gold. `scales`: each seed's standard
    deviation of the reward. A seed's curve is a function of its mean KL, and seeds are averaged at equal KL. The band
    is a bootstrap over prompts, crossed with seeds where there are several.

    Raises BadValue where the samples support no curve at all: the effective sample size falls below 10 at once.
    """
    others = others or {}
    scales = scales or [1.0] * len(rewards)
    curves, halves = [], []
    for s, reward in enumerate(rewards):
        beside = {name: blocks[s] for name, blocks in others.items()}
        curves.append(seed_curve(reward, beside, scale=scales[s]))
        half = reward.shape[1] // 2
        halves.append(seed_curve(reward[:, :half], {}, scale=scales[s]) if half >= 2 * LEAST_SAMPLES else None)
    reach = min(curve.reach for curve in curves)
    if not reach > 1e-3:
        n = rewards[0].shape[1]
        raise BadValue(
            f"the frontier: {n} samples per prompt have an effective sample size below {LEAST_SAMPLES:g} at once; draw "
            f"more, such as {max(64, 4 * n)}"
        )
    grid = np.linspace(0.0, reach, POINTS)
    names = ["reward", *others]
    gain = {name: np.mean([curve.at(grid, name) for curve in curves], axis=0) for name in names}
    bands = _bands(curves, grid, names, level, seed, resamples)
    at_half = [half.at(grid, "reward") for half in halves if half is not None]
    bias = np.abs(gain["reward"] - np.mean(at_half, axis=0)) if at_half else np.full(POINTS, np.nan)
    low, high = ({name: band[i] for name, band in bands.items()} for i in (0, 1))
    return Frontier(grid, gain, low, high, bias, curves, rewards[0].shape[1], level)


def _bands(
    curves: Sequence[SeedCurve], grid: FloatArray, names: Sequence[str], level: float, seed: int, resamples: int
) -> dict[str, tuple[FloatArray, FloatArray]]:
    counts, of_seeds = _resamples(curves[0].kl.shape[1], len(curves), seed, resamples)
    tail = (1 - level) / 2
    bands = {}
    for name in names:
        drawn = np.einsum("bs,sbm->bm", of_seeds, np.stack([curve.at(grid, name, counts) for curve in curves]))
        drawn[:, -1] = np.where(np.isnan(drawn[:, -1]), drawn[:, -2], drawn[:, -1])  # a resample may end just before
        low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
        bands[name] = low, high
    return bands


def _resamples(prompts: int, seeds: int, seed: int, resamples: int) -> tuple[FloatArray, FloatArray]:
    """How often each prompt counts, (B, P), and the weight of each seed, (B, S), in B resamples of both."""
    generator = np.random.Generator(np.random.PCG64([seed, prompts, 7]))
    counts = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples).astype(np.float64)
    stretch = math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    drawn = seed_counts(seeds, seed=seed, resamples=resamples)
    return counts, 1 / seeds + stretch * (drawn / seeds - 1 / seeds)


class Efficiency(NamedTuple):
    """A model's gain in reward over the frontier's at the same KL."""

    share: Estimate  # 1: as much as was possible
    above: bool  # above the frontier by more than band and bias: KL or reward is measured wrongly


def efficiency(
    frontier: Frontier, gains: Sequence[FloatArray], kls: Sequence[FloatArray], *, seed: int = 0, resamples: int = 1000
) -> Efficiency:
    """The share of the possible gain that a model reached, with a bootstrap interval over prompts and seeds.

    gains, kls: (P,) of each seed, in the order of the frontier's prompts; gains in the frontier's units of reward.

    Raises BadValue, with the reason, where the model is beyond the reach of the samples or too near to KL 0.
    """
    kl = float(np.mean([np.mean(of_seed) for of_seed in kls]))
    if kl > frontier.reach:
        raise BadValue(
            f"KL {kl:.2f} is beyond the {frontier.reach:.2f} nats that {frontier.n_samples} samples per prompt reach; "
            f"some {samples_needed(kl):,} would be needed"
        )
    counts, of_seeds = _resamples(len(kls[0]), len(kls), seed, resamples)
    own, best = np.zeros(resamples), np.zeros(resamples)
    for s, curve in enumerate(frontier.seeds):
        weights = counts / counts.sum(1, keepdims=True)
        at = weights @ kls[s]
        own += of_seeds[:, s] * (weights @ gains[s])
        best += of_seeds[:, s] * curve.at(at[:, None], "reward", counts)[:, 0]
    tail = (1 - frontier.level) / 2
    if not np.nanquantile(best, tail) > 0.1 * np.nanmean(best):
        raise BadValue(f"KL {kl:.3f} is too near to 0 for a ratio of gains: the frontier's own gain is uncertain there")
    possible = np.mean([c.at(np.array([k.mean()]), "reward")[0] for c, k in zip(frontier.seeds, kls, strict=True)])
    share = float(np.mean([of_seed.mean() for of_seed in gains]) / possible)
    low, high = (float(q) for q in np.nanquantile(own / best, [tail, 1 - tail]))
    bias = float(np.interp(kl, frontier.kl, np.nan_to_num(frontier.bias)))
    above = bool(np.nanquantile(own - best, tail) > bias)
    return Efficiency(Estimate(share, low, high, len(kls[0]), frontier.level, "bootstrap", len(kls)), above)
