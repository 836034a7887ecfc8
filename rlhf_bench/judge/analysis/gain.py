"""Where each model's win rate came from: length, style, and the rest; the verdicts' part of the gain's split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.errors import BadValue
from rlhf_bench.judge.analysis.pairs import blocks, matchups
from rlhf_bench.scorers.features import FEATURES
from rlhf_bench.scorers.style import GROUPS, PREFIX
from rlhf_bench.stats.decomposition import fit_paired_prices, split_gain
from rlhf_bench.stats.resample import nanmean

__all__ = ["verdict_gains"]

_NAMES = list(FEATURES)
_COLUMNS = [f"{PREFIX}{name}" for name in _NAMES]
_GROUPS = {group: [_NAMES.index(name) for name in members] for group, members in GROUPS.items()}
_KEYS = ["seed", "prompt_id", "sample"]


def verdict_gains(
    pairs: pd.DataFrame, scores: pd.DataFrame, *, level: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """[{"model", "baseline", "gain": the win rate less one half, "parts", "shares", "without"}, ...] of folded pairs.

    A model without a split has a "reason" in place of its numbers. `scores` hold the features of both responses; where
    they have none the list is empty.
    """
    if not {*_COLUMNS} <= set(scores.columns):
        return []
    return [
        {"model": model, "baseline": baseline, **_split(_with_shift(group, scores, model, baseline), level, seed)}
        for model, baseline, group in matchups(pairs)
    ]


def _with_shift(pairs: pd.DataFrame, scores: pd.DataFrame, model: str, baseline: str) -> pd.DataFrame:
    """The pairs with the features of the model's response minus the baseline's in the features' columns."""
    sides = [
        pairs[_KEYS].merge(scores.loc[scores["model"] == name, [*_KEYS, *_COLUMNS]], on=_KEYS, how="left")[_COLUMNS]
        for name in (model, baseline)
    ]
    return pd.concat([pairs.reset_index(drop=True), sides[0] - sides[1]], axis=1)


def _split(pairs: pd.DataFrame, level: float, seed: int) -> dict[str, Any]:
    known = pairs[pairs[["outcome", *_COLUMNS]].notna().all(axis=1)]
    outcome, *features = blocks(known, ["outcome", *_COLUMNS])
    shift = np.stack(features, axis=-1)  # (S, P, K, F)
    gain = nanmean(outcome, axis=2) - 0.5  # (S, P)
    everywhere = np.isfinite(gain).all(axis=0)
    try:
        if not everywhere.any():
            raise BadValue("no prompt with a verdict under every seed")
        outcome, shift, gain = outcome[:, everywhere], shift[:, everywhere], gain[:, everywhere]
        prices = fit_paired_prices(outcome - 0.5, shift, _GROUPS, level=level, seed=seed)
    except BadValue as error:
        return {"reason": str(error)}
    return split_gain(prices, gain, nanmean(shift, axis=2)).to_dict()
