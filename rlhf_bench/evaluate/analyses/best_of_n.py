"""Best-of-n of the reference as a curve: what selection by the reward model gains without any training.

Its KL is bounded by a formula. The true KL needs every response that the reference can give, with its probability: it
is computed where a pool holds them all, as for a toy task with few responses.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.errors import DataError
from rlhf_bench.scorers.reward import READ_OFF
from rlhf_bench.stats import FloatArray, crossed, reference_z_cells
from rlhf_bench.stats.best_of_n import best_of_n, best_of_n_kl, best_of_n_kl_bound
from rlhf_bench.stats.overoptimisation import fit_overoptimisation
from rlhf_bench.store import ANCHORS
from rlhf_bench.store.score_table import score_table

SIZES = (1, 2, 4, 8, 16, 32, 64)
BEST_OF_N = "best of n"  # the curve's name among those of methods
# A response that the pool lacks may be the best of all, and then adds up to n p log n nats: .003 at n = 64.
_ALL = 1 - 1e-5  # the probability that a pool has to hold, of each prompt


def best_of_n_curve(
    pool: pd.DataFrame, reference: pd.DataFrame | None = None, *, seed: int = 0
) -> list[dict[str, Any]]:
    """[{"n", "kl_bound", and an Estimate's dict for each of reward, reward_z and gold that the pool has}, ...].

    With "kl_true", an Estimate's dict too, where the pool has every response of the reference to each prompt
    (`probability_held`): KL(best-of-n || reference) in nats, summed over them, the mean over prompts.

    `pool`: one row per response of the reference, with model, seed, prompt_id, sample and reward, N for each prompt.
    `reference`: the reference's own rows of scores with reward_z, which standardised the pool's; not read where the
    pool has none. The reward chooses, under each seed that seed's own; n goes up to N. `reward` itself is read off for
    one seed only, since reward models of several seeds have no common scale. `kl_bound` is a bound in nats, not a
    measurement.

    Raises DataError for a pool of several models or of prompts without N rewards.
    """
    blocks = _blocks(pool)  # (S, P, N)
    scores = blocks["reward"]
    if len(scores) > 1:
        del blocks["reward"]
    scale = reference_rewards(pool, reference) if "reward_z" in blocks else None
    probabilities = _probabilities(pool)
    if probabilities is not None and (probabilities.sum(axis=2) < _ALL).any():
        probabilities = None
    curve = []
    for n in (n for n in SIZES if n <= scores.shape[2]):
        row: dict[str, Any] = {"n": n, "kl_bound": best_of_n_kl_bound(n)}
        if probabilities is not None:
            row["kl_true"] = crossed(_kl(probabilities, scores, n), seed=seed).to_dict()
        for name, block in blocks.items():
            cells = _chosen(scores, block, n)
            if name == "reward_z" and scale is not None:
                cells = reference_z_cells(cells[..., None], scale)
            row[name] = crossed(cells, seed=seed).to_dict()
        curve.append(row)
    return curve


def reference_rewards(pool: pd.DataFrame, reference: pd.DataFrame | None) -> FloatArray:
    """(S, P, K): the rewards_z of the responses that standardised the pool's, of its seeds and prompts in their order.

    Raises DataError where the reference lacks a seed or prompt of the pool.
    """
    if reference is None:
        raise DataError(
            "a pool with reward_z and no scores given; expected those of the responses that standardised it"
        )
    ours = score_table(pool, [])
    rows = reference[reference["prompt_id"].astype(str).isin(ours.prompts) & reference["seed"].isin(ours.seeds)]
    table = score_table(rows, ["reward_z"])
    if (table.models, table.seeds, table.prompts) != (ours.models, ours.seeds, ours.prompts):
        raise DataError(
            f"scores of {', '.join(table.models)} given, for {len(table.prompts)} of the pool's {len(ours.prompts)} "
            f"prompts; expected those of {ours.models[0]} for each of them, under every seed"
        )
    return table.block(table.models[0], "reward_z")


def best_of_n_fit(pool: pd.DataFrame, *, seed: int = 0) -> list[dict[str, Any]]:
    """Gold gained against the KL's bound, n = 1 ... N, with the best-of-n form of arXiv 2210.10760 and where it turns.

    [{"curve", "points": [{"model", "kl", "gain"}, ...], "fit"}] as of a method's checkpoints (`over_optimisation`); []
    without gold, or with fewer than three n.
    """
    blocks = _blocks(pool)
    sizes = [n for n in SIZES if n <= blocks["reward"].shape[2]]
    if "gold" not in blocks or len(sizes) < 3 or not np.isfinite(blocks["gold"]).all():
        return []
    gold = np.stack([_chosen(blocks["reward"], blocks["gold"], n) for n in sizes])  # (C, S, P)
    gain = gold - gold[0]
    kl = np.array([best_of_n_kl_bound(n) for n in sizes])
    fit = fit_overoptimisation(np.broadcast_to(kl[:, None, None], gain.shape).copy(), gain, form="best-of-n", seed=seed)
    points = [
        {"model": f"best of {n}", "kl": float(x), "gain": crossed(cells, seed=seed).to_dict()}
        for n, x, cells in zip(sizes, kl, gain, strict=True)
    ]
    return [{"curve": BEST_OF_N, "points": points, "fit": asdict(fit)}]


def _chosen(scores: FloatArray, values: FloatArray, n: int) -> FloatArray:
    """(S, P): the mean value of the best of n by the score, from (S, P, N) each."""
    return np.stack([best_of_n(s, v, n) for s, v in zip(scores, values, strict=True)])


def _blocks(pool: pd.DataFrame) -> dict[str, FloatArray]:
    """reward, reward_z and gold, (S, P, N) each. Raises DataError."""
    table = score_table(pool, [name for name in READ_OFF if name in pool.columns])
    if len(table.models) != 1 or table.models[0] in ANCHORS or "reward" not in table.blocks:
        raise DataError(f"a pool of {', '.join(table.models)} given; expected one model, the reference, with a reward")
    blocks = {name: table.block(table.models[0], name) for name in table.blocks}
    there = np.isfinite(blocks["reward"])
    if not there.all():
        raise DataError(
            f"{int((~there).sum())} of {there.size} rewards of the pool are missing; expected {there.shape[2]} a "
            "prompt and seed; draw and score the rest"
        )
    return blocks


def probability_held(pool: pd.DataFrame) -> float | None:
    """The probability of the pool's distinct responses, at the prompt and seed where it is the least.

    A response of unknown probability counts for nothing. None where no response has a known one.
    """
    probabilities = _probabilities(pool)
    return None if probabilities is None else float(probabilities.sum(axis=2).min())


def _probabilities(pool: pd.DataFrame) -> FloatArray | None:
    """(S, P, N): the probability of each response at its first sample, 0 at its copies and where it is unknown."""
    if not {"logprob", "first"} <= set(pool.columns) or pool["logprob"].isna().all():
        return None
    counted = (pool["sample"] == pool["first"]) & pool["logprob"].notna()
    table = score_table(pool.assign(p=np.where(counted, np.exp(pool["logprob"]), 0.0)), ["p"])
    return table.block(table.models[0], "p")


def _kl(probabilities: FloatArray, scores: FloatArray, n: int) -> FloatArray:
    """(S, P): KL(best-of-n || reference) of each prompt, from (S, P, N) each."""
    cells = np.empty(probabilities.shape[:2])
    for at in np.ndindex(*cells.shape):
        there = probabilities[at] > 0
        p = probabilities[at][there]
        cells[at] = best_of_n_kl(p / p.sum(), scores[at][there], n)
    return cells
