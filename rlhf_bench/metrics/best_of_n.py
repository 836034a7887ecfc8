"""Best-of-n of the reference as a curve: what choosing by the reward model buys without any training.

Its KL is bounded by a formula. The truth needs every response that the reference can give, and its probability: where a
pool holds them all, as of a toy with few responses, it is summed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.errors import DataError
from rlhf_bench.metrics.table import score_table
from rlhf_bench.stats import FloatArray, crossed
from rlhf_bench.stats.best_of_n import best_of_n, best_of_n_kl, best_of_n_kl_bound
from rlhf_bench.store import ANCHORS

__all__ = ["READ_OFF", "SIZES", "best_of_n_curve", "probability_held"]

SIZES = (1, 2, 4, 8, 16, 32, 64)
READ_OFF = ("reward", "reward_z", "gold")
# A response that the pool lacks may be the best of all, and then adds up to n p log n nats: .003 at n = 64.
_ALL = 1 - 1e-5  # the probability that a pool has to hold, of each prompt


def best_of_n_curve(pool: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> list[dict[str, Any]]:
    """[{"n", "kl_bound", and an Estimate's dict for each of reward, reward_z and gold that the pool has}, ...].

    With "kl_true", an Estimate's dict too, where the pool has every response of the reference to each prompt
    (`probability_held`): KL(best-of-n || reference) in nats, summed over them, the mean over prompts.

    `pool`: a row a response of the reference, with model, seed, prompt_id, sample and reward, N samples of each prompt.
    The reward chooses, under each seed that seed's own; n goes up to N. `reward` itself is read off for one seed only,
    since reward models of several seeds have no common scale. `kl_bound` is a bound in nats, not a measurement.

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
    probabilities = _probabilities(pool)
    if probabilities is not None and (probabilities.sum(axis=2) < _ALL).any():
        probabilities = None
    curve = []
    for n in (n for n in SIZES if n <= scores.shape[2]):
        row: dict[str, Any] = {"n": n, "kl_bound": best_of_n_kl_bound(n)}
        if probabilities is not None:
            row["kl_true"] = crossed(_kl(probabilities, scores, n), level=level, seed=seed).to_dict()
        for name, block in blocks.items():
            cells = np.stack([best_of_n(s, values, n) for s, values in zip(scores, block, strict=True)])
            row[name] = crossed(cells, level=level, seed=seed).to_dict()
        curve.append(row)
    return curve


def probability_held(pool: pd.DataFrame) -> float | None:
    """The probability of the pool's distinct responses, at the prompt and seed where it is the least.

    A response of unknown probability counts for nothing. None where no response has a known one.
    """
    probabilities = _probabilities(pool)
    return None if probabilities is None else float(probabilities.sum(axis=2).min())


def _probabilities(pool: pd.DataFrame) -> FloatArray | None:
    """(S, P, N): of each response at its first sample, 0 at its copies and where it is unknown."""
    if not {"logprob", "first"} <= set(pool.columns) or pool["logprob"].isna().all():
        return None
    counted = (pool["sample"] == pool["first"]) & pool["logprob"].notna()
    table = score_table(pool.assign(p=np.where(counted, np.exp(pool["logprob"]), 0.0)), ["p"])
    return table.block(table.models[0], "p")


def _kl(probabilities: FloatArray, scores: FloatArray, n: int) -> FloatArray:
    """(S, P), of (S, P, N) each."""
    cells = np.empty(probabilities.shape[:2])
    for at in np.ndindex(*cells.shape):
        there = probabilities[at] > 0
        p = probabilities[at][there]
        cells[at] = best_of_n_kl(p / p.sum(), scores[at][there], n)
    return cells
