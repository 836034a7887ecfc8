"""Advantages of GRPO's family, worked by hand; GAE, whitening and the group's std are in test_policy_gradient.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from trainers.losses.advantages import (
    GROUP_ADVANTAGES,
    mean_advantages,
    rank_exponential_advantages,
    rank_linear_advantages,
    rank_tournament_advantages,
    reward_minus_value,
    rloo_advantages,
)

from .test_policy_gradient import masked, near

REWARDS = torch.tensor([[1.0, 2.0, 6.0, 3.0]])
TIED = torch.tensor([[5.0, 1.0, 5.0, 0.0]])


def test_mean_and_leave_one_out_worked_by_hand() -> None:
    # the mean is 12 / 4 = 3
    near(mean_advantages(REWARDS), [[-2, -1, 3, 0]])
    # the others' means: 11/3, 10/3, 6/3, 9/3
    near(rloo_advantages(REWARDS), [[1 - 11 / 3, 2 - 10 / 3, 6 - 2, 3 - 3]])


@pytest.mark.parametrize("size", [2, 3, 8])
def test_leave_one_out_is_the_mean_only_one_scaled(size: int) -> None:
    """r_i - (S - r_i) / (G-1) = (G r_i - S) / (G-1) = G/(G-1) (r_i - S/G)"""
    rewards = torch.tensor(np.random.default_rng(0).normal(size=(5, size)))
    torch.testing.assert_close(rloo_advantages(rewards), mean_advantages(rewards) * size / (size - 1))


def test_ranks_worked_by_hand() -> None:
    # ranks 4, 3, 1, 2 of 4: (5 - 8)/4, (5 - 6)/4, (5 - 2)/4, (5 - 4)/4
    near(rank_linear_advantages(REWARDS), [[-0.75, -0.25, 0.75, 0.25]])
    # wins minus losses: 0-3, 1-2, 3-0, 2-1
    near(rank_tournament_advantages(REWARDS), [[-3, -1, 3, 1]])
    # e^-3, e^-2, 1, e^-1 with mean (0.049787 + 0.135335 + 1 + 0.367879) / 4 = 0.388250
    near(rank_exponential_advantages(REWARDS), [[-0.338463, -0.252915, 0.611750, -0.020371]])
    # 1/8, 1/4, 1, 1/2 with mean 15/32
    near(rank_exponential_advantages(REWARDS, decay=math.log(2)), [[-11 / 32, -7 / 32, 17 / 32, 1 / 32]])


def test_ties_share_a_rank_worked_by_hand() -> None:
    # ranks 1.5, 3, 1.5, 4: (5 - 3)/4, (5 - 6)/4, (5 - 3)/4, (5 - 8)/4
    near(rank_linear_advantages(TIED), [[0.5, -0.25, 0.5, -0.75]])
    # each 5 wins two and ties one; 1 wins one and loses two
    near(rank_tournament_advantages(TIED), [[2, -1, 2, -3]])
    # 2^-.5, 2^-2, 2^-.5, 2^-3 with mean (2 * .707107 + .25 + .125) / 4 = .447303
    near(
        rank_exponential_advantages(TIED, decay=math.log(2)), [[0.259803, -0.197303, 0.259803, -0.322303]]
    )  # argsort would tell the two apart


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_ranks_like_scipy(levels: int) -> None:
    """rankdata with ties (few levels) and next to none (many); wins counted one by one."""
    rewards = np.random.default_rng(levels).integers(levels, size=(20, 7)).astype(float)
    ranks = stats.rankdata(-rewards, axis=1)
    tensor = torch.tensor(rewards)
    assert rank_linear_advantages(tensor).numpy() == pytest.approx((8 - 2 * ranks) / 7, abs=1e-12)
    weights = np.exp(-0.7 * (ranks - 1))
    expected = weights - weights.mean(1, keepdims=True)
    assert rank_exponential_advantages(tensor, decay=0.7).numpy() == pytest.approx(expected, abs=1e-12)
    duels = [[sum((a > b) - (a < b) for b in row) for a in row] for row in rewards.tolist()]
    assert rank_tournament_advantages(tensor).tolist() == duels
    torch.testing.assert_close(rank_tournament_advantages(tensor), 7 * rank_linear_advantages(tensor))


@pytest.mark.parametrize("name", sorted(GROUP_ADVANTAGES))
@pytest.mark.parametrize("size", [2, 3, 13])
def test_what_every_advantage_keeps(name: str, size: int) -> None:
    compare = GROUP_ADVANTAGES[name]
    # a group without spread teaches nothing, exactly: the float32 mean of 13 times 1.7 is not 1.7
    assert compare(torch.full((2, size), 1.7)).tolist() == [[0.0] * size] * 2
    rewards = torch.randn(6, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    advantages = compare(rewards)
    # a better response has the larger advantage, and they sum to 0
    assert torch.equal(advantages.argsort(1), rewards.argsort(1))
    assert advantages.sum(1).abs().max().item() < 1e-12
    # other groups change nothing but the scale of "batch", and a response's place in its group says nothing
    alone = compare(rewards[2:3])
    if name == "batch":
        alone *= (rewards[2].std() + 1e-4) / (rewards.std() + 1e-4)
    torch.testing.assert_close(advantages[2:3], alone)
    torch.testing.assert_close(compare(rewards.flip(1)), advantages.flip(1))


def test_reward_minus_mean_value_worked_by_hand() -> None:
    values = torch.tensor([[9.0, 1.0, 2.0, 6.0], [9.0, 9.0, 5.0, 9.0], [9.0, 9.0, 9.0, 9.0]])
    mask = masked(".xxx", "..x.", "....")  # means 3 and 5; a response without tokens has none
    assert reward_minus_value(torch.tensor([4.0, 4.0, 4.0]), values, mask).tolist() == [1, -1, 4]
