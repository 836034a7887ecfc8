"""The most reward at each KL: the optimal frontier of a reference policy, estimated from its own samples.

For a reward r and a reference pi the policy with the most expected reward at its KL is
pi(y|x) exp(r(x, y) / beta) / Z(x), one beta for all prompts. N samples of the reference per prompt give its reward and
its KL by self-normalised weights w_i = exp(r_i / beta) / sum_j exp(r_j / beta):

    reward = sum w r,    KL = sum w r / beta - log( mean exp(r / beta) ),

averaged over prompts. Both are biased by some 1 / N; the jackknife over samples removes the leading term.

What N samples can reach is bounded: KL cannot exceed log N, and where rewards are Gaussian the effective sample size
1 / sum w^2 is about N exp(-2 KL). The curve ends, for all prompts together, where more than 5 % of them have an
effective sample size below 10; a prompt is never left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.linearised import resampled_scale
from rlhf_bench.stats.pigeonhole import percentile, seed_weights
from rlhf_bench.stats.resample import TAILS, FloatArray, resampled_sums
from rlhf_bench.stats.tilting import check_rewards, effective_size, tilted
from rlhf_bench.types import Estimate

REWARD = "optimised"  # the name of the reward that is optimised, among what is read off along the curve
LEAST_SAMPLES = 10.0  # effective sample size below which a prompt's weights rest on too few samples
SHARE = 0.05  # of the prompts that may fall below it
POINTS = 40  # of the curve
MARGIN = 1.25  # how far beyond the end, in 1 / beta, the curve is known: a resample of prompts may have less KL there
UNCERTAIN = 0.1  # share of the frontier's own gain below which its lower limit makes a ratio to it meaningless
_LEAST_PART = 4  # samples of a part of the pool on which the bias is estimated


def samples_needed(kl: float, *, samples: int, reach: float) -> int:
    """Samples per prompt that would reach this KL, where so many reach `reach`: the effective size falls as exp(-2 KL).

    Exact for Gaussian rewards.
    """
    return math.ceil(samples * math.exp(min(2 * (kl - reach), 60.0)))


@dataclass(frozen=True)
class SeedCurve:
    """One seed's frontier, prompt by prompt, at G values of 1 / beta: a function of its mean KL."""

    inverse_betas: FloatArray  # (G,), from 0 to somewhat beyond the end
    kl: FloatArray  # (G, P)
    gain: dict[str, FloatArray]  # (G, P) each: over the reference
    level: dict[str, float]  # the reference's own mean of each
    reach: float  # nats: the largest mean KL that the samples support

    def at(self, grid: FloatArray, name: str) -> FloatArray:
        """The mean gain at each KL of `grid`, (M,)."""
        gain: FloatArray = _along(self.kl.mean(1)[None], self.gain[name].mean(1)[None], grid)[0]
        return gain

    def drawn(self, grid: FloatArray, name: str, *, seed: int) -> FloatArray:
        """As `at`, in each bootstrap of the prompts: (B, M). `grid` is (M,), or (B, M) for KLs of their own."""
        means = resampled_sums(np.concatenate([self.kl, self.gain[name]]).T, seed=seed) / self.kl.shape[1]
        kl, gain = np.split(means, 2, axis=1)
        return _along(kl, gain, grid)


def _along(kl: FloatArray, gain: FloatArray, grid: FloatArray) -> FloatArray:
    """Curves (B, G) at each KL of `grid`, (M,) or (B, M), linear between points; NaN beyond their end."""
    grids = np.broadcast_to(grid, (len(kl), grid.shape[-1]))
    rising = np.maximum.accumulate(kl, axis=1)
    return np.array([np.interp(x, k, g, right=np.nan) for x, k, g in zip(grids, rising, gain, strict=True)])


def seed_curve(reward: FloatArray, others: Mapping[str, FloatArray]) -> SeedCurve:
    """The curve of one seed, from samples of its reference. reward, others: (P, N).

    1 / beta is swept until the effective sample size ends the curve.

    Raises BadValue where no prompt's rewards differ, and as `tilted`.
    """
    check_rewards(reward)
    spread = float(np.mean(reward.std(1, ddof=1)))
    if spread == 0:
        raise BadValue("the same reward for all samples of each prompt given; the frontier needs rewards that differ")
    end = _end(reward, 3.0 * math.sqrt(2 * math.log(reward.shape[1])) / spread)
    inverse_betas = np.append(np.linspace(0.0, end, POINTS), np.linspace(end, MARGIN * end, POINTS // 4)[1:])
    found = tilted(reward, {REWARD: reward, **others}, inverse_betas.tolist())
    gain = {name: value - value[:1] for name, value in found.values.items()}
    level = {name: float(value[0].mean()) for name, value in found.values.items()}
    return SeedCurve(inverse_betas, found.kl, gain, level, float(found.kl[POINTS - 1].mean()))


def _end(reward: FloatArray, high: float) -> float:
    """The largest 1 / beta up to `high` that the samples support: the effective sample size falls as it grows."""
    low = 0.0
    for _ in range(30):
        middle = (low + high) / 2
        few = effective_size(middle * reward) < LEAST_SAMPLES
        low, high = (low, middle) if few.mean() > SHARE else (middle, high)
    return low


def _of_parts(reward: FloatArray, curve: SeedCurve, size: int) -> SeedCurve:
    """The curve at the same betas from `size` samples a prompt: the mean over the parts of the pool."""
    parts = [reward[:, i : i + size] for i in range(0, reward.shape[1] - size + 1, size)]
    found = [tilted(part, {REWARD: part}, curve.inverse_betas.tolist()) for part in parts]
    gain = np.mean([one.values[REWARD] - one.values[REWARD][:1] for one in found], axis=0)
    return SeedCurve(curve.inverse_betas, np.mean([one.kl for one in found], axis=0), {REWARD: gain}, {}, curve.reach)


class Turn(NamedTuple):
    """Where a quantity is highest along the frontier; infinite: it still rises where the samples end."""

    kl: float  # nats
    low: float  # a percentile interval over prompts, and seeds where there are several
    high: float
    share: float  # of resamples that turn before the end


@dataclass(frozen=True)
class Frontier:
    """The frontier over all seeds: gains over the reference at each KL, with a band."""

    kl: FloatArray  # (M,) nats, from 0 to the reach
    gain: dict[str, FloatArray]  # (M,) each: "reward" and what was read off beside it
    low: dict[str, FloatArray]
    high: dict[str, FloatArray]
    turn: dict[str, Turn]  # of what was read off beside the reward
    by_size: dict[int, FloatArray]  # N / 4, N / 2 samples a prompt -> the reward's gain from so many, (M,)
    seeds: list[SeedCurve]
    n_samples: int
    units: FloatArray  # (S, B) or (S, 1): of the reward in each resample, over that of the data

    @property
    def reach(self) -> float:
        return float(self.kl[-1])

    @property
    def bias(self) -> FloatArray:
        """(M,): how much half of the samples change the reward's gain, more than the bias that is left with all.

        NaN where the pool is too small to be halved.
        """
        half = self.by_size.get(self.n_samples // 2)
        return np.full(len(self.kl), np.nan) if half is None else np.abs(self.gain[REWARD] - half)


def estimate_frontier(
    rewards: Sequence[FloatArray],
    others: Mapping[str, Sequence[FloatArray]] | None = None,
    *,
    standardised_by: FloatArray | None = None,
    seed: int = 0,
) -> Frontier:
    """The frontier of a reference, from N samples per prompt under each training seed.

    rewards: (P, N) of each seed, the same prompts, of several seeds standardised; others: likewise, such as gold.
    standardised_by: (S, P, K), the responses that standardised the rewards: the standard deviation is an estimate from
    the same prompts. A seed's curve is a function of its mean KL, and seeds are averaged at equal KL. The band is a
    bootstrap over prompts, crossed with seeds where there are several.

    Raises BadValue where the samples support no curve at all: the effective sample size falls below 10 at once.
    """
    others, n = others or {}, rewards[0].shape[1]
    curves = [seed_curve(reward, {name: of[s] for name, of in others.items()}) for s, reward in enumerate(rewards)]
    reach = min(curve.reach for curve in curves)
    if not reach > 1e-3:
        raise BadValue(
            f"{n} samples per prompt given, and the effective sample size falls below {LEAST_SAMPLES:g} at once; the "
            f"frontier needs more, such as {max(64, 4 * n)}"
        )
    grid = reach * np.linspace(0.0, 1.0, POINTS) ** 2  # gains grow with the square root of KL
    gain, low, high, turn = {}, {}, {}, {}
    known = np.ones((len(curves), 1))
    units = known if standardised_by is None else resampled_scale(standardised_by, seed=seed)
    for name in (REWARD, *others):
        gain[name] = np.mean([curve.at(grid, name) for curve in curves], axis=0)
        each = zip(curves, units if name == REWARD else known, strict=True)
        drawn = _over_seeds([curve.drawn(grid, name, seed=seed) / unit[:, None] for curve, unit in each], seed=seed)
        low[name], high[name] = np.nanquantile(drawn, TAILS, axis=0)
        if name != REWARD:
            turn[name] = _turn(grid, gain[name], drawn)
    by_size = {}
    for size in (size for size in (n // 4, n // 2) if size >= _LEAST_PART):
        parts = [_of_parts(reward, curve, size) for reward, curve in zip(rewards, curves, strict=True)]
        by_size[size] = np.mean([part.at(grid, REWARD) for part in parts], axis=0)
    return Frontier(grid, gain, low, high, turn, by_size, curves, n, units)


def _over_seeds(drawn: Sequence[FloatArray], *, seed: int) -> FloatArray:
    """The mean over seeds in each resample of prompts and seeds: of (B, ...) each."""
    weights = seed_weights(len(drawn), seed=seed, resamples=len(drawn[0]))
    mean: FloatArray = np.einsum("bs,sb...->b...", weights, np.stack(drawn))
    return mean


def turn_of_sum(frontier: Frontier, weights: Mapping[str, FloatArray], *, seed: int = 0) -> Turn:
    """Where a weighted sum of what was read off along the curve is highest, such as a regression on it.

    weights: (1 + B,) of each name, the estimate first and then one a resample.
    """
    grid = frontier.kl
    gain = np.sum([of[0] * frontier.gain[name] for name, of in weights.items()], axis=0)
    drawn = {name: [curve.drawn(grid, name, seed=seed) for curve in frontier.seeds] for name in weights}
    terms = [of[1:, None] * _over_seeds(drawn[name], seed=seed) for name, of in weights.items()]
    return _turn(grid, gain, np.sum(terms, axis=0))


def _turn(grid: FloatArray, gain: FloatArray, drawn: FloatArray) -> Turn:
    """From the gain along the curve, (M,), and in each resample, (B, M)."""
    turns = np.array([_highest(grid, row) for row in drawn])
    low, high = (float(q) for q in np.quantile(turns, TAILS, method="inverted_cdf"))
    return Turn(_highest(grid, gain), low, high, float(np.isfinite(turns).mean()))


def _highest(grid: FloatArray, gain: FloatArray) -> float:
    """The KL where a curve (M,) is highest; infinite where that is its end, which in a resample may come early."""
    known = gain[np.isfinite(gain)]
    at = int(known.argmax())
    return math.inf if at == len(known) - 1 else float(grid[at])


def efficiency(
    frontier: Frontier, gains: Sequence[FloatArray], kls: Sequence[FloatArray], *, seed: int = 0
) -> Estimate:
    """A model's gain in reward over the frontier's at the same KL; 1: as much as was possible.

    gains, kls: (P,) of each seed, in the order of the frontier's prompts; gains in the frontier's units of reward.
    The interval is a bootstrap over prompts and seeds.

    Raises BadValue, with the reason, where the model is beyond the reach of the samples or too near to KL 0.
    """
    at = [float(kl.mean()) for kl in kls]
    for kl, curve in zip(at, frontier.seeds, strict=True):
        if kl > curve.reach:
            needed = samples_needed(kl, samples=frontier.n_samples, reach=curve.reach)
            raise BadValue(
                f"KL {kl:.2f} is beyond the {curve.reach:.2f} nats that {frontier.n_samples} samples per prompt reach; "
                f"some {needed:,} would be needed"
            )
    own, best = _drawn_gains(frontier, gains, kls, seed=seed)
    low = np.nanquantile(best, TAILS[0])
    if not low > UNCERTAIN * np.nanmean(best):
        raise BadValue(
            f"KL {np.mean(at):.3f} is too near to 0 for a ratio of gains: the frontier's own gain is uncertain there"
        )
    value = _mean(gains) / _possible(frontier, at)
    return percentile(value, own / best, n=len(kls[0]), n_seeds=len(kls))


def excess(frontier: Frontier, gains: Sequence[FloatArray], kls: Sequence[FloatArray], *, seed: int = 0) -> Estimate:
    """A model's gain in reward minus the frontier's at the same KL, of a model within reach; as `efficiency`.

    The lower limit is less by the frontier's bias, the upper one more: above 0, the KL or the reward is wrong.
    """
    own, best = _drawn_gains(frontier, gains, kls, seed=seed)
    at = [float(kl.mean()) for kl in kls]
    value = _mean(gains) - _possible(frontier, at)
    found = percentile(value, own - best, n=len(kls[0]), n_seeds=len(kls))
    bias = float(np.interp(np.mean(at), frontier.kl, frontier.bias))
    return Estimate(value, found.low - bias, found.high + bias, found.n, found.level, found.method, found.n_seeds)


def _mean(of_seeds: Sequence[FloatArray]) -> float:
    return float(np.mean([values.mean() for values in of_seeds]))


def _possible(frontier: Frontier, at: Sequence[float]) -> float:
    """The frontier's gain at each seed's KL, the mean over seeds."""
    return float(np.mean([c.at(np.array([kl]), REWARD)[0] for c, kl in zip(frontier.seeds, at, strict=True)]))


def _drawn_gains(
    frontier: Frontier, gains: Sequence[FloatArray], kls: Sequence[FloatArray], *, seed: int
) -> tuple[FloatArray, FloatArray]:
    """The model's gain and the frontier's at the model's KL, in each resample of prompts and seeds: (B,) each."""
    own, best = [], []
    for curve, unit, gain, kl in zip(frontier.seeds, frontier.units, gains, kls, strict=True):
        means = resampled_sums(np.stack([gain, kl], axis=1), seed=seed) / len(kl)
        own.append(means[:, 0] / unit)
        best.append(curve.drawn(means[:, 1:], REWARD, seed=seed)[:, 0] / unit)
    return _over_seeds(own, seed=seed), _over_seeds(best, seed=seed)
