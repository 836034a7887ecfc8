"""The optimal frontier of the reference, and how much of what was possible at its KL each model gained.

The pool is the one that best-of-n chooses from: one row per response of the reference, N to each prompt and seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate.analyses.best_of_n import reference_rewards
from rlhf_bench.evaluate.analyses.tradeoff import KL
from rlhf_bench.scorers.reward import READ_OFF
from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.frontier import REWARD, Frontier, efficiency, estimate_frontier, excess, samples_needed
from rlhf_bench.stats.resample import LEVEL, nanmean
from rlhf_bench.store import ANCHORS
from rlhf_bench.store.score_table import ScoreTable, score_table
from rlhf_bench.types import Alarm, Estimate

OPTIMISED = "reward_z"  # of several seeds the only one with a common scale
ABOVE = "reward above the optimal frontier"  # the check of the alarm


def frontier_curve(pool: pd.DataFrame, scores: pd.DataFrame, *, seed: int = 0) -> dict[str, Any]:
    """The key "frontier" of metrics.json.

    {"n_samples", "reach", "level", "start": the reference's own numbers by the pool,
     "points": [{"kl", "bias", and an Estimate's dict of the gain in each of reward, reward_z and gold}, ...],
     "by_size": {N: the gain in reward_z at the end of the curve from N samples a prompt, NaN where theirs ends before},
     "turns": {"gold": {"kl": an Estimate's dict, infinite where gold still rises at the end, "share"}},
     "models": {name: {"kl", "gain", "efficiency" and "excess" or None, "reason", "needed"}}}

    `pool` with reward_z as in `best_of_n_curve`; `scores` with reward_z and kl_exact of every response.

    Raises BadValue, with the reason, where the pool supports no curve.
    """
    table = score_table(pool, [name for name in READ_OFF if name in pool.columns])
    blocks = {name: table.block(table.models[0], name) for name in table.blocks}  # (S, P, N)
    if OPTIMISED not in blocks or not np.isfinite(blocks[OPTIMISED]).all():
        raise BadValue("rewards of the pool that cannot be standardised; the frontier needs one for each response")
    if len(blocks[OPTIMISED]) > 1:
        blocks.pop("reward", None)
    others = {name: list(b) for name, b in blocks.items() if name != OPTIMISED and np.isfinite(b).all()}
    own = reference_rewards(pool, scores[scores["model"] == table.models[0]])
    found = estimate_frontier(list(blocks[OPTIMISED]), others, standardised_by=own, seed=seed)
    start = nanmean(blocks[OPTIMISED], axis=2)  # (S, P)
    return {
        "n_samples": found.n_samples,
        "reach": found.reach,
        "level": LEVEL,
        "start": {_stored(name): float(np.mean([c.level[name] for c in found.seeds])) for name in found.gain},
        "points": [_point(found, i) for i in range(len(found.kl))],
        "by_size": {str(n): float(gain[-1]) for n, gain in found.by_size.items()},
        "turns": {
            name: {"kl": _estimate(found, turn.kl, turn.low, turn.high), "share": turn.share}
            for name, turn in found.turn.items()
            if name == "gold"
        },
        "models": dict(_models(found, start, table.prompts, scores, table.models[0], seed)),
    }


def _stored(name: str) -> str:
    """The metric's name; what is optimised is called REWARD in statistics, and raw rewards are read off beside it."""
    return OPTIMISED if name == REWARD else name


def _point(found: Frontier, i: int) -> dict[str, Any]:
    gains = {
        _stored(name): _estimate(found, found.gain[name][i], found.low[name][i], found.high[name][i])
        for name in found.gain
    }
    return {"kl": float(found.kl[i]), "bias": float(found.bias[i]), **gains}


def _estimate(found: Frontier, value: float, low: float, high: float) -> dict[str, Any]:
    n, n_seeds = found.seeds[0].kl.shape[1], len(found.seeds)
    limits = float(value), float(low), float(high)
    return Estimate(*limits, n, LEVEL, "bootstrap", n_seeds).to_dict()


def _models(
    found: Frontier, start: FloatArray, prompts: list[str], scores: pd.DataFrame, reference: str, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model's place under the frontier; the reference's own mean is the pool's, of more samples than the table."""
    rows = scores[scores["prompt_id"].astype(str).isin(prompts)]
    table = score_table(rows, [name for name in (OPTIMISED, KL) if name in rows.columns])
    for model in (m for m in table.models if m not in (reference, *ANCHORS)):
        yield model, _model(found, start, table, model, prompts, seed)


def _model(
    found: Frontier, start: FloatArray, table: ScoreTable, model: str, prompts: list[str], seed: int
) -> dict[str, Any]:
    none: dict[str, Any] = {"kl": None, "gain": None, "efficiency": None, "excess": None, "needed": None}
    if not {OPTIMISED, KL} <= table.blocks.keys() or table.prompts != prompts:
        return {**none, "reason": "it lacks rewards or KL of the pool's prompts"}
    reward, kl = (nanmean(table.block(model, name), axis=2) for name in (OPTIMISED, KL))  # (S, P)
    if not np.isfinite(reward + kl).all():
        return {**none, "reason": "it lacks a reward or a KL of some prompt"}
    gains, kls = list(reward - start), list(kl)
    own = {**none, "kl": float(kl.mean()), "gain": float((reward - start).mean())}
    try:
        share = efficiency(found, gains, kls, seed=seed)
    except BadValue as error:
        at = [(float(k.mean()), curve.reach) for k, curve in zip(kls, found.seeds, strict=True)]
        needed = [samples_needed(k, samples=found.n_samples, reach=reach) for k, reach in at if k > reach]
        return {**own, "reason": str(error), "needed": max(needed, default=None)}
    above = excess(found, gains, kls, seed=seed)
    return {**own, "efficiency": share.to_dict(), "excess": above.to_dict(), "reason": None}


def frontier_alarms(curve: dict[str, Any]) -> Iterator[Alarm]:
    """A model above the frontier, by more than its band and bias: its KL or its reward is measured wrongly."""
    for model, row in curve["models"].items():
        if row["excess"] is None:
            continue
        above = Estimate.from_dict(row["excess"])
        if math.isfinite(above.low) and above.low > 0:
            what = f"gains {above.signed()} sd more than any policy can at its KL of {row['kl']:.2f} nats"
            yield Alarm(model, "above_frontier", f"{model}: {what}: its KL or its reward is measured wrongly")
