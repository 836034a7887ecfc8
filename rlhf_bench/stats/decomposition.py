"""Where a difference in means came from: the Oaxaca-Blinder decomposition, with Shapley values over groups of features.

An outcome y (a reward) is regressed on features x of the response, on the reference's samples, both demeaned within
prompts: so a feature's price b is what the outcome changes by between responses to one prompt. Of a model's gain,

    mean y_model - mean y_reference = b (mean x_model - mean x_reference) + rest,

the first term is explained by the features (Oaxaca 1973, Blinder 1973; the reference's prices). With v(S) the gain that
is explained by a refit on the groups of features S, the part of a group is its Shapley value: the mean of what it adds
to v over all orders of the groups (Shapley 1953), so that no order decides and the parts sum to v(all).

A verdict on a pair has no value for the reference's samples alone. It is regressed on the differences of the pair's
features, with an intercept: the model's lead where both responses have the same features, which is the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.crossed import crossed
from rlhf_bench.stats.linearised import resampled_scale, scaled_cells
from rlhf_bench.stats.pigeonhole import percentile, seed_weights
from rlhf_bench.stats.resample import FloatArray, resampled_sums
from rlhf_bench.types import Estimate

REST = "rest"  # what no feature explains
LEAST_PROMPTS = 10  # in which a feature must differ between samples for its price to be estimated
_RIDGE = 1e-6  # per sample and squared standard deviation: keeps a price finite where features are collinear

Subset = frozenset[str]


@dataclass(frozen=True)
class Prices:
    """Prices of F features, fitted on each subset of the groups; row 0 is the estimate, B resamples follow."""

    groups: tuple[str, ...]  # those that have a price
    by_subset: Mapping[Subset, FloatArray]  # (S, 1 + B, F) each; 0 for a feature outside the subset
    weights: FloatArray  # (1 + B, S) of the seeds in a mean
    seed: int
    outcome: FloatArray | None = None  # (S, P, K) the reference's, where it standardised the outcome of every model


@dataclass(frozen=True)
class Split:
    """A gain and its parts, in units of the outcome; the parts sum to the gain."""

    gain: Estimate
    parts: dict[str, Estimate]  # group, and the rest
    shares: dict[str, Estimate]  # of the gain; empty unless its interval excludes 0
    without: dict[str, Estimate]  # the gain less the part of a group

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_prices(
    outcome: FloatArray,
    features: FloatArray,
    groups: Mapping[str, Sequence[int]],
    *,
    standardised: bool = False,
    seed: int = 0,
) -> Prices:
    """What the outcome pays for each feature, on the reference's samples.

    outcome: (S, P, K), NaN for a sample that is not there; features: (S, P, K, F); groups: name -> features, by number.
    A feature that differs between samples in fewer than 10 prompts under some seed has no price. `standardised`: the
    unit of the outcome is the standard deviation of these very responses, an estimate like the rest.

    Raises BadValue where no prompt has two samples, or no feature a price.
    """
    there = np.isfinite(outcome) & np.isfinite(features).all(axis=3)  # (S, P, K)
    if (there.sum(axis=2) < 2).all():
        raise BadValue("one sample a prompt given; prices within prompts need two or more")
    x, y = _within(features, there[..., None]), _within(outcome[..., None], there[..., None])
    prices = _fitted(x, y[..., 0], x, groups, n=int(there.sum()), seed=seed)
    return replace(prices, outcome=outcome) if standardised else prices


def fit_paired_prices(
    outcome: FloatArray,
    shift: FloatArray,
    groups: Mapping[str, Sequence[int]],
    *,
    seed: int = 0,
) -> Prices:
    """What a verdict pays for each feature in which a pair's responses differ, at equal features of all others.

    outcome: (S, P, K), above 0 for the model, NaN for a pair that is not there; shift: (S, P, K, F), the features of
    the model's response minus the other's. Pairs of a prompt share its weight. The regression has an intercept, which
    is what `split_gain` leaves for the rest.

    Raises BadValue where no feature has a price.
    """
    there = np.isfinite(outcome) & np.isfinite(shift).all(axis=3)  # (S, P, K)
    share = there / np.sqrt(np.maximum(there.sum(axis=2, keepdims=True), 1))
    x, y = np.where(there[..., None], shift, 0.0) * share[..., None], np.where(there, outcome, 0.0) * share
    weighted = (x * share[..., None]).sum(axis=(1, 2), keepdims=True)
    mean = weighted / (share**2).sum(axis=(1, 2))[:, None, None, None]
    varying = np.where(there[..., None], shift - mean, 0.0)
    return _fitted(x, y, varying, groups, intercept=share, n=int(there.any(axis=2).sum()), seed=seed)


def _fitted(
    x: FloatArray,
    y: FloatArray,
    varying: FloatArray,
    groups: Mapping[str, Sequence[int]],
    *,
    n: int,
    seed: int,
    intercept: FloatArray | None = None,
) -> Prices:
    """Least squares of y (S, P, K) on x (S, P, K, F) and a column for the intercept, for each subset of the groups.

    `varying`: what differs of each feature, by which it is seen to have a price; n: the weight of all rows.
    """
    priced = ((np.abs(varying) > 1e-12).any(axis=2).sum(axis=1) >= LEAST_PROMPTS).all(axis=0)  # (F,)
    kept = {name: [f for f in members if priced[f]] for name, members in groups.items()}
    names = tuple(name for name, members in kept.items() if members)
    if not names:
        raise BadValue(f"no feature differs between responses to one prompt in {LEAST_PROMPTS} prompts or more")
    sd = np.where(priced, np.sqrt((x**2).sum(axis=(0, 1, 2)) / n), 1.0)  # (F,)
    columns = x / sd
    if intercept is not None:
        columns = np.concatenate([columns, intercept[..., None]], axis=3)
    always = [] if intercept is None else [x.shape[3]]
    gram = _with_resamples(np.einsum("spkf,spkg->spfg", columns, columns), seed)  # (S, 1 + B, F, F)
    cross = _with_resamples(np.einsum("spkf,spk->spf", columns, y), seed)
    by_subset = {}
    for subset in chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)):
        members = sorted(chain.from_iterable(kept[name] for name in subset))
        by_subset[frozenset(subset)] = _solved(gram, cross, [*members, *always], n)[..., : x.shape[3]] / sd
    s, b = gram.shape[0], gram.shape[1] - 1
    weights = np.concatenate([np.full((1, s), 1 / s), seed_weights(s, seed=seed, resamples=b)])
    return Prices(names, by_subset, weights, seed)


def _within(values: FloatArray, there: npt.NDArray[np.bool_]) -> FloatArray:
    """(S, P, K, F) minus the prompt's mean; 0 for a sample that is not there."""
    count = np.maximum(there.sum(axis=2, keepdims=True), 1)
    known = np.where(there, values, 0.0)
    within: FloatArray = np.where(there, known - known.sum(axis=2, keepdims=True) / count, 0.0)
    return within


def _with_resamples(cells: FloatArray, seed: int) -> FloatArray:
    """(S, P, ...) -> (S, 1 + B, ...): sums over the prompts, and over each resample of them."""
    shape = cells.shape[2:]
    flat = cells.reshape(*cells.shape[:2], -1)
    sums = [np.concatenate([of_seed.sum(0)[None], resampled_sums(of_seed, seed=seed)]) for of_seed in flat]
    return np.stack(sums).reshape(len(flat), -1, *shape)


def _solved(gram: FloatArray, cross: FloatArray, members: Sequence[int], n: float) -> FloatArray:
    """Least squares on some of the features: (S, 1 + B, F), 0 for the others."""
    prices = np.zeros_like(cross)
    if members:
        at = np.ix_(range(gram.shape[0]), range(gram.shape[1]), members, members)
        left = gram[at] + _RIDGE * n * np.eye(len(members))
        prices[..., members] = np.linalg.solve(left, cross[..., members, None])[..., 0]
    return prices


def split_gain(prices: Prices, gain: FloatArray, shift: FloatArray) -> Split:
    """A model's gain over the reference, split by the groups of features.

    gain: (S, P), the model's mean outcome minus the reference's; shift: (S, P, F), likewise of the features; all
    finite, on the prompts that the prices were fitted on.
    """
    p = gain.shape[1]
    unit = _unit(prices)  # (S, 1 + B)
    moved = _with_resamples(shift, prices.seed) / p  # (S, 1 + B, F)
    whole = _over_seeds(prices, _with_resamples(gain[..., None], prices.seed)[..., 0] / p / unit)  # (1 + B,)
    explained = {subset: _over_seeds(prices, (moved * b).sum(-1) / unit) for subset, b in prices.by_subset.items()}
    parts = {name: _shapley(explained, prices.groups, name) for name in prices.groups}
    parts[REST] = whole - sum(parts.values())

    def estimate(values: FloatArray) -> Estimate:
        return percentile(float(values[0]), values[1:], n=p, n_seeds=len(gain))

    cells = gain if prices.outcome is None else scaled_cells(gain, prices.outcome)
    total = crossed(cells, seed=prices.seed)
    is_clear = total.low > 0 or total.high < 0
    nonzero = np.where(whole == 0, np.nan, whole)  # a resample without a gain has no shares
    return Split(
        total,
        {name: estimate(values) for name, values in parts.items()},
        {name: estimate(values / nonzero) for name, values in parts.items()} if is_clear else {},
        {name: estimate(whole - parts[name]) for name in prices.groups},
    )


def _unit(prices: Prices) -> FloatArray:
    """(S, 1 + B): the unit of a standardised outcome in each resample, over that of the data; else 1."""
    if prices.outcome is None:
        return np.ones(1)
    drawn = resampled_scale(prices.outcome, seed=prices.seed)
    return np.concatenate([np.ones((len(drawn), 1)), drawn], axis=1)


def _over_seeds(prices: Prices, values: FloatArray) -> FloatArray:
    """(S, 1 + B) -> (1 + B,)."""
    mean: FloatArray = np.einsum("bs,sb->b", prices.weights, values)
    return mean


def _shapley(value: Mapping[Subset, FloatArray], players: Sequence[str], player: str) -> FloatArray:
    """The mean of what a player adds, over all orders of the players: (1 + B,)."""
    others = [name for name in players if name != player]
    total = np.zeros_like(value[frozenset()])
    for size in range(len(others) + 1):
        weight = 1 / (len(players) * math.comb(len(others), size))
        for subset in combinations(others, size):
            total += weight * (value[frozenset((*subset, player))] - value[frozenset(subset)])
    return total
