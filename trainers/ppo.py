"""Proximal policy optimisation for language models.

arXiv:1707.06347 with the details of arXiv:1909.08593 and arXiv:2403.17031: per-token KL to the reference inside the
reward, a critic with a value head and a clipped value loss, GAE, advantages whitened over the mask of the whole
rollout, several epochs and minibatches, a fixed or an adaptive KL coefficient. By default the critic is a network of
its own, so that the value loss does not change the policy.

The plain forms that are published under the same name are here too: the response's reward as its advantage, without a
critic, and the reward less the response's mean value, with one advantage and one ratio a response.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf_bench.modeling.logprobs import LogprobModel
from trainers.config.recipe import PpoConfig
from trainers.engine.batches import count_tokens
from trainers.engine.critic import ActorCritic, Critic, make_critic
from trainers.engine.loop import HeldOut, Loop
from trainers.engine.models import load_reference, load_trained_policy
from trainers.engine.optim import make_optimizer
from trainers.engine.policy_update import PolicyStep, Targets, entropy_loss, surrogate, update_policy
from trainers.engine.rollout import Rollout, RolloutMaker
from trainers.engine.stage import Stage, StageResult
from trainers.losses.advantages import gae, reward_minus_value, whiten
from trainers.losses.policy_gradient import (
    adapt_kl_coef,
    clipped_value_terms,
    k3,
    normalise_dapo,
    normalise_grpo,
    sequence_rewards,
    token_rewards,
)


def train(stage: Stage) -> StageResult:
    config, start = stage.recipe.ppo, stage.start
    trained = load_trained_policy(stage, config, start)
    policy, reference = LogprobModel(trained.model), LogprobModel(load_reference(stage, config, start))
    stage.machine.shard(reference, where=stage.name)
    model = stage.machine.shard(ActorCritic(policy, make_critic(stage, config, trained.model)), where=stage.name)
    maker = RolloutMaker(stage, config, policy, reference, trained.tokenizer)
    optimizer = make_optimizer(
        config,
        [(trained.model.named_parameters(), config.lr), (model.own_parameters(), config.critic_lr)],
        stage.machine,
    )
    critic = {} if model.own is None else {"critic": model.own}
    evaluation = HeldOut(maker.evaluate, "eval_reward", higher=True)
    loop = Loop(stage, config.steps, trained, optimizer, evaluation, critic)
    loop.scalars["kl_coef"] = config.kl_coef
    loop.first_row = maker.prompts_cut()
    for step in loop:
        rollout = maker.make(step, samples=1)
        kl_coef = loop.scalars["kl_coef"]
        targets, numbers = prepare(config, maker, model.critic, rollout, kl_coef)
        loop.log({**rollout.statistics(), **numbers}, samples=len(rollout.rows), tokens=count_tokens(rollout.rows))
        if config.kl_target is not None:
            loop.scalars["kl_coef"] = adapt_kl_coef(
                kl_coef, numbers["objective/kl"],
                target=config.kl_target, horizon=config.kl_horizon, samples=len(rollout.rows),
            )  # fmt: skip
        updates = update_policy(maker, model, loop, rollout, targets, ppo_loss, config, target_kl=config.target_kl)
        if config.target_kl is not None:
            loop.log({"policy/updates": updates})
    return loop.result({}, {"reward": maker.reward_record})


@torch.no_grad()
def prepare(
    config: PpoConfig, maker: RolloutMaker, critic: Critic | None, rollout: Rollout, kl_coef: float
) -> tuple[Targets, dict[str, float]]:
    """Old log-probabilities, values, advantages and returns of a rollout, and its numbers for the log."""
    mask = rollout.batch.response_mask
    old_logps = maker.logps(maker.policy, rollout.batch)
    values = torch.zeros_like(old_logps) if critic is None else maker.per_token(rollout.batch, critic)
    scores = rollout.scores - config.missing_eos_penalty * ~rollout.ended
    inside = kl_coef if config.kl_in == "reward" else 0.0
    make = token_targets if config.advantage == "gae" else response_targets
    advantages, returns = make(config, scores, old_logps, rollout.reference_logps, values, mask, inside)
    kl = ((old_logps - rollout.reference_logps) * mask).sum(1)
    numbers = {
        "objective/kl": kl.mean().item(),
        "objective/kl_coef": kl_coef,
        "objective/scores": rollout.scores.mean().item(),
        "objective/rlhf_reward": (scores - kl_coef * kl).mean().item(),
    }
    if critic is not None:
        count = mask.sum().clamp(min=1)
        centred = (returns - (returns * mask).sum() / count) * mask
        residual, spread = ((returns - values) ** 2 * mask).sum(), (centred**2).sum()
        numbers["val/explained_variance"] = (1 - residual / spread.clamp(min=1e-8)).item()
    entropy = maker.entropy(rollout.batch) if config.entropy_target is not None else float("nan")
    return Targets(old_logps, advantages, values, returns, kl_coef, entropy), numbers


def token_targets(
    config: PpoConfig, scores: Tensor, logps: Tensor, reference_logps: Tensor, values: Tensor, mask: Tensor,
    kl_coef: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Advantages and returns by GAE, (B, T) each. scores: (B,), all others (B, T)."""
    rewards = token_rewards(scores, logps, reference_logps, mask, kl_coef=kl_coef)
    if config.whiten_rewards:
        rewards = whiten(rewards, mask, shift_mean=False)
    advantages, returns = gae(rewards, values, mask, gamma=config.gamma, lam=config.lam)
    return whiten(advantages, mask) if config.whiten_advantages else advantages, returns


def response_targets(
    config: PpoConfig, scores: Tensor, logps: Tensor, reference_logps: Tensor, values: Tensor, mask: Tensor,
    kl_coef: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One advantage and one return a response, at each of its tokens, (B, T) each. Whitened over responses."""
    rewards = sequence_rewards(scores, logps, reference_logps, mask, kl_coef=kl_coef)  # (B,)
    advantages = rewards if config.advantage == "reward" else reward_minus_value(rewards, values, mask)
    if config.whiten_advantages:
        advantages = whiten(advantages, mask.any(1))
    return advantages[:, None] * mask, rewards[:, None] * mask


def ppo_loss(step: PolicyStep[PpoConfig], index: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss of one micro-batch, its share of the step's, and its numbers for the log."""
    config, targets, tokens = step.config, step.targets, step.tokens
    out, values, mask, reference_logps, terms, ratio_numbers = surrogate(step, index)
    policy_loss, entropy = normalise(step, terms.loss, mask), out.entropy.sum() / tokens
    loss = policy_loss
    numbers = {
        "loss/policy_avg": policy_loss.item(),
        "objective/entropy": entropy.item(),
        "policy/clipfrac_avg": terms.clipped.sum().item() / tokens,
        **ratio_numbers,
    }
    if values is not None and targets.old_values is not None and targets.returns is not None:
        width = mask.shape[1]
        old_values, returns = targets.old_values[index, :width], targets.returns[index, :width]
        value_terms = clipped_value_terms(values, old_values, returns, mask, clip=config.cliprange_value)
        value_loss = value_terms.loss.sum() / tokens
        loss = loss + config.vf_coef * value_loss
        numbers["loss/value_avg"] = value_loss.item()
        numbers["val/clipfrac_avg"] = value_terms.clipped.sum().item() / tokens
    if config.kl_in == "loss":
        kl = normalise(step, k3(out.logps, reference_logps, mask), mask)
        loss = loss + targets.kl_coef * kl
        numbers["loss/kl_avg"] = kl.item()
    entropy_term = entropy_loss(step, entropy)
    return loss if entropy_term is None else loss + entropy_term, numbers


def normalise(step: PolicyStep[PpoConfig], per_token: Tensor, mask: Tensor) -> Tensor:
    """The mean over tokens, or over responses where the response is the action."""
    if step.config.ratio in ("sequence", "product"):
        return normalise_grpo(per_token, mask, sequences=step.sequences)
    return normalise_dapo(per_token, mask, tokens=step.tokens)
