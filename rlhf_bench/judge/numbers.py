"""Win rates with their intervals, tests and counts: one row a model and baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.judge.rates import bounded_mean
from rlhf_bench.judge.verdicts import WHY, blocks, matchups
from rlhf_bench.stats import FloatArray, crossed, crossed_difference, holm
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.types import Estimate

__all__ = ["WinRate", "round_robin", "win_rates"]


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often `model` beats `baseline`: share of prompts won, a tie 0.5."""

    model: str
    baseline: str
    estimate: Estimate
    per_seed: Mapping[str, Estimate]
    soft: Estimate | None  # mean probability that the model wins, where log-probabilities were offered
    lowest: float  # the win rate if every unread answer had spoken against the model
    highest: float  # ... and for it
    p_paired: float  # against 0.5
    p_wilcoxon: float | None
    p_holm: float  # Holm over the rows of the same table
    detectable: float  # smallest true distance from 0.5 that so many prompts find with 80 % power
    counts: Mapping[str, int]  # pairs, wins, losses, and each of WHY

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def win_rates(pairs: pd.DataFrame, *, seed: int = 0, level: float = 0.95) -> list[WinRate]:
    """A row a (model, baseline) of folded pairs (`verdicts.fold`), in the order of their first rows.

    Prompts are crossed with training seeds; a prompt's samples are averaged first. The interval is exact where all is
    won or lost (`rates.bounded_mean`). A pair without an outcome is left out of the estimate, counted, and bounded by
    `lowest` and `highest`. `seed` sets the resampling alone.
    """
    rows = [_win_rate(model, baseline, group, level=level, seed=seed) for model, baseline, group in matchups(pairs)]
    adjusted = holm([row.p_paired for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]


def _win_rate(model: str, baseline: str, pairs: pd.DataFrame, *, level: float, seed: int) -> WinRate:
    outcome, least, most, soft = blocks(pairs, ["outcome", "least", "most", "soft"])
    seeds = sorted({int(s) for s in pairs["seed"]})
    within = {str(s): bounded_mean(outcome[i : i + 1], level=level, seed=seed) for i, s in enumerate(seeds)}
    cells = nanmean(outcome, axis=2)
    against_even = crossed_difference(cells, np.full_like(cells, 0.5), level=level, seed=seed)
    soft_rate = bounded_mean(soft, level=level, seed=seed)
    return WinRate(
        model=model,
        baseline=baseline,
        estimate=bounded_mean(outcome, level=level, seed=seed),
        per_seed={name: estimate for name, estimate in within.items() if estimate.n},
        soft=soft_rate if soft_rate.n else None,
        lowest=_value(least),
        highest=_value(most),
        p_paired=against_even.p_paired,
        p_wilcoxon=against_even.p_wilcoxon,
        p_holm=against_even.p_paired,
        detectable=against_even.detectable,
        counts=_counts(pairs),
    )


def _value(samples: FloatArray) -> float:
    return crossed(nanmean(samples, axis=2)).value


def _counts(pairs: pd.DataFrame) -> dict[str, int]:
    outcome, why = pairs["outcome"], pairs["why"]
    return {
        "pairs": len(pairs),
        "wins": int((outcome == 1).sum()),
        "losses": int((outcome == 0).sum()),
        **{name: int((why == name).sum()) for name in WHY},
    }


def round_robin(pairs: pd.DataFrame, *, seed: int = 0, level: float = 0.95) -> dict[tuple[str, str], Estimate]:
    """(a, b) -> how often a beats b, for every two models that met, in both directions.

    A matchup that was asked as (b, a) is turned round and joined to the others, so (a, b) and (b, a) add up to 1.
    """
    model, baseline = pairs["model"].astype(str), pairs["baseline"].astype(str)
    found = {}
    for a, b in combinations(dict.fromkeys([*model, *baseline]), 2):
        straight = ((model == a) & (baseline == b)).to_numpy()
        met = straight | ((model == b) & (baseline == a)).to_numpy()
        if not met.any():
            continue
        outcome = np.where(straight, pairs["outcome"], 1 - pairs["outcome"])
        (block,) = blocks(pairs.assign(outcome=outcome)[met], ["outcome"])
        found[a, b] = bounded_mean(block, level=level, seed=seed)
        found[b, a] = bounded_mean(1 - block, level=level, seed=seed)
    return found
