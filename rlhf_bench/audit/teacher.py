"""A reward model as a teacher of a policy: what the policy's own samples show before any training.

The samples are those that the result holds of the reference (SFT) model: the pool of best-of-n, where there is one. A
reward that hardly varies between samples of one prompt teaches slowly however accurate it is (arXiv:2503.15477); what
best-of-n selects is what a policy will learn. What trained policies then did is shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_bench.scorers.features import FEATURES
from rlhf_bench.scorers.style import PREFIX
from rlhf_bench.stats import FloatArray, mean_estimate
from rlhf_bench.stats.best_of_n import best_of_n
from rlhf_bench.types import Estimate

BEST_OF = 16  # of the samples of a prompt, or all where there are fewer
_MIN_PROMPTS = 10


@dataclass(frozen=True)
class Samples:
    """K samples of a policy for each of P prompts."""

    prompts: list[str]  # P ids
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
class Followed:
    """How far a trained policy went where best-of-n says."""

    moved: int  # features that best-of-n moves, by an interval that leaves out 0
    same: int  # of these, those that the policy moved in the same direction
    correlation: float  # Pearson, over all features, of the two moves; NaN for fewer than three


@dataclass(frozen=True)
class Teaching:
    prompts: int
    samples: int  # of a prompt
    within: float  # the share of the reward's variance that lies within prompts
    gold_accuracy: Estimate | None  # of pairs of samples of one prompt with different gold
    n: int  # of best-of-n
    reward_gain: Estimate  # of best-of-n, in standard deviations of the reward
    gold_gain: Estimate | None
    moves: list[Move]
    followed: dict[str, Followed]  # by policy


def samples_of(table: pd.DataFrame, model: str, seed: int) -> Samples | None:
    """The samples of a model under a seed; None where there are fewer than 10 prompts or one sample of each.

    table: a result's scores or its pool, a row a response.
    """
    columns = [f"{PREFIX}{name}" for name in FEATURES]
    if not {"reward", *columns} <= set(table.columns):
        return None
    rows = table[(table["model"] == model) & (table["seed"] == seed) & np.isfinite(table["reward"])]
    counts = rows.groupby("prompt_id").size()
    k = int(counts.max()) if len(counts) else 0
    rows = rows[rows["prompt_id"].isin(counts[counts == k].index)].sort_values(["prompt_id", "sample"])
    p = len(rows) // k if k else 0
    if p < _MIN_PROMPTS:
        return None
    gold = rows["gold"].to_numpy(dtype=np.float64) if "gold" in rows and rows["gold"].notna().all() else None
    return Samples(
        list(rows["prompt_id"].iloc[::k]),
        rows["reward"].to_numpy(dtype=np.float64).reshape(p, k),
        rows[columns].to_numpy(dtype=np.float64).reshape(p, k, len(FEATURES)),
        None if gold is None else gold.reshape(p, k),
    )


def teach(reference: Samples, policies: Mapping[str, Samples]) -> Teaching:
    """What a reward model teaches on a policy's samples (two or more of a prompt), and what trained policies then did.

    A policy is compared on the prompts that it shares with the reference's samples.
    """
    rewards = reference.rewards
    p, k = rewards.shape
    n = min(BEST_OF, k)
    scale = _sd(rewards)
    within = float(rewards.var(axis=1, ddof=1).mean())
    between = max(float(rewards.mean(axis=1).var(ddof=1)) - within / k, 0.0)
    moves = []
    for f, name in enumerate(FEATURES):
        values = reference.features[:, :, f]
        sd = float(values.std())
        if sd == 0:
            continue
        best = mean_estimate((best_of_n(rewards, values, n) - values.mean(axis=1)) / sd)
        moves.append(Move(name, best, {model: _change(s, reference, f, sd) for model, s in policies.items()}))
    gold = reference.gold
    return Teaching(
        p, k, within / (within + between) if within + between > 0 else float("nan"),
        None if gold is None else _gold_accuracy(rewards, gold), n,
        mean_estimate((best_of_n(rewards, rewards, n) - rewards.mean(axis=1)) / scale),
        None if gold is None else mean_estimate((best_of_n(rewards, gold, n) - gold.mean(axis=1)) / _sd(gold)),
        sorted(moves, key=lambda move: -abs(move.best_of_n.value)),
        {model: _followed(model, moves) for model in policies},
    )  # fmt: skip


def _change(policy: Samples, reference: Samples, feature: int, sd: float) -> Estimate:
    means = [dict(zip(s.prompts, s.features[:, :, feature].mean(axis=1), strict=True)) for s in (policy, reference)]
    shared = [prompt for prompt in policy.prompts if prompt in means[1]]
    return mean_estimate(np.array([(means[0][prompt] - means[1][prompt]) / sd for prompt in shared]))


def _followed(model: str, moves: list[Move]) -> Followed:
    predicted = np.array([move.best_of_n.value for move in moves])
    done = np.array([move.policies[model].value for move in moves])
    sure = np.array([move.best_of_n.low > 0 or move.best_of_n.high < 0 for move in moves], dtype=bool)
    is_flat = len(moves) < 3 or predicted.std() == 0 or done.std() == 0
    correlation = float("nan") if is_flat else float(np.corrcoef(predicted, done)[0, 1])
    return Followed(int(sure.sum()), int((sure & (predicted * done > 0)).sum()), correlation)


def _gold_accuracy(rewards: FloatArray, gold: FloatArray) -> Estimate | None:
    """The share of pairs of one prompt's samples that are in the order of their gold, a tie of rewards half.

    Over prompts; None where fewer than two prompts have samples with different gold.
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
