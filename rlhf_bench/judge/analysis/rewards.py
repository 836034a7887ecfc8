"""What verdicts say beside the rewards: where a win rate came from, and when quality falls along the frontier.

**Gain.** Each model's win rate split into length, style and the rest, the verdicts' part of the gain's split.

**Forecast.** The weights of the frontier depend on a response by its reward r alone, so what it gains in quality is
known from the mean quality at each reward. That is taken to be b r + c r^2, in the verdicts' units:

    verdict - 1/2 = b (r_1 - r_2) + c (r_1^2 - r_2^2) + noise

on pairs of responses to one prompt, by least squares without an intercept: two samples of one model are alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.errors import BadValue
from rlhf_bench.judge.analysis.pairs import blocks, matchups
from rlhf_bench.scorers.reward import reward_scales, with_reward_z
from rlhf_bench.scorers.style import COLUMNS_OF_GROUP, STYLE_COLUMNS
from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.decomposition import fit_paired_prices, split_gain
from rlhf_bench.stats.frontier import REWARD, estimate_frontier, turn_of_sum
from rlhf_bench.stats.pigeonhole import crossed_sums
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.types import Estimate

LEAST_PAIRS = 50  # with a verdict: of fewer the curve of quality against reward is anything
_SQUARE = "reward squared"
_KEYS = ["seed", "prompt_id", "sample"]


def verdict_gains(pairs: pd.DataFrame, scores: pd.DataFrame, *, seed: int = 0) -> list[dict[str, Any]]:
    """[{"model", "baseline", "gain": the win rate less one half, "parts", "shares", "without"}, ...] of folded pairs.

    A model without a split has a "reason" in place of its numbers. `scores` hold the features of both responses; where
    they have none the list is empty.
    """
    if not {*STYLE_COLUMNS} <= set(scores.columns):
        return []
    return [
        {"model": model, "baseline": baseline, **_split(_with_shift(group, scores, model, baseline), seed)}
        for model, baseline, group in matchups(pairs)
    ]


def _with_shift(pairs: pd.DataFrame, scores: pd.DataFrame, model: str, baseline: str) -> pd.DataFrame:
    """The pairs with the features of the model's response minus the baseline's in the features' columns."""
    keyed = scores[["model", *_KEYS, *STYLE_COLUMNS]]
    sides = [
        pairs[_KEYS].merge(keyed[keyed["model"] == name], on=_KEYS, how="left")[STYLE_COLUMNS]
        for name in (model, baseline)
    ]
    return pd.concat([pairs.reset_index(drop=True), sides[0] - sides[1]], axis=1)


def _split(pairs: pd.DataFrame, seed: int) -> dict[str, Any]:
    known = pairs[pairs[["outcome", *STYLE_COLUMNS]].notna().all(axis=1)]
    outcome, *features = blocks(known, ["outcome", *STYLE_COLUMNS])
    shift = np.stack(features, axis=-1)  # (S, P, K, F)
    gain = nanmean(outcome, axis=2) - 0.5  # (S, P)
    everywhere = np.isfinite(gain).all(axis=0)
    try:
        if not everywhere.any():
            raise BadValue("no prompt with a verdict under every seed")
        outcome, shift, gain = outcome[:, everywhere], shift[:, everywhere], gain[:, everywhere]
        prices = fit_paired_prices(outcome - 0.5, shift, COLUMNS_OF_GROUP, seed=seed)
    except BadValue as error:
        return {"reason": str(error)}
    return split_gain(prices, gain, nanmean(shift, axis=2)).to_dict()


def verdict_forecast(
    pairs: pd.DataFrame, scores: pd.DataFrame, pool: pd.DataFrame, *, reference: str, seed: int = 0
) -> dict[str, Any]:
    """{"pairs", "kl": an Estimate's dict, infinite where quality still rises at the end, "share", "reach"}, or
    {"reason"}.

    `pairs`: folded, of each `sample` of the reference with the one after it; `pool`: its samples with reward_z.
    """
    try:
        if "reward" not in scores.columns or "reward_z" not in pool.columns:
            raise BadValue("the result has no rewards")
        own = with_reward_z(scores, reward_scales(scores, reference))
        rewards = own.loc[own["model"] == reference, [*_KEYS, "reward_z"]]
        later = rewards.assign(sample=rewards["sample"] - 1).rename(columns={"reward_z": "other"})
        known = pairs.merge(rewards, on=_KEYS).merge(later, on=_KEYS)
        known = known[known[["outcome", "reward_z", "other"]].notna().all(axis=1)]
        if len(known) < LEAST_PAIRS:
            raise BadValue(f"{len(known)} verdicts on pairs of its samples given; expected {LEAST_PAIRS} or more")
        (block,) = blocks(pool, ["reward_z"])  # (S, P, N)
        frontier = estimate_frontier(list(block), {_SQUARE: list(block**2)}, seed=seed)
    except BadValue as error:
        return {"reason": str(error)}
    slope, curvature = _quality(known, seed=seed)
    turn = turn_of_sum(frontier, {REWARD: slope, _SQUARE: curvature}, seed=seed)
    n, seeds = known["prompt_id"].nunique(), len(block)
    found = Estimate(turn.kl, turn.low, turn.high, n, method="bootstrap", n_seeds=seeds)
    return {"pairs": len(known), "kl": found.to_dict(), "share": turn.share, "reach": frontier.reach}


def _quality(pairs: pd.DataFrame, *, seed: int) -> tuple[FloatArray, FloatArray]:
    """b and c, (1 + B,) each: of all pairs, and of each resample of prompts and seeds."""
    first, second = (pairs[name].to_numpy(dtype=np.float64) for name in ("reward_z", "other"))
    x = np.stack([first - second, first**2 - second**2], axis=1)  # (N, 2)
    y = pairs["outcome"].to_numpy(dtype=np.float64) - 0.5
    products = {"bb": x[:, 0] ** 2, "bc": x[:, 0] * x[:, 1], "cc": x[:, 1] ** 2, "by": x[:, 0] * y, "cy": x[:, 1] * y}
    cells = [np.nansum(block, axis=2) for block in blocks(pairs.assign(**products), list(products))]  # (S, P) each
    features = np.stack(cells, axis=2)
    drawn = crossed_sums(features, seed=seed)
    bb, bc, cc, by, cy = np.concatenate([features.sum(axis=(0, 1))[None], drawn]).T
    determinant = bb * cc - bc**2
    return (cc * by - bc * cy) / determinant, (bb * cy - bc * by) / determinant
