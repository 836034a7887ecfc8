"""Over-optimisation along one method's checkpoints: gold reward against sqrt(KL), with the fitted form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from rlhf_bench.evaluate.analyses.tradeoff import KL
from rlhf_bench.stats import crossed
from rlhf_bench.stats.overoptimisation import fit_overoptimisation
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.store.score_table import ScoreTable

GOLD = "gold"


def curve_names(models: Sequence[str], *, at_least: int = 3) -> dict[str, list[str]]:
    """{"grpo": ["grpo@100", "grpo@200", ...]}: models called NAME@STEP, where a name has so many or more."""
    found: dict[str, list[str]] = {}
    for model in models:
        name, at, step = model.partition("@")
        if name and at and step:
            found.setdefault(name, []).append(model)
    return {name: members for name, members in found.items() if len(members) >= at_least}


def over_optimisation(
    table: ScoreTable, *, reference: str, seed: int = 0
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """One dict per curve: {"curve", "points": [{"model", "kl", "gain"}, ...] by rising KL, "fit"}.

    "gain" is gold minus the reference's gold on the same prompts, "fit" the RL form of arXiv 2210.10760 with its
    turning point. Only prompts count that every member has under every seed. Nothing is yielded without gold, KL or the
    reference, nor where fewer than two members have a KL above 0 of their own.
    """
    if not {GOLD, KL} <= table.blocks.keys() or reference not in table.models:
        return
    base = nanmean(table.block(reference, GOLD), axis=2)  # (S, P)
    for name, members in curve_names(table.models).items():
        kl = np.stack([nanmean(table.block(m, KL), axis=2) for m in members])  # (C, S, P)
        gain = np.stack([nanmean(table.block(m, GOLD), axis=2) for m in members]) - base
        prompts = np.isfinite(kl + gain).all(axis=(0, 1))
        kl, gain = kl[:, :, prompts], gain[:, :, prompts]
        x = kl.mean(axis=(1, 2)) if prompts.any() else np.zeros(len(members))
        if len(np.unique(x[x > 0])) < 2:
            continue
        points = [
            {"model": members[i], "kl": float(x[i]), "gain": crossed(gain[i], seed=seed).to_dict()}
            for i in np.argsort(x, kind="stable")
        ]
        fit = fit_overoptimisation(kl, gain, form="rl", seed=seed)
        yield {"curve": name, "points": points, "fit": asdict(fit)}
