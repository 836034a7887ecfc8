"""Proximal policy optimisation for language models.

arXiv:1707.06347 with the details of arXiv:1909.08593 and arXiv:2403.17031: per-token KL to the reference inside the
reward, a critic with a value head and a clipped value loss, GAE, advantages whitened over the mask of the whole
rollout, several epochs and minibatches, a fixed or an adaptive KL coefficient. The critic is a network of its own,
so that the value loss does not pull at the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_bench.errors import ModelError
from rlhf_bench.logprobs import LogprobModel, hidden_states
from rlhf_bench.models import load_policy, load_reward_model, seeded
from rlhf_bench.text import Batch
from trainers.batches import count_tokens
from trainers.optim import learning_rate_factor, make_optimizer
from trainers.policy_gradient import (
    adapt_kl_coef,
    clipped_policy_terms,
    clipped_value_terms,
    gae,
    token_rewards,
    whiten,
)
from trainers.recipe import PpoConfig
from trainers.rollout import Rollout, RolloutMaker, select
from trainers.stage import Stage, StageResult

__all__ = ["Critic", "train"]


class Critic(nn.Module):
    """A backbone with a scalar head on every position."""

    def __init__(self, backbone: PreTrainedModel, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, batch: Batch) -> Tensor:
        """Value before each response token is drawn, (B, T) like the batch, 0 outside the response mask."""
        hidden = hidden_states(self.backbone, batch)
        values = self.head(hidden).squeeze(-1).float()  # (B, T), the value after each token
        before = torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], dim=1)
        return before * batch.response_mask


class Targets(NamedTuple):
    """What one rollout is learned towards; all (B, T)."""

    old_logps: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor


def train(stage: Stage) -> StageResult:
    config = stage.recipe.ppo
    model, tokenizer = load_policy(stage.parent("sft"), device=stage.device)
    reference_model, _ = load_policy(stage.parent("sft"), device=stage.device)
    policy, reference = LogprobModel(model), LogprobModel(reference_model)
    critic = make_critic(stage, config)
    maker = RolloutMaker(stage, config, policy, reference, tokenizer)
    optimizer = make_optimizer(
        config, [(model.named_parameters(), config.lr), (critic.named_parameters(), config.critic_lr)]
    )
    loop = stage.loop(
        config, steps=config.steps, modules={"policy": model, "critic": critic}, optimizer=optimizer,
        evaluate=maker.evaluate, best_key="eval_reward", higher=True,
    )  # fmt: skip
    loop.scalars["kl_coef"] = config.kl_coef
    for step in loop:
        optimizer.set_learning_rate(learning_rate_factor(step, config.steps, config))
        rollout = maker.make(step, samples=1)
        kl_coef = loop.scalars["kl_coef"]
        targets, log = prepare(stage, config, maker, critic, rollout, kl_coef)
        loop.log({**rollout.statistics(), **log}, samples=len(rollout.rows), tokens=count_tokens(rollout.rows))
        if config.kl_target is not None:
            loop.scalars["kl_coef"] = adapt_kl_coef(
                kl_coef, log["objective/kl"],
                target=config.kl_target, horizon=config.kl_horizon, samples=len(rollout.rows),
            )  # fmt: skip
        updates = []
        for epoch in range(config.epochs):
            generator = torch.Generator().manual_seed(stage.seed * 1_000_003 + step * 101 + epoch)
            shuffled = torch.randperm(len(rollout.rows), generator=generator)
            for minibatch in shuffled.chunk(config.minibatches):
                numbers = update(
                    stage, config, maker, policy, critic, rollout, targets, minibatch, optimizer.parameters
                )
                loop.log(numbers)
                numbers["grad_norm"] = optimizer.step(where=f"ppo, step {step + 1}")
                updates.append(numbers)
        loop.log({key: sum(u[key] for u in updates) / len(updates) for key in updates[0]})
        loop.log({"learning_rate": optimizer.lr, "val/ratio_first": updates[0]["val/ratio"]})
    return StageResult.of(model, tokenizer, loop, {})


def make_critic(stage: Stage, config: PpoConfig) -> Critic:
    """The critic, its head at 0: the first values are 0 and not noise.

    Raises:
        ModelError: the reward model reads another vocabulary than the policy.
    """
    if config.critic == "policy":
        backbone, _ = load_policy(stage.parent("sft"), device=stage.device)
    else:
        backbone, tokenizer = load_reward_model(stage.parent("reward"), device=stage.device)
        _, policy_tokenizer = load_policy(stage.parent("sft"))
        if any(tokenizer.get_vocab().get(token) != i for token, i in policy_tokenizer.get_vocab().items()):
            raise ModelError(
                "ppo.critic=reward needs a reward model with the policy's vocabulary; the two differ: "
                "use --set ppo.critic=policy"
            )
    with seeded(stage.seed):
        head = nn.Linear(backbone.config.hidden_size, 1).to(stage.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    base: PreTrainedModel = backbone.base_model
    return Critic(base, head)


@torch.no_grad()
def prepare(
    stage: Stage, config: PpoConfig, maker: RolloutMaker, critic: Critic, rollout: Rollout, kl_coef: float
) -> tuple[Targets, dict[str, float]]:
    """Old log-probabilities, values, advantages and returns of a rollout, and its numbers for the log."""
    mask = rollout.batch.response_mask
    old_logps = maker.logps(maker.policy, rollout.batch)
    values = maker.per_token(rollout.batch, critic)
    scores = rollout.scores - config.missing_eos_penalty * ~rollout.ended
    rewards = token_rewards(scores, old_logps, rollout.reference_logps, mask, kl_coef=kl_coef)
    if config.whiten_rewards:
        rewards = whiten(rewards, mask, shift_mean=False)
    advantages, returns = gae(rewards, values, mask, gamma=config.gamma, lam=config.lam)
    kl = ((old_logps - rollout.reference_logps) * mask).sum(1)
    count = mask.sum().clamp(min=1)
    centred = (returns - (returns * mask).sum() / count) * mask
    residual, spread = ((returns - values) ** 2 * mask).sum(), (centred**2).sum()
    log = {
        "objective/kl": kl.mean().item(),
        "objective/kl_coef": kl_coef,
        "objective/scores": rollout.scores.mean().item(),
        "objective/rlhf_reward": (scores - kl_coef * kl).mean().item(),
        "val/explained_variance": (1 - residual / spread.clamp(min=1e-8)).item(),
    }
    return Targets(old_logps, values, whiten(advantages, mask), returns), log


def update(
    stage: Stage,
    config: PpoConfig,
    maker: RolloutMaker,
    policy: LogprobModel,
    critic: Critic,
    rollout: Rollout,
    targets: Targets,
    minibatch: Tensor,
    parameters: Sequence[nn.Parameter],
) -> dict[str, float]:
    """Gradients of one minibatch, accumulated over its micro-batches; returns its numbers for the log."""
    tokens = max(1, int(rollout.batch.response_mask[minibatch].sum()))

    def forward(index: Tensor) -> tuple[Tensor, dict[str, float]]:
        batch = select(rollout.batch, index)
        mask, width = batch.response_mask, batch.ids.shape[1]
        old_logps, old_values, advantages, returns = (t[index, :width] for t in targets)
        with stage.autocast():
            out, values = policy(batch, config.temperature), critic(batch)
        terms = clipped_policy_terms(
            out.logps, old_logps, advantages, mask, low=config.cliprange, high=config.cliprange
        )
        value_terms = clipped_value_terms(values, old_values, returns, mask, clip=config.cliprange_value)
        policy_loss, value_loss = terms.loss.sum() / tokens, value_terms.loss.sum() / tokens
        entropy = out.entropy.sum() / tokens
        loss = policy_loss + config.vf_coef * value_loss - config.entropy_coef * entropy
        shift = (out.logps.detach() - old_logps) * mask
        return loss, {
            "loss/policy_avg": policy_loss.item(),
            "loss/value_avg": value_loss.item(),
            "objective/entropy": entropy.item(),
            "policy/approxkl_avg": 0.5 * (shift**2).sum().item() / tokens,
            "policy/clipfrac_avg": terms.clipped.sum().item() / tokens,
            "val/clipfrac_avg": value_terms.clipped.sum().item() / tokens,
            "val/ratio": (terms.ratio * mask).sum().item() / tokens,
        }

    return stage.pool.accumulate(forward, maker.micro_batches(rollout.batch, minibatch), parameters)
