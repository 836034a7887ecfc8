"""Group relative policy optimisation, Shao et al. 2024 (arXiv:2402.03300).

Each prompt is answered `num_generations` times; a response's advantage is its reward relative to its group. By default
the KL regularisation is the k3 estimate in the loss, with the gradient of KL(reference || policy); k1 inside the reward
gives that of KL(policy || reference).

The published relatives are this trainer with other pieces, each a function of its own:

    Dr. GRPO     advantage=mean, loss_type=dr_grpo
    DAPO         loss_type=dapo, cliprange_high above cliprange
    GSPO         ratio=sequence, cliprange some 3e-4
    RLOO         advantage=rloo, kl_in=reward, and ratio=product (as TRL) or none (as the paper)
    REINFORCE    advantage=mean, ratio=none
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from rlhf_bench.modeling.logprobs import LogprobModel
from trainers.config.recipe import GrpoConfig
from trainers.engine.batches import count_tokens
from trainers.engine.critic import ActorCritic
from trainers.engine.loop import HeldOut, Loop
from trainers.engine.models import load_reference, load_trained_policy
from trainers.engine.optim import make_optimizer
from trainers.engine.policy_update import PolicyStep, Targets, entropy_loss, surrogate, update_policy
from trainers.engine.rollout import Rollout, RolloutMaker
from trainers.engine.stage import Stage, StageResult
from trainers.losses.advantages import GROUP_ADVANTAGES, rank_exponential_advantages, without_spread
from trainers.losses.policy_gradient import (
    k3,
    normalise_bnpo,
    normalise_dapo,
    normalise_dr_grpo,
    normalise_grpo,
    sequence_rewards,
)


def train(stage: Stage) -> StageResult:
    config, start = stage.recipe.grpo, stage.start
    trained = load_trained_policy(stage, config, start)
    policy, reference = LogprobModel(trained.model), LogprobModel(load_reference(stage, config, start))
    model = stage.machine.shard(ActorCritic(policy, None), where=stage.name)
    stage.machine.shard(reference, where=stage.name)
    maker = RolloutMaker(stage, config, policy, reference, trained.tokenizer)
    optimizer = make_optimizer(config, [(trained.model.named_parameters(), config.lr)], stage.machine)
    loop = Loop(stage, config.steps, trained, optimizer, HeldOut(maker.evaluate, "eval_reward", higher=True))
    loop.first_row = maker.prompts_cut()
    for step in loop:
        rollout = maker.make(step, samples=config.num_generations)
        targets, numbers = prepare(config, maker, rollout)
        loop.log({**rollout.statistics(), **numbers}, samples=len(rollout.rows), tokens=count_tokens(rollout.rows))
        update_policy(maker, model, loop, rollout, targets, grpo_loss, config)
    return loop.result({}, {"reward": maker.reward_record})


def prepare(config: GrpoConfig, maker: RolloutMaker, rollout: Rollout) -> tuple[Targets, dict[str, float]]:
    """Old log-probabilities and advantages of a rollout, and its numbers for the log."""
    # With one update a rollout the policy is the one that drew it: old log-probabilities are its own, the ratio 1.
    single = config.epochs * config.minibatches == 1
    old_logps = None if single and config.kl_in == "loss" else maker.logps(maker.policy, rollout.batch)
    rewards = rollout.scores - config.missing_eos_penalty * ~rollout.ended
    if old_logps is not None and config.kl_in == "reward":
        mask = rollout.batch.response_mask
        rewards = sequence_rewards(rewards, old_logps, rollout.reference_logps, mask, kl_coef=config.beta)
    groups = rewards.view(-1, config.num_generations)
    advantages_of = GROUP_ADVANTAGES[config.advantage]
    if config.advantage == "rank_exponential" and config.rank_decay is not None:
        advantages_of = partial(rank_exponential_advantages, decay=config.rank_decay)
    advantages = advantages_of(groups).view(-1, 1)
    entropy = maker.entropy(rollout.batch) if config.entropy_target is not None else float("nan")
    numbers = {
        "reward_std": groups.std(1).mean().item(),
        "frac_reward_zero_std": without_spread(groups).float().mean().item(),
    }
    return Targets(old_logps, advantages, entropy=entropy), numbers


def grpo_loss(step: PolicyStep[GrpoConfig], index: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss of one micro-batch, its share of the step's, and its numbers for the log."""
    config, tokens = step.config, step.tokens
    out, _, mask, reference_logps, terms, ratio_numbers = surrogate(step, index)
    kl = k3(out.logps, reference_logps, mask)
    per_token = terms.loss + config.beta * kl if config.kl_in == "loss" else terms.loss
    loss = normalise(step, per_token, mask)
    entropy = entropy_loss(step, out.entropy.sum() / tokens)
    if entropy is not None:
        loss = loss + entropy
    numbers = {
        "loss": loss.item(),
        "kl": kl.detach().sum().item() / tokens,
        "entropy": out.entropy.detach().sum().item() / tokens,
        "clip_ratio/region_mean": terms.clipped.sum().item() / tokens,
    }
    return loss, numbers if config.ratio == "none" else numbers | ratio_numbers


def normalise(step: PolicyStep[GrpoConfig], per_token: Tensor, mask: Tensor) -> Tensor:
    """The loss of one micro-batch, a scalar; denominators are of the whole optimiser step."""
    loss_type = step.config.loss_type
    if loss_type == "dr_grpo":
        return normalise_dr_grpo(per_token, mask, sequences=step.sequences, max_length=step.max_length)
    if loss_type == "dapo":
        return normalise_dapo(per_token, mask, tokens=step.tokens)
    if loss_type == "bnpo":
        return normalise_bnpo(per_token, mask, micro_batches=len(step.pieces))
    return normalise_grpo(per_token, mask, sequences=step.sequences)
