"""Rewards, advantages and losses of PPO and GRPO, as pure functions of tensors.

Per-token tensors are (B, T), laid out like the batch and 0 outside the response mask. Denominators are arguments: they
are counted over the whole optimiser step, so that accumulated micro-batches give the gradient of the whole.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "ClippedTerms",
    "adapt_kl_coef",
    "clipped_policy_terms",
    "clipped_value_terms",
    "gae",
    "group_advantages",
    "k3",
    "normalise_dapo",
    "normalise_dr_grpo",
    "normalise_grpo",
    "token_rewards",
    "whiten",
    "without_spread",
]


def token_rewards(scores: Tensor, logps: Tensor, reference_logps: Tensor, mask: Tensor, *, kl_coef: float) -> Tensor:
    """PPO's reward per token, (B, T): -kl_coef * (log pi - log ref) everywhere, plus the score on the last real token.

    Ziegler et al. 2019 (arXiv:1909.08593), eq. 2: the KL penalty is the k1 estimate inside the reward, whose gradient
    is that of the reverse KL. scores: (B,). A response without tokens gets no reward anywhere.
    """
    rewards = -kl_coef * (logps - reference_logps) * mask
    steps = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, steps, -1).argmax(1)  # (B,)
    has_tokens = mask.any(1)
    rewards[has_tokens, last[has_tokens]] += scores[has_tokens].to(rewards.dtype)
    return rewards


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


def whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """(x - mean) / sqrt(var + eps) over the mask of the whole rollout; var with ddof 0; 0 outside the mask.

    A single number becomes 0. Without `shift_mean` the mean is put back (rewards keep their sign).
    """
    count = mask.sum().clamp(min=1)
    mean = (x * mask).sum() / count
    variance = (((x - mean) ** 2) * mask).sum() / count
    white = (x - mean) * torch.rsqrt(variance + eps)
    return (white if shift_mean else white + mean) * mask


def adapt_kl_coef(kl_coef: float, kl: float, *, target: float, horizon: float, samples: int) -> float:
    """The adaptive coefficient of Ziegler et al. 2019 (arXiv:1909.08593), section 2.2.

    error = clip(KL / target - 1, -0.2, 0.2);   coef <- coef * (1 + error * samples / horizon)
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * samples / horizon)


class ClippedTerms(NamedTuple):
    loss: Tensor  # (B, T) per token, 0 outside the mask
    clipped: Tensor  # (B, T) bool, where the clipped side was the one that counted
    ratio: Tensor  # (B, T) detached


def clipped_policy_terms(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, *, low: float, high: float
) -> ClippedTerms:
    """PPO's clipped surrogate per token, Schulman et al. 2017 (arXiv:1707.06347), eq. 7, as a loss.

        -min( ratio A, clip(ratio, 1 - low, 1 + high) A ),   ratio = pi / pi_old

    low = high is PPO's; high > low is DAPO's clip-higher (arXiv:2503.14476). Log-probabilities are taken at the
    sampling temperature. advantages: (B, T) or (B, 1).
    """
    ratio = torch.exp((logps - old_logps) * mask)
    plain = -advantages * ratio
    bounded = -advantages * ratio.clamp(1.0 - low, 1.0 + high)
    return ClippedTerms(torch.maximum(plain, bounded) * mask, (bounded > plain) & mask, ratio.detach())


def clipped_value_terms(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip: float
) -> ClippedTerms:
    """Value loss per token: half the larger of the clipped and the unclipped squared error ("The N Implementation
    Details of RLHF with PPO"; OpenAI lm-human-preferences)."""
    bounded = old_values + (values - old_values).clamp(-clip, clip)
    plain_error, bounded_error = (values - returns) ** 2, (bounded - returns) ** 2
    loss = 0.5 * torch.maximum(plain_error, bounded_error) * mask
    return ClippedTerms(loss, (bounded_error > plain_error) & mask, torch.ones_like(loss))


def group_advantages(rewards: Tensor, *, eps: float = 1e-4) -> Tensor:
    """GRPO's advantage, Shao et al. 2024 (arXiv:2402.03300), 4.1.2: (r - mean) / (std + eps) within the group.

    rewards: (P, G). std has ddof 1 and eps is 1e-4, as in TRL. A group without spread gets 0 everywhere.
    """
    if rewards.shape[1] == 1:
        return torch.zeros_like(rewards)
    centred = rewards - rewards.mean(1, keepdim=True)
    # the mean of equal numbers is rounded, so their std is not always 0
    return (centred / (rewards.std(1, keepdim=True) + eps)).masked_fill(without_spread(rewards)[:, None], 0.0)


def without_spread(rewards: Tensor) -> Tensor:
    """Groups whose rewards are all the same, which teach nothing. (P, G) -> (P,) bool."""
    return (rewards == rewards[:, :1]).all(1)


def k3(logps: Tensor, reference_logps: Tensor, mask: Tensor) -> Tensor:
    """r - 1 - log r with log r = log ref - log pi, per token (J. Schulman, "Approximating KL Divergence", 2020).

    Never negative. As a loss on samples from pi its gradient is that of KL(ref || pi), not of the reverse KL.
    """
    log_ratio = (reference_logps - logps) * mask
    return torch.expm1(log_ratio) - log_ratio


def normalise_grpo(per_token: Tensor, mask: Tensor, *, sequences: int) -> Tensor:
    """Mean over each response's tokens, then over responses (arXiv:2402.03300, eq. 3): a token of a long response
    weighs less."""
    return ((per_token * mask).sum(1) / mask.sum(1).clamp(min=1)).sum() / sequences


def normalise_dr_grpo(per_token: Tensor, mask: Tensor, *, sequences: int, max_length: int) -> Tensor:
    """A constant length instead of each response's own (Dr. GRPO, arXiv:2503.20783)."""
    return (per_token * mask).sum() / (sequences * max_length)


def normalise_dapo(per_token: Tensor, mask: Tensor, *, tokens: int) -> Tensor:
    """Mean over all tokens of the global batch (DAPO, arXiv:2503.14476, eq. 8)."""
    return (per_token * mask).sum() / max(tokens, 1)
