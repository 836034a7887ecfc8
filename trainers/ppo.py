"""Proximal policy optimisation for language models.

arXiv:1707.06347 with the details of arXiv:1909.08593 and arXiv:2403.17031: per-token KL to the reference inside the
reward, a critic with a value head and a clipped value loss, GAE, advantages whitened over the mask of the whole
rollout, several epochs and minibatches, a fixed or an adaptive KL coefficient. By default the critic is a network of
its own, so that the value loss does not pull at the policy.

Beside it stand the plain forms that are published under the same name: the response's reward as its advantage, without
a critic, and the reward less the response's mean value, with one advantage and one ratio a response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlhf_bench.modeling.logprobs import LogprobModel, TokenLogps, kl_k2
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.tokens import Batch
from trainers.advantages import gae, reward_minus_value, whiten
from trainers.batches import count_tokens
from trainers.critic import ActorCritic, Critic, make_critic
from trainers.optim import learning_rate_factor, make_optimizer
from trainers.policy_gradient import (
    POLICY_TERMS,
    adapt_kl_coef,
    clipped_value_terms,
    entropy_bonus,
    entropy_pull,
    k3,
    log_of_updates,
    normalise_dapo,
    normalise_grpo,
    sequence_rewards,
    token_rewards,
)
from trainers.recipe import PpoConfig
from trainers.rollout import Rollout, RolloutMaker, select
from trainers.stage import Stage, StageResult

__all__ = ["train"]

Forward = Callable[[Batch, float], tuple[TokenLogps, Tensor | None]]  # ActorCritic's, perhaps under a wrapper


class Targets(NamedTuple):
    """What one rollout is learned towards; tensors are (B, T)."""

    old_logps: Tensor
    old_values: Tensor  # 0 without a critic
    advantages: Tensor
    returns: Tensor
    kl_coef: float  # in force for this rollout
    entropy: float  # mean of the rollout, nats a token; NaN where nothing asks for it


def train(stage: Stage) -> StageResult:
    config = stage.recipe.ppo
    sft = stage.parent("sft")
    model, tokenizer = load_policy(sft, device=stage.device, load_in_4bit=config.load_in_4bit)
    adapter = stage.make_trainable(model, config, sft)
    reference_model, _ = load_policy(sft, device=stage.device, load_in_4bit=config.load_in_4bit)
    stage.compile(reference_model, config)
    policy, reference = LogprobModel(model), stage.divide(LogprobModel(reference_model))
    model_and_critic = stage.divide(ActorCritic(policy, make_critic(stage, config, model)))
    maker = RolloutMaker(stage, config, policy, reference, tokenizer)
    optimizer = make_optimizer(
        config,
        [(model.named_parameters(), config.lr), (model_and_critic.own_parameters(), config.critic_lr)],
        stage.pool,
    )
    own = {} if model_and_critic.own is None else {"critic": model_and_critic.own}
    loop = stage.loop(
        config, steps=config.steps, modules={"policy": model, **own}, tokenizer=tokenizer, adapter=adapter,
        optimizer=optimizer,
        evaluate=maker.evaluate, best_key="eval_reward", higher=True,
    )  # fmt: skip
    loop.scalars["kl_coef"] = config.kl_coef
    for step in loop:
        optimizer.set_learning_rate(learning_rate_factor(step, config.steps, config))
        rollout = maker.make(step, samples=1)
        kl_coef = loop.scalars["kl_coef"]
        targets, log = prepare(config, maker, model_and_critic.critic, rollout, kl_coef)
        loop.log({**rollout.statistics(), **log}, samples=len(rollout.rows), tokens=count_tokens(rollout.rows))
        if config.kl_target is not None:
            loop.scalars["kl_coef"] = adapt_kl_coef(
                kl_coef, log["objective/kl"],
                target=config.kl_target, horizon=config.kl_horizon, samples=len(rollout.rows),
            )  # fmt: skip
        updates: list[dict[str, float]] = []
        for minibatch in minibatches(stage, config, step, len(rollout.rows)):
            numbers = update(stage, config, maker, model_and_critic, rollout, targets, minibatch, optimizer.parameters)
            loop.log(numbers)
            updates.append(numbers)
            if config.target_kl is not None and numbers["policy/approxkl_avg"] > config.target_kl:
                optimizer.clear()  # the policy has gone as far as this rollout may take it
                break
            numbers["grad_norm"] = optimizer.step(where=f"ppo, step {step + 1}")
        loop.log({**log_of_updates(updates), "learning_rate": optimizer.lr})
        if config.target_kl is not None:
            loop.log({"policy/updates": sum("grad_norm" in numbers for numbers in updates)})
    return StageResult.of(model, tokenizer, loop, {}, {"reward": maker.reward_record}, adapter)


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
    log = {
        "objective/kl": kl.mean().item(),
        "objective/kl_coef": kl_coef,
        "objective/scores": rollout.scores.mean().item(),
        "objective/rlhf_reward": (scores - kl_coef * kl).mean().item(),
    }
    if critic is not None:
        count = mask.sum().clamp(min=1)
        centred = (returns - (returns * mask).sum() / count) * mask
        residual, spread = ((returns - values) ** 2 * mask).sum(), (centred**2).sum()
        log["val/explained_variance"] = (1 - residual / spread.clamp(min=1e-8)).item()
    entropy = maker.entropy(rollout.batch) if config.entropy_target is not None else float("nan")
    return Targets(old_logps, values, advantages, returns, kl_coef, entropy), log


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


def minibatches(stage: Stage, config: PpoConfig, step: int, rows: int) -> Iterator[Tensor]:
    """Row numbers of each update of a rollout: every epoch a shuffle that depends on seed, step and epoch alone."""
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(stage.seed * 1_000_003 + step * 101 + epoch)
        yield from torch.randperm(rows, generator=generator).chunk(config.minibatches)


def update(
    stage: Stage,
    config: PpoConfig,
    maker: RolloutMaker,
    model_and_critic: Forward,
    rollout: Rollout,
    targets: Targets,
    minibatch: Tensor,
    parameters: Sequence[nn.Parameter],
) -> dict[str, float]:
    """Gradients of one minibatch, accumulated over its micro-batches; returns its numbers for the log."""
    tokens = max(1, int(rollout.batch.response_mask[minibatch].sum()))

    def normalise(per_token: Tensor, mask: Tensor) -> Tensor:
        """The mean over tokens, or over responses where the response is the action."""
        if config.ratio in ("sequence", "product"):
            return normalise_grpo(per_token, mask, sequences=len(minibatch))
        return normalise_dapo(per_token, mask, tokens=tokens)

    def forward(index: Tensor) -> tuple[Tensor, dict[str, float]]:
        batch = select(rollout.batch, index)
        mask, width = batch.response_mask, batch.ids.shape[1]
        old_logps, old_values, advantages, returns = (t[index, :width] for t in targets[:4])
        with stage.autocast():
            out, values = model_and_critic(batch, config.temperature)
        terms = POLICY_TERMS[config.ratio](
            out.logps, old_logps, advantages, mask, low=config.cliprange, high=config.cliprange
        )
        policy_loss, entropy = normalise(terms.loss, mask), out.entropy.sum() / tokens
        loss = policy_loss
        numbers = {
            "loss/policy_avg": policy_loss.item(),
            "objective/entropy": entropy.item(),
            "policy/approxkl_avg": kl_k2((out.logps.detach() - old_logps) * mask).sum().item() / tokens,
            "policy/clipfrac_avg": terms.clipped.sum().item() / tokens,
            "val/ratio": (terms.ratio * mask).sum().item() / tokens,
        }
        if values is not None:
            value_terms = clipped_value_terms(values, old_values, returns, mask, clip=config.cliprange_value)
            value_loss = value_terms.loss.sum() / tokens
            loss = loss + config.vf_coef * value_loss
            numbers["loss/value_avg"] = value_loss.item()
            numbers["val/clipfrac_avg"] = value_terms.clipped.sum().item() / tokens
        if config.kl_in == "loss":
            kl = normalise(k3(out.logps, rollout.reference_logps[index, :width], mask), mask)
            loss = loss + targets.kl_coef * kl
            numbers["loss/kl_avg"] = kl.item()
        if config.entropy_coef:
            loss = loss + (
                entropy_bonus(entropy, coef=config.entropy_coef)
                if config.entropy_target is None
                else entropy_pull(entropy, coef=config.entropy_coef, target=config.entropy_target, now=targets.entropy)
            )
        return loss, numbers

    return stage.pool.accumulate(forward, maker.micro_batches(rollout.batch, minibatch), parameters)
