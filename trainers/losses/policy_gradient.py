"""Rewards and losses of PPO and GRPO, as pure functions of tensors.

Per-token tensors are (B, T), laid out like the batch and 0 outside the response mask. Denominators are arguments: they
are counted over the whole optimiser step, so that accumulated micro-batches give the gradient of the whole.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rlhf_bench.modeling.logprobs import kl_k3


def token_rewards(scores: Tensor, logps: Tensor, reference_logps: Tensor, mask: Tensor, *, kl_coef: float) -> Tensor:
    """PPO's reward per token, (B, T): -kl_coef * (log pi - log ref) everywhere, plus the score on the last real token.

    Ziegler et al. 2019 (arXiv:1909.08593), eq. 2: the KL penalty is the k1 estimate inside the reward; its gradient
    is that of the reverse KL. scores: (B,). A response without tokens gets no reward anywhere.
    """
    rewards = -kl_coef * (logps - reference_logps) * mask
    steps = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, steps, -1).argmax(1)  # (B,)
    has_tokens = mask.any(1)
    rewards[has_tokens, last[has_tokens]] += scores[has_tokens].to(rewards.dtype)
    return rewards


def sequence_rewards(scores: Tensor, logps: Tensor, reference_logps: Tensor, mask: Tensor, *, kl_coef: float) -> Tensor:
    """The score less kl_coef times the k1 estimate summed over the response, (B,): one reward for the whole response
    (RLOO, arXiv:2402.14740, section 2.1). As in `token_rewards`, the gradient is that of the reverse KL."""
    return scores - kl_coef * ((logps - reference_logps) * mask).sum(1)


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
    return _surrogate(torch.exp((logps - old_logps) * mask), advantages, mask, low=low, high=high)


def gspo_policy_terms(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, *, low: float, high: float
) -> ClippedTerms:
    """GSPO, Zheng et al. 2025 (arXiv:2507.18071), eq. 5 to 7: one ratio a response, the geometric mean of its tokens'.

        s = ( pi(y) / pi_old(y) ) ** (1 / |y|),      -min( s A, clip(s, 1 - low, 1 + high) A )

    Every token of a response holds the response's term, so that the mean over its tokens is that term: to be
    normalised by `normalise_grpo`. s is near 1: the paper clips at 3e-4 and 4e-4. advantages: (B, 1), or
    (B, T) constant along a response.
    """
    mean = ((logps - old_logps) * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return _surrogate(torch.exp(mean).expand(mask.shape), advantages, mask, low=low, high=high)


def sequence_policy_terms(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, *, low: float, high: float
) -> ClippedTerms:
    """The clipped surrogate with the response as the one action: its ratio is the product of its tokens'.

    This is the ratio of importance sampling; TRL's RLOO trainer has it, and plain PPO on whole responses. Laid
    out as in `gspo_policy_terms`, to be normalised by `normalise_grpo`.
    """
    total = ((logps - old_logps) * mask).sum(1, keepdim=True)
    return _surrogate(torch.exp(total).expand(mask.shape), advantages, mask, low=low, high=high)


def reinforce_policy_terms(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, *, low: float, high: float
) -> ClippedTerms:
    """REINFORCE, Williams 1992: -A log pi at each token, no ratio and so nothing clipped.

    Right only for the policy that drew the samples: one update a rollout. `low` and `high` are not used; they are there
    so that the forms can be exchanged.
    """
    nothing = torch.zeros_like(mask)
    return ClippedTerms(-advantages * logps * mask, nothing, torch.exp((logps - old_logps) * mask).detach())


def _surrogate(ratio: Tensor, advantages: Tensor, mask: Tensor, *, low: float, high: float) -> ClippedTerms:
    plain = -advantages * ratio
    bounded = -advantages * ratio.clamp(1.0 - low, 1.0 + high)
    return ClippedTerms(torch.maximum(plain, bounded) * mask, (bounded > plain) & mask, ratio.detach())


class PolicyTerms(Protocol):
    """The policy's loss per token; see `clipped_policy_terms` for the shapes."""

    def __call__(
        self, logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, *, low: float, high: float
    ) -> ClippedTerms: ...


# The names of `ppo.ratio` and `grpo.ratio`.
POLICY_TERMS: dict[str, PolicyTerms] = {
    "token": clipped_policy_terms,
    "sequence": gspo_policy_terms,
    "product": sequence_policy_terms,
    "none": reinforce_policy_terms,
}


def clipped_value_terms(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip: float
) -> ClippedTerms:
    """Value loss per token: half the larger of the clipped and the unclipped squared error ("The N Implementation
    Details of RLHF with PPO"; OpenAI lm-human-preferences)."""
    bounded = old_values + (values - old_values).clamp(-clip, clip)
    plain_error, bounded_error = (values - returns) ** 2, (bounded - returns) ** 2
    loss = 0.5 * torch.maximum(plain_error, bounded_error) * mask
    return ClippedTerms(loss, (bounded_error > plain_error) & mask, torch.ones_like(loss))


def k3(logps: Tensor, reference_logps: Tensor, mask: Tensor) -> Tensor:
    """`kl_k3` of each token. As a loss on samples from pi its gradient is that of KL(ref || pi), not of the reverse."""
    return kl_k3((logps - reference_logps) * mask)


def entropy_bonus(entropy: Tensor, *, coef: float) -> Tensor:
    """-coef times the mean entropy, a scalar in nats a token: the more the better (arXiv:1707.06347, eq. 9)."""
    return -coef * entropy


def target_entropy_loss(entropy: Tensor, *, coef: float, target: float, now: float) -> Tensor:
    """A target-entropy loss, a scalar: its gradient is that of coef / 2 (entropy - target)^2.

    The distance is taken from `now`, the mean entropy of the whole rollout before its first update: a constant, so that
    micro-batches add up to the gradient of the whole. 0 where the entropy is on target.
    """
    return coef * (now - target) * entropy


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


def normalise_bnpo(per_token: Tensor, mask: Tensor, *, micro_batches: int) -> Tensor:
    """TRL's `bnpo`: the mean over the micro-batch's own tokens; a step's loss is the mean of its micro-batches'.

    The one normaliser that depends on how a step is divided: a token of a micro-batch of short responses weighs more,
    and so `micro_batch_size` and the number of workers change the gradient. With one micro-batch it is `dapo`.
    """
    return (per_token * mask).sum() / mask.sum().clamp(min=1) / micro_batches
