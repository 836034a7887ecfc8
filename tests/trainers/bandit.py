"""A bandit whose optimum is known: one prompt, responses of one token, fixed rewards, a policy that is a table.

Every expectation is a sum over all responses (or over all groups of G of them), weighted by their probability: nothing
is drawn. The losses are the trainers' own. `python -m tests.trainers.bandit` prints the table of docs/closed-form.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from trainers.losses.advantages import GROUP_ADVANTAGES, gae
from trainers.losses.policy_gradient import (
    POLICY_TERMS,
    clipped_policy_terms,
    k3,
    normalise_grpo,
    sequence_rewards,
    token_rewards,
)
from trainers.losses.preference import PairLogps, dpo_loss

REWARDS = torch.tensor([0.0, 1.0, 0.2], dtype=torch.float64)
REFERENCE = torch.tensor([0.6, 0.1, 0.3], dtype=torch.float64).log()  # log-probabilities
BETA = 0.5

Gradient = Callable[[Tensor], Tensor]  # of a loss, by the logits (V,)


def reverse_optimum(beta: float) -> Tensor:
    """argmax of E r - beta KL(pi || ref): pi = ref exp(r / beta) / Z."""
    return (REFERENCE + REWARDS / beta).softmax(0)


def forward_optimum(beta: float) -> Tensor:
    """argmax of E r - beta KL(ref || pi): pi = beta ref / (lambda - r), lambda by bisection so that it sums to 1."""
    low, high = REWARDS.max().item(), REWARDS.max().item() + beta
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (beta * REFERENCE.exp() / (middle - REWARDS)).sum() > 1 else (low, middle)
    return beta * REFERENCE.exp() / (high - REWARDS)


def distance(logits: Tensor, optimum: Tensor) -> float:
    """Total variation, half the sum of absolute differences."""
    return 0.5 * (logits.softmax(0) - optimum).abs().sum().item()


def descend(gradient: Gradient, *, steps: int = 300, rate: float = 0.5) -> Tensor:
    """From the reference, at a rate that falls to 0: divided by a std that vanishes at the optimum, advantages do not.

    Each step is divided by the probabilities: in a softmax table that makes all responses learn at one speed, and moves
    no fixed point.
    """
    logits = REFERENCE.clone()
    for step in range(steps):
        logits = logits - rate * (1 - step / steps) * gradient(logits) / logits.softmax(0)
    return logits


def expected_reward_gradient(logits: Tensor) -> Tensor:
    """d E r / d logits, by enumeration."""
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((leaf.softmax(0) * REWARDS).sum(), leaf)
    return gradient


def grpo_gradient(
    logits: Tensor, *, advantage: str, size: int, beta: float, kl_in: str, ratio: str = "token"
) -> Tensor:
    """Expected gradient of GRPO's loss over all groups of `size` responses from the policy."""
    leaf = logits.clone().requires_grad_()
    table = leaf.log_softmax(0)
    groups = torch.tensor(list(itertools.product(range(len(logits)), repeat=size)))  # (P, G)
    logps, reference = table[groups].view(-1, 1), REFERENCE[groups].view(-1, 1)  # (P * G, 1): one token each
    old, mask = logps.detach(), torch.ones(groups.numel(), 1, dtype=torch.bool)
    rewards = REWARDS[groups].view(-1)
    if kl_in == "reward":
        rewards = sequence_rewards(rewards, old, reference, mask, kl_coef=beta)
    advantages = GROUP_ADVANTAGES[advantage](rewards.view(-1, size)).view(-1, 1)
    per_token = POLICY_TERMS[ratio](logps, old, advantages, mask, low=0.2, high=0.2).loss
    if kl_in == "loss":
        per_token = per_token + beta * k3(logps, reference, mask)
    weights = old[:, 0].view(-1, size).sum(1).exp()  # (P,) probability of the group
    weighted = per_token * weights.repeat_interleave(size)[:, None]
    (gradient,) = torch.autograd.grad(normalise_grpo(weighted, mask, sequences=size), leaf)
    return gradient


def ppo_policy(*, rollouts: int = 100, epochs: int = 4, rate: float = 0.3) -> Tensor:
    """PPO with several clipped updates a rollout, GAE from an exact critic, KL per token inside the reward."""
    logits, mask = REFERENCE.clone(), torch.ones(len(REFERENCE), 1, dtype=torch.bool)
    for _ in range(rollouts):
        old = logits.log_softmax(0)[:, None]  # (V, 1): every response once
        rewards = token_rewards(REWARDS, old, REFERENCE[:, None], mask, kl_coef=BETA)
        value = (old.exp() * rewards).sum().expand(old.shape)
        advantages, _ = gae(rewards, value, mask, gamma=1.0, lam=0.95)
        for _ in range(epochs):
            leaf = logits.clone().requires_grad_()
            new = leaf.log_softmax(0)[:, None]
            terms = clipped_policy_terms(new, old, advantages, mask, low=0.2, high=0.2)
            (gradient,) = torch.autograd.grad((old.exp() * terms.loss).sum(), leaf)
            logits = logits - rate * gradient / logits.softmax(0)
    return logits


def dpo_policy() -> Tensor:
    """DPO on every pair of responses, drawn by the reference, labelled with its Bradley-Terry probability."""
    leaf = REFERENCE.clone().requires_grad_()
    i, j = torch.triu_indices(3, 3, offset=1)
    weights = REFERENCE[i].exp() * REFERENCE[j].exp()
    first_wins = torch.sigmoid(REWARDS[i] - REWARDS[j])
    optimizer = torch.optim.LBFGS([leaf], max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-18,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        table = leaf.log_softmax(0)

        def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
            policy, reference = (PairLogps(t[chosen], t[rejected]) for t in (table, REFERENCE))
            return dpo_loss(policy, reference, beta=BETA).loss

        total = (weights * (first_wins * loss(i, j) + (1 - first_wins) * loss(j, i))).sum()
        total.backward()
        return total

    optimizer.step(closure)
    return leaf.detach()


def grpo_policy(*, advantage: str, size: int, kl_in: str, beta: float = BETA) -> Tensor:
    return descend(lambda logits: grpo_gradient(logits, advantage=advantage, size=size, beta=beta, kl_in=kl_in))


def main() -> None:
    rows: list[tuple[str, Tensor]] = [("ppo, KL in the reward", ppo_policy()), ("dpo, exact labels", dpo_policy())]
    for advantage, kl_in in itertools.product(("rloo", "mean", "group"), ("reward", "loss")):
        for size in (2, 4, 6):
            name = f"grpo, advantage={advantage}, KL in the {kl_in}, G = {size}"
            rows.append((name, grpo_policy(advantage=advantage, size=size, kl_in=kl_in)))
    print("| trained by | distance from ref exp(r/beta)/Z | distance from beta ref/(lambda - r) |\n| --- | --- | --- |")
    for name, logits in rows:
        far = [distance(logits, optimum(BETA)) for optimum in (reverse_optimum, forward_optimum)]
        print(f"| {name} | {far[0]:.4f} | {far[1]:.4f} |")


if __name__ == "__main__":
    main()
