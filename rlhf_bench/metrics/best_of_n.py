"""Best-of-n of the reference as a curve: what choosing by the reward model buys without any training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.errors import DataError
from rlhf_bench.metrics.table import score_table
from rlhf_bench.stats import crossed
from rlhf_bench.stats.best_of_n import best_of_n, best_of_n_kl_bound
from rlhf_bench.store import ANCHORS

__all__ = ["READ_OFF", "SIZES", "best_of_n_curve"]

SIZES = (1, 2, 4, 8, 16, 32, 64)
READ_OFF = ("reward", "reward_z", "gold")


def best_of_n_curve(pool: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> list[dict[str, Any]]:
    """[{"n", "kl_bound", and an Estimate's dict for each of reward, reward_z and gold that the pool has}, ...].

    `pool`: a row a response of the reference, with model, seed, prompt_id, sample and reward, N samples of each prompt.
    The reward chooses, under each seed that seed's own; n goes up to N. `reward` itself is read off for one seed only,
    since reward models of several seeds have no common scale. The KL is a bound in nats, not a measurement.

    Raises DataError for a pool of several models or of prompts without N rewards.
    """
    table = score_table(pool, [name for name in READ_OFF if name in pool.columns])
    if len(table.models) != 1 or table.models[0] in ANCHORS or "reward" not in table.blocks:
        raise DataError(f"a pool of {', '.join(table.models)} given; expected one model, the reference, with a reward")
    blocks = {name: table.block(table.models[0], name) for name in table.blocks}  # (S, P, N)
    scores = blocks["reward"]
    there = np.isfinite(scores)
    if not there.all():
        raise DataError(
            f"{int((~there).sum())} of {there.size} rewards of the pool are missing; expected {scores.shape[2]} a "
            "prompt and seed; draw and score the rest"
        )
    if len(table.seeds) > 1:
        del blocks["reward"]
    curve = []
    for n in (n for n in SIZES if n <= scores.shape[2]):
        row: dict[str, Any] = {"n": n, "kl_bound": best_of_n_kl_bound(n)}
        for name, block in blocks.items():
            cells = np.stack([best_of_n(s, values, n) for s, values in zip(scores, block, strict=True)])
            row[name] = crossed(cells, level=level, seed=seed).to_dict()
        curve.append(row)
    return curve
