"""Reward against KL of all models at once: the Pareto front, each model's chance to be on it, and the hypervolume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rlhf_bench.stats import scaled_cells
from rlhf_bench.stats.pareto import front_probability, hypervolume_estimate, pareto_front
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.store import ANCHORS
from rlhf_bench.store.score_table import BY_REFERENCE, ScoreTable

HYPERVOLUME_KL = 10.0

KL = "kl_exact"
REWARDS = ("reward_z", "gold")


def tradeoffs(table: ScoreTable, *, reference: str, kl_limit: float, seed: int = 0) -> Iterator[dict[str, Any]]:
    """One dict per reward, over the models that have it and a KL: {"metric", "front", "on_front", "hypervolume", ...}.

    The hypervolume is taken above the reference's own reward and below `kl_limit` nats; "on_front" holds the share of
    resamples in which a model is on the front. Only prompts count that every model has under every seed; models
    without any are named in "left_out". Nothing is yielded for fewer than two models, or without the reference.
    """
    if KL not in table.blocks:
        return
    kl = {m: nanmean(table.block(m, KL), axis=2) for m in table.models if m not in ANCHORS}  # (S, P)
    if reference in kl:
        kl[reference] = np.zeros_like(kl[reference])  # by definition
    for metric in (name for name in REWARDS if name in table.blocks):
        reward = {m: nanmean(table.block(m, metric), axis=2) for m in kl}
        known = {m: np.isfinite(kl[m] + reward[m]) for m in kl}
        players = [m for m in kl if known[m].any(axis=1).all()]
        prompts = np.all([known[m].all(axis=0) for m in players], axis=0) if players else np.zeros(0, dtype=bool)
        if reference not in players or len(players) < 2 or not prompts.any():
            continue
        x = np.stack([kl[m][:, prompts] for m in players])
        gain = np.stack([(reward[m] - reward[reference])[:, prompts] for m in players])
        if metric in BY_REFERENCE:
            scale = table.block(reference, metric)[:, prompts]
            gain = np.stack([scaled_cells(cells, scale) for cells in gain])
        means = zip(*(side.mean(axis=(1, 2)).tolist() for side in (x, gain)), strict=True)
        yield {
            "metric": metric,
            "kl": KL,
            "front": pareto_front(dict(zip(players, means, strict=True))),
            "on_front": dict(zip(players, front_probability(x, gain, seed=seed).tolist(), strict=True)),
            "hypervolume": hypervolume_estimate(x, gain, limit=kl_limit, seed=seed).to_dict(),
            "kl_limit": kl_limit,
            "left_out": [m for m in kl if m not in players],
        }
