"""Where the trainers' losses end on a bandit whose optimum is known; distances are total variation."""

from __future__ import annotations

import pytest
import torch

from .bandit import (
    BETA,
    REFERENCE,
    REWARDS,
    distance,
    dpo_policy,
    expected_reward_gradient,
    forward_optimum,
    grpo_gradient,
    grpo_policy,
    ppo_policy,
    reverse_optimum,
)

ELSEWHERE = (REFERENCE + torch.tensor([0.4, -0.3, 0.7], dtype=torch.float64)).log_softmax(0)


def test_the_optima_are_optima() -> None:
    """Around each, its objective is lower; and the two are far enough apart to be told from each other."""
    reverse, forward = reverse_optimum(BETA), forward_optimum(BETA)
    assert reverse.sum().item() == pytest.approx(1)
    assert forward.sum().item() == pytest.approx(1)
    # by hand: .6 e^0, .1 e^2, .3 e^.4 = .6, .738906, .447547 over 1.786453
    assert reverse.tolist() == pytest.approx([0.335861, 0.413616, 0.250523], abs=1e-6)

    def objectives(pi: torch.Tensor) -> tuple[float, float]:
        reward, log = (pi * REWARDS).sum(), pi.log()
        return (
            (reward - BETA * (pi * (log - REFERENCE)).sum()).item(),
            (reward - BETA * (REFERENCE.exp() * (REFERENCE - log)).sum()).item(),
        )

    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        step = 0.02 * torch.randn(3, generator=generator, dtype=torch.float64)
        for i, optimum in enumerate((reverse, forward)):
            assert objectives((optimum.log() + step).softmax(0))[i] < objectives(optimum)[i]
    assert distance(reverse.log(), forward) > 0.05


def test_ppo_reaches_the_optimum() -> None:
    """Several clipped updates a rollout, an exact critic, KL per token in the reward."""
    assert distance(ppo_policy(), reverse_optimum(BETA)) < 1e-4


def test_dpo_reaches_the_same_optimum() -> None:
    assert distance(dpo_policy(), reverse_optimum(BETA)) < 1e-4


@pytest.mark.parametrize("advantage", ["rloo", "mean"])
def test_grpo_without_std_and_kl_in_the_reward_reaches_it_too(advantage: str) -> None:
    """The group's mean only slows it: all of the objective is times (G - 1) / G."""
    logits = grpo_policy(advantage=advantage, size=3, kl_in="reward")
    assert distance(logits, reverse_optimum(BETA)) < 1e-4


def test_grpo_with_k3_in_the_loss_reaches_an_optimum_of_its_own() -> None:
    """Leave one out at beta; the group's mean has (G - 1) / G of the reward and all of the KL: beta G / (G - 1)."""
    logits = grpo_policy(advantage="rloo", size=3, kl_in="loss")
    assert distance(logits, forward_optimum(BETA)) < 1e-4
    assert distance(logits, reverse_optimum(BETA)) > 0.05
    logits = grpo_policy(advantage="mean", size=3, kl_in="loss")
    assert distance(logits, forward_optimum(BETA * 3 / 2)) < 1e-4


def test_grpo_with_std_and_kl_in_the_reward_ends_at_the_optimum_all_the_same() -> None:
    """There r - beta log(pi / ref) is one number for all responses: no group has spread. Only the way there differs."""
    logits = grpo_policy(advantage="group", size=4, kl_in="reward")
    assert distance(logits, reverse_optimum(BETA)) < 5e-3


@pytest.mark.parametrize("size", [2, 4])
def test_grpo_with_std_and_k3_in_the_loss_reaches_neither(size: int) -> None:
    logits = grpo_policy(advantage="group", size=size, kl_in="loss")
    assert min(distance(logits, optimum(BETA)) for optimum in (reverse_optimum, forward_optimum)) > 0.02


@pytest.mark.parametrize("ratio", ["token", "sequence", "product", "none"])
@pytest.mark.parametrize("size", [2, 4])
def test_expected_gradients_are_the_enumerated_one(size: int, ratio: str) -> None:
    """Exactly, over all groups: leave one out as it is, the group's mean after G / (G - 1)."""
    enumerated = -expected_reward_gradient(ELSEWHERE)
    assert enumerated.abs().max() > 0.05
    for advantage, factor in (("rloo", 1.0), ("mean", size / (size - 1))):
        ours = grpo_gradient(ELSEWHERE, advantage=advantage, size=size, beta=0.0, kl_in="loss", ratio=ratio)
        torch.testing.assert_close(factor * ours, enumerated, atol=1e-12, rtol=0)


def test_sampled_training_comes_as_near() -> None:
    """Groups drawn from the policy, leave one out, KL in the reward: what is enumerated above, by chance."""
    from trainers.losses.advantages import rloo_advantages
    from trainers.losses.policy_gradient import clipped_policy_terms, normalise_grpo, sequence_rewards

    generator = torch.Generator().manual_seed(0)
    logits, groups, size = REFERENCE.clone(), 1024, 4
    mask = torch.ones(groups * size, 1, dtype=torch.bool)
    for step in range(120):
        leaf = logits.clone().requires_grad_()
        drawn = torch.multinomial(logits.softmax(0), groups * size, replacement=True, generator=generator)
        logps, reference = leaf.log_softmax(0)[drawn, None], REFERENCE[drawn, None]
        rewards = sequence_rewards(REWARDS[drawn], logps.detach(), reference, mask, kl_coef=BETA)
        advantages = rloo_advantages(rewards.view(groups, size)).view(-1, 1)
        terms = clipped_policy_terms(logps, logps.detach(), advantages, mask, low=0.2, high=0.2)
        (gradient,) = torch.autograd.grad(normalise_grpo(terms.loss, mask, sequences=groups * size), leaf)
        logits = logits - 0.5 / (1 + step / 20) * gradient / logits.softmax(0)
    assert distance(logits, reverse_optimum(BETA)) < 0.01
