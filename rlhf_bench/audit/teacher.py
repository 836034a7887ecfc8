"""A reward model as a teacher of a policy: what its own samples tell before any training.

The samples are those that the result holds of the reference (SFT) model. A reward that hardly varies between samples of
one prompt teaches slowly however accurate it is (arXiv:2503.15477); what best-of-n selects is what a policy will learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.scorers.features import FEATURES, feature_table
from rlhf_bench.stats import FloatArray, mean_estimate
from rlhf_bench.stats.best_of_n import best_of_n
from rlhf_bench.types import Estimate

__all__ = ["Move", "Samples", "Teaching", "samples_of", "teach", "teaching_of_result"]

_MIN_PROMPTS = 10


@dataclass(frozen=True)
class Samples:
    """K samples of a policy for each of P prompts."""

    rewards: FloatArray  # (P, K)
    features: FloatArray  # (P, K, F), in the order of FEATURES
    gold: FloatArray | None  # (P, K)


@dataclass(frozen=True)
class Move:
    """How the mean of a feature changes, in standard deviations over the samples of the reference."""

    feature: str
    best_of_n: Estimate
    policies: dict[str, Estimate]  # what trained policies did, by name


@dataclass(frozen=True)
class Teaching:
    prompts: int
    samples: int  # of a prompt
    within: float  # the share of the reward's variance that lies within prompts
    gold_accuracy: Estimate | None  # of pairs of samples of one prompt whose gold differs
    n: int  # of best-of-n
    reward_gain: Estimate  # of best-of-n, in standard deviations of the reward
    gold_gain: Estimate | None
    moves: list[Move]


def samples_of(scores: pd.DataFrame, responses: pd.DataFrame, model: str, seed: int) -> Samples | None:
    """The samples of a model under a seed; None where there are fewer than 10 prompts or 2 samples of each.

    scores, responses: a result's tables, a row a response.
    """
    keys = ["model", "seed", "prompt_id", "sample"]
    of_model = scores[(scores["model"] == model) & (scores["seed"] == seed)]
    if "reward" not in of_model or of_model.empty:
        return None
    rows = of_model.merge(responses[[*keys, "response"]], on=keys).sort_values(["prompt_id", "sample"])
    rows = rows[np.isfinite(rows["reward"])]
    counts = rows.groupby("prompt_id").size()
    k = int(counts.max()) if len(counts) else 0
    rows = rows[rows["prompt_id"].isin(counts[counts == k].index)]
    p = len(rows) // k if k else 0
    if p < _MIN_PROMPTS or k < 2:
        return None
    gold = rows["gold"].to_numpy(dtype=np.float64) if "gold" in rows and rows["gold"].notna().all() else None
    return Samples(
        rows["reward"].to_numpy(dtype=np.float64).reshape(p, k),
        feature_table(list(rows["response"])).reshape(p, k, len(FEATURES)),
        None if gold is None else gold.reshape(p, k),
    )


def teach(reference: Samples, policies: dict[str, Samples]) -> Teaching:
    """What a reward model teaches on a policy's samples, and what trained policies then did on the same prompts."""
    rewards = reference.rewards
    p, k = rewards.shape
    scale = float(rewards.std()) or 1.0
    within = float(rewards.var(axis=1, ddof=1).mean())
    between = max(float(rewards.mean(axis=1).var(ddof=1)) - within / k, 0.0)
    moves = []
    for f, name in enumerate(FEATURES):
        values = reference.features[:, :, f]
        sd = float(values.std())
        if sd == 0:
            continue
        best = (best_of_n(rewards, values, k) - values.mean(axis=1)) / sd
        done = {model: _change(s.features[:, :, f], values, sd) for model, s in policies.items()}
        moves.append(Move(name, mean_estimate(best), done))
    gold = reference.gold
    return Teaching(
        p, k, within / (within + between) if within + between > 0 else float("nan"),
        None if gold is None else _gold_accuracy(rewards, gold), k,
        mean_estimate((rewards.max(axis=1) - rewards.mean(axis=1)) / scale),
        None if gold is None else mean_estimate((best_of_n(rewards, gold, k) - gold.mean(axis=1)) / _sd(gold)),
        sorted(moves, key=lambda move: -abs(move.best_of_n.value)),
    )  # fmt: skip


def teaching_of_result(
    scores: pd.DataFrame, responses: pd.DataFrame, reference: str, models: list[str], seed: int
) -> Teaching | None:
    """`teach` for one seed of a result; None where it has too few samples of the reference."""
    samples = samples_of(scores, responses, reference, seed)
    if samples is None:
        return None
    found = {name: samples_of(scores, responses, name, seed) for name in models if name != reference}
    return teach(samples, {name: s for name, s in found.items() if s and len(s.rewards) == len(samples.rewards)})


def _change(policy: FloatArray, reference: FloatArray, sd: float) -> Estimate:
    """Of (P, K) each, on the same prompts."""
    return mean_estimate((policy.mean(axis=1) - reference.mean(axis=1)) / sd)


def _gold_accuracy(rewards: FloatArray, gold: FloatArray) -> Estimate | None:
    """The share of pairs of one prompt's samples that are in the order of their gold, a tie of rewards half.

    Over prompts; None where fewer than two prompts have samples whose gold differs.
    """
    shares = []
    for row, truth in zip(rewards, gold, strict=True):
        differs = truth[:, None] > truth[None, :]
        if differs.any():
            order = row[:, None] - row[None, :]
            shares.append(float(((order > 0) + 0.5 * (order == 0))[differs].mean()))
    return mean_estimate(np.array(shares)).clip((0.0, 1.0)) if len(shares) > 1 else None


def _sd(values: FloatArray) -> float:
    return float(values.std()) or 1.0


def as_row(found: Teaching) -> dict[str, Any]:
    """As audit.json stores it."""

    def of(estimate: Estimate | None) -> dict[str, Any] | None:
        return None if estimate is None else estimate.to_dict()

    return {
        "prompts": found.prompts,
        "samples": found.samples,
        "within": found.within,
        "gold_accuracy": of(found.gold_accuracy),
        "n": found.n,
        "reward_gain": of(found.reward_gain),
        "gold_gain": of(found.gold_gain),
        "moves": [
            {
                "feature": move.feature,
                "best_of_n": move.best_of_n.to_dict(),
                "policies": {name: estimate.to_dict() for name, estimate in move.policies.items()},
            }
            for move in found.moves
        ],
    }
