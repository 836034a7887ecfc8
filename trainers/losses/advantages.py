"""Advantages of PPO and of GRPO's family, as pure functions of tensors.

A group is the G responses to one prompt: rewards (P, G) in, advantages (P, G) out, one a response. Each is a function
of its own; `GROUP_ADVANTAGES` names them for a recipe. Tokens are (B, T), 0 outside the response mask.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation, Schulman et al. 2016 (arXiv:1506.02438), eq. 11 and 16.

        delta_t = r_t + gamma V_{t+1} - V_t,      A_t = delta_t + gamma lam A_{t+1}

    V is 0 after the last real token. values[b, t] is the value before token t is drawn. Returns advantages and
    returns (A + V), both (B, T) and 0 outside the mask.
    """
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):
        inside = t + 1 < rewards.shape[1]
        next_value = values[:, t + 1] * mask[:, t + 1] if inside else torch.zeros_like(following)
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = (delta + gamma * lam * following) * mask[:, t]
        advantages[:, t] = following
    return advantages, (advantages + values) * mask


def reward_minus_value(rewards: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The response's reward less the mean of its tokens' values, (B,): one advantage for the whole response.

    A plain form that is published as PPO: GAE with the whole response as the one action. rewards: (B,), values: (B, T).
    """
    return rewards - (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """(x - mean) / sqrt(var + eps) over the mask of the whole rollout; var with ddof 0; 0 outside the mask.

    x and mask are of one shape, whatever it is: (B, T) for tokens, (B,) for responses.

    A single number becomes 0. Without `shift_mean` the mean is put back (rewards keep their sign).
    """
    count = mask.sum().clamp(min=1)
    mean = (x * mask).sum() / count
    variance = (((x - mean) ** 2) * mask).sum() / count
    white = (x - mean) * torch.rsqrt(variance + eps)
    return (white if shift_mean else white + mean) * mask


def group_advantages(rewards: Tensor, *, eps: float = 1e-4) -> Tensor:
    """GRPO's advantage, Shao et al. 2024 (arXiv:2402.03300), 4.1.2: (r - mean) / (std + eps) within the group.

    rewards: (P, G). std has ddof 1 and eps is 1e-4, as in TRL. A group without spread gets 0 everywhere.
    """
    if rewards.shape[1] == 1:
        return torch.zeros_like(rewards)
    centred = rewards - rewards.mean(1, keepdim=True)
    # the mean of equal numbers is rounded, so their std is not always 0
    return (centred / (rewards.std(1, keepdim=True) + eps)).masked_fill(without_spread(rewards)[:, None], 0.0)


def batch_advantages(rewards: Tensor, *, eps: float = 1e-4) -> Tensor:
    """(r - the group's mean) / (std of all rewards + eps), (P, G): TRL's `scale_rewards="batch"` (arXiv:2508.08221).

    Where rewards of a group hardly differ its advantages stay small; its own std would make them as large as others.
    std has ddof 1. A group without spread gets 0 everywhere.
    """
    return mean_advantages(rewards) / (rewards.std() + eps)


def without_spread(rewards: Tensor) -> Tensor:
    """Which groups have equal rewards, and so teach nothing. (P, G) -> (P,) bool."""
    return (rewards == rewards[:, :1]).all(1)


def mean_advantages(rewards: Tensor) -> Tensor:
    """The reward less the group's mean (Dr. GRPO, Liu et al. 2025, arXiv:2503.20783, section 3.2).

    A response's own reward is a part of its baseline: the expected gradient is (G - 1) / G of the true one.
    """
    return (rewards - rewards.mean(1, keepdim=True)).masked_fill(without_spread(rewards)[:, None], 0.0)


def rloo_advantages(rewards: Tensor) -> Tensor:
    """The reward less the mean of the group's others, leave one out (Ahmadian et al. 2024, arXiv:2402.14740, eq. 7).

    The expected gradient is the true one; G / (G - 1) times the mean-only advantage.
    """
    others = (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return (rewards - others).masked_fill(without_spread(rewards)[:, None], 0.0)


def rank_linear_advantages(rewards: Tensor) -> Tensor:
    """(G + 1 - 2 rank) / G: from (G - 1) / G for the best down to its negative, in equal steps."""
    size = rewards.shape[1]
    return (size + 1 - 2 * _ranks(rewards)) / size


def rank_exponential_advantages(rewards: Tensor, *, decay: float = 1.0) -> Tensor:
    """exp(-decay (rank - 1)) less its mean over the group: most of the weight is on the few best."""
    weights = torch.exp(-decay * (_ranks(rewards) - 1))
    return (weights - weights.mean(1, keepdim=True)).masked_fill(without_spread(rewards)[:, None], 0.0)


def rank_tournament_advantages(rewards: Tensor) -> Tensor:
    """Wins minus losses against each other response of the group, a tie 0: G times the linear one."""
    return torch.sign(rewards[:, :, None] - rewards[:, None, :]).sum(2)


def _ranks(rewards: Tensor) -> Tensor:
    """Rank within the group, (P, G): 1 is the highest reward, equal rewards share the mean of their ranks."""
    above = (rewards[:, None, :] > rewards[:, :, None]).sum(2)
    equal = (rewards[:, None, :] == rewards[:, :, None]).sum(2)  # itself included
    return above + (equal + 1).to(rewards.dtype) / 2


GROUP_ADVANTAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "group": group_advantages,
    "batch": batch_advantages,
    "mean": mean_advantages,
    "rloo": rloo_advantages,
    "rank_linear": rank_linear_advantages,
    "rank_exponential": rank_exponential_advantages,
    "rank_tournament": rank_tournament_advantages,
}
