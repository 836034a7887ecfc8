"""Group relative policy optimisation, Shao et al. 2024 (arXiv:2402.03300).

Each prompt is answered `num_generations` times; a response's advantage is its reward relative to its group. By default
the pull towards the reference is the k3 estimate in the loss, whose gradient is that of KL(reference || policy); k1
inside the reward gives that of KL(policy || reference).

The published relatives are this trainer with other pieces, each a function of its own:

    Dr. GRPO     advantage=mean, loss_type=dr_grpo
    DAPO         loss_type=dapo, cliprange_high above cliprange
    GSPO         ratio=sequence, cliprange some 3e-4
    RLOO         advantage=rloo, kl_in=reward, and ratio=product (as TRL) or none (as the paper)
    REINFORCE    advantage=mean, ratio=none
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rlhf_bench.modeling.logprobs import LogprobModel, kl_k2
from rlhf_bench.modeling.models import load_policy
from trainers.advantages import GROUP_ADVANTAGES, rank_exponential_advantages, without_spread
from trainers.batches import count_tokens
from trainers.optim import learning_rate_factor, make_optimizer
from trainers.policy_gradient import (
    POLICY_TERMS,
    entropy_bonus,
    entropy_pull,
    k3,
    log_of_updates,
    normalise_bnpo,
    normalise_dapo,
    normalise_dr_grpo,
    normalise_grpo,
    sequence_rewards,
)
from trainers.recipe import GrpoConfig
from trainers.rollout import RolloutMaker, select
from trainers.stage import Stage, StageResult

__all__ = ["train"]


def train(stage: Stage) -> StageResult:
    config = stage.recipe.grpo
    sft = stage.parent("sft")
    model, tokenizer = load_policy(sft, device=stage.device, load_in_4bit=config.load_in_4bit)
    adapter = stage.make_trainable(model, config, sft)
    reference_model, _ = load_policy(sft, device=stage.device, load_in_4bit=config.load_in_4bit)
    stage.compile(reference_model, config)
    policy, reference = stage.divide(LogprobModel(model)), stage.divide(LogprobModel(reference_model))
    compare = advantage_function(config)
    maker = RolloutMaker(stage, config, policy, reference, tokenizer)
    optimizer = make_optimizer(config, [(model.named_parameters(), config.lr)], stage.pool)
    loop = stage.loop(
        config, steps=config.steps, modules={"policy": model}, tokenizer=tokenizer, adapter=adapter,
        optimizer=optimizer,
        evaluate=maker.evaluate, best_key="eval_reward", higher=True,
    )  # fmt: skip

    def forward(index: Tensor) -> tuple[Tensor, dict[str, float]]:
        batch = select(rollout.batch, index)
        mask, width = batch.response_mask, batch.ids.shape[1]
        with stage.autocast():
            out = policy(batch, config.temperature)
        old = out.logps.detach() if old_logps is None else old_logps[index, :width]
        terms = POLICY_TERMS[config.ratio](
            out.logps, old, advantages[index, None], mask,
            low=config.cliprange, high=config.cliprange_high or config.cliprange,
        )  # fmt: skip
        kl = k3(out.logps, rollout.reference_logps[index, :width], mask)
        per_token = terms.loss + config.beta * kl if config.kl_in == "loss" else terms.loss
        loss = normalise(config, per_token, mask, sequences, tokens, maker.sampling.max_new_tokens, len(pieces))
        if config.entropy_coef:
            mean = out.entropy.sum() / tokens
            loss = loss + (
                entropy_bonus(mean, coef=config.entropy_coef)
                if config.entropy_target is None
                else entropy_pull(mean, coef=config.entropy_coef, target=config.entropy_target, now=entropy)
            )
        numbers = {
            "loss": loss.item(),
            "kl": kl.detach().sum().item() / tokens,
            "entropy": out.entropy.detach().sum().item() / tokens,
            "clip_ratio/region_mean": terms.clipped.sum().item() / tokens,
        }
        if config.ratio != "none":
            numbers["policy/approxkl_avg"] = kl_k2((out.logps.detach() - old) * mask).sum().item() / tokens
            numbers["val/ratio"] = (terms.ratio * mask).sum().item() / tokens
        return loss, numbers

    for step in loop:
        optimizer.set_learning_rate(learning_rate_factor(step, config.steps, config))
        rollout = maker.make(step, samples=config.num_generations)
        # With one update a rollout the policy is the one that drew it: old log-probabilities are its own, the ratio 1.
        single = config.epochs * config.minibatches == 1
        old_logps = None if single and config.kl_in == "loss" else maker.logps(policy, rollout.batch)
        rewards = rollout.scores - config.missing_eos_penalty * ~rollout.ended
        if old_logps is not None and config.kl_in == "reward":
            mask = rollout.batch.response_mask
            rewards = sequence_rewards(rewards, old_logps, rollout.reference_logps, mask, kl_coef=config.beta)
        groups = rewards.view(-1, config.num_generations)
        advantages = compare(groups).view(-1)
        entropy = maker.entropy(rollout.batch) if config.entropy_target is not None else float("nan")
        spread = groups.std(1)
        loop.log(
            {
                **rollout.statistics(),
                "reward_std": spread.mean().item(),
                "frac_reward_zero_std": without_spread(groups).float().mean().item(),
            },
            samples=len(rollout.rows),
            tokens=count_tokens(rollout.rows),
        )
        updates: list[dict[str, float]] = []
        for epoch in range(config.epochs):
            generator = torch.Generator().manual_seed(stage.seed * 1_000_003 + step * 101 + epoch)
            shuffled = torch.randperm(len(rollout.rows), generator=generator)
            for minibatch in shuffled.chunk(config.minibatches):
                tokens = max(1, int(rollout.batch.response_mask[minibatch].sum()))
                sequences = len(minibatch)
                pieces = maker.micro_batches(rollout.batch, minibatch)
                numbers = stage.pool.accumulate(forward, pieces, optimizer.parameters)
                loop.log(numbers)
                numbers["grad_norm"] = optimizer.step(where=f"grpo, step {step + 1}")
                updates.append(numbers)
        loop.log({**log_of_updates(updates), "learning_rate": optimizer.lr})
    return StageResult.of(model, tokenizer, loop, {}, {"reward": maker.reward_record}, adapter)


def advantage_function(config: GrpoConfig) -> Callable[[Tensor], Tensor]:
    """From the rewards of groups to their advantages, (P, G) both."""
    if config.advantage == "rank_exponential" and config.rank_decay is not None:
        return partial(rank_exponential_advantages, decay=config.rank_decay)
    return GROUP_ADVANTAGES[config.advantage]


def normalise(
    config: GrpoConfig,
    per_token: Tensor,
    mask: Tensor,
    sequences: int,
    tokens: int,
    max_length: int,
    micro_batches: int,
) -> Tensor:
    """The loss of one micro-batch, a scalar; all numbers but the mask's are of the whole optimiser step."""
    if config.loss_type == "dr_grpo":
        return normalise_dr_grpo(per_token, mask, sequences=sequences, max_length=max_length)
    if config.loss_type == "dapo":
        return normalise_dapo(per_token, mask, tokens=tokens)
    if config.loss_type == "bnpo":
        return normalise_bnpo(per_token, mask, micro_batches=micro_batches)
    return normalise_grpo(per_token, mask, sequences=sequences)
