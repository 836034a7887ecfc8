"""Refuses values of a recipe that are each allowed but make no sense together, with the reason, before anything runs.

Of keys that another value leaves without effect only those that were given are refused. What a recipe's file gives is
held against the file, what an override gives against the whole: `--set ppo.advantage=reward` is no fault of a file that
sets the critic's learning rate for its own `gae`. A default that a file repeats is no fault either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rlhf_bench.config import flatten, overridden, read_yaml
from rlhf_bench.errors import BadValue, UsageError
from rlhf_bench.types import HH_MINI, STAGES
from trainers.config.loading import load_recipe, recipe_path
from trainers.config.optimizer import OptimizerConfig
from trainers.config.recipe import (
    BaseConfig,
    DataConfig,
    GrpoConfig,
    NewModel,
    PpoConfig,
    Recipe,
    RewardConfig,
    RolloutConfig,
)
from trainers.config.rewards import GOLD, MODEL, parse_sources


def check_combinations(recipe: Recipe) -> None:
    """
    Raises:
        BadValue: the first combination that makes no sense: the keys, what was given and why it cannot be.
    """
    if recipe.data.prompt_template == "chat" and isinstance(recipe.model, NewModel):
        raise BadValue(
            "data.prompt_template=chat: a model that is initialised has a tokenizer without a chat template; choose "
            "another, or set model to one that has it"
        )
    _backbone(recipe.reward)
    _four_bits(recipe)
    _rewards(recipe.reward, recipe.data.source)
    _reward_checkpoint(recipe.reward)
    for name in STAGES:
        _saving(name, getattr(recipe, name))
        _warmup(name, getattr(recipe, name))
    for name, config in (("ppo", recipe.ppo), ("grpo", recipe.grpo)):
        _rollout(name, config)
        _rollout_limits(name, config, recipe.data)
    _ppo(recipe.ppo)
    _grpo(recipe.grpo)


def check_fsdp(recipe: Recipe, stages: Sequence[str]) -> None:
    """Raises BadValue for what sharded models exclude, of the stages that are to be trained."""
    for stage in stages:
        config = getattr(recipe, stage)
        given = {"compile": config.compile, "lora.load_in_4bit": getattr(config, "load_in_4bit", False)}
        excluded = next((key for key, there in given.items() if there), None)
        if excluded is not None:
            raise BadValue(
                f"{stage}.{excluded}: given with --fsdp, which shards a model's tensors; leave one of the two out"
            )


def _rewards(config: RewardConfig, data: str) -> None:
    names = parse_sources(config.function)
    if config.weights is not None and len(config.weights) != len(names):
        raise BadValue(
            f"reward.weights: given {len(config.weights)} for {len(names)} rewards ({', '.join(names)}), expected one "
            "for each in reward.function"
        )
    if config.ensemble is not None and (len(names) < 2 or config.weights is not None):
        given = "reward.weights" if config.weights is not None else f"the one reward {names[0]}"
        raise BadValue(
            f"reward.ensemble={config.ensemble}: given with {given}, expected two or more rewards in reward.function "
            "and no weights: each counts alike"
        )
    if GOLD in names and data != HH_MINI:
        raise BadValue(
            f"reward.function={GOLD}: data.source={data} has no known gold reward, only {HH_MINI} has: "
            "name the reward model (model) or a Python function"
        )


def _backbone(config: RewardConfig) -> None:
    if config.backbone in ("reward", "ppo", "grpo", "dpo"):
        raise BadValue(
            f"reward.backbone: given {config.backbone}, which is not a stage before the reward model; expected sft, "
            "base, or the folder or hub name of a model"
        )


def _four_bits(recipe: Recipe) -> None:
    adapted = {name for name in ("sft", "reward") if getattr(recipe, name).lora is not None}
    parents = {
        "reward": {recipe.reward.backbone},
        "ppo": {recipe.start, "reward"} if recipe.ppo.critic in (None, "reward") else {recipe.start},
        "grpo": {recipe.start},
        "dpo": {recipe.start},
    }
    for name, starts_from in parents.items():
        clash = sorted(starts_from & adapted)
        if getattr(recipe, name).load_in_4bit and clash:
            raise BadValue(
                f"{name}.lora.load_in_4bit: {name} starts from {clash[0]}, an adapter, which cannot be merged into 4 "
                f"bits without rounding it; leave out {name}.lora.load_in_4bit, or train {clash[0]} without lora"
            )


def _saving(name: str, config: OptimizerConfig) -> None:
    if config.save_total_limit is not None and not config.save_steps:
        raise BadValue(
            f"{name}.save_total_limit={config.save_total_limit}: at {name}.save_steps=0 no checkpoint is saved on the "
            f"way; set {name}.save_steps"
        )


def _reward_checkpoint(config: RewardConfig) -> None:
    step = config.checkpoint
    if step is None:
        return
    if not config.save_steps:
        raise BadValue(
            f"reward.checkpoint={step}: at reward.save_steps=0 no checkpoint is saved on the way; set reward.save_steps"
        )
    if config.save_total_limit is not None:
        raise BadValue(
            f"reward.checkpoint={step}: reward.save_total_limit={config.save_total_limit} may remove it; leave "
            "reward.save_total_limit out"
        )
    if step % config.save_steps and step != config.max_steps:
        raise BadValue(
            f"reward.checkpoint={step}: reward.save_steps={config.save_steps} does not save after that step; expected "
            f"a multiple of {config.save_steps}"
        )
    if MODEL not in parse_sources(config.function):
        raise BadValue(
            f"reward.checkpoint={step}: reward.function={config.function} does not use this run's reward model; leave "
            "reward.checkpoint out"
        )


def _warmup(name: str, config: OptimizerConfig) -> None:
    """The number of steps is known here where the recipe gives it, and not where it follows from epochs."""
    steps = config.steps if isinstance(config, RolloutConfig) else getattr(config, "max_steps", None)
    if config.warmup_steps is not None and steps is not None and config.warmup_steps >= steps:
        raise BadValue(
            f"{name}.warmup_steps={config.warmup_steps}: of {steps} steps all would warm up and none reach "
            f"{name}.lr={config.lr:g}; expected fewer than {steps}"
        )


def _rollout_limits(name: str, config: RolloutConfig, data: DataConfig) -> None:
    for key in ("max_prompt_tokens", "max_response_tokens"):
        own, shared = getattr(config, key), getattr(data, key)
        if own is not None and own > shared:
            raise BadValue(
                f"{name}.{key}={own}: above data.{key}={shared}, which limits what the reward model reads; raise that, "
                "or lower this"
            )


def _rollout(name: str, config: RolloutConfig) -> None:
    updates = config.epochs * config.minibatches
    if config.ratio == "none" and updates > 1:
        raise BadValue(
            f"{name}.ratio=none: given {name}.epochs={config.epochs} and {name}.minibatches={config.minibatches}; "
            "REINFORCE is right only for the policy that drew the samples, so set both to 1 or choose a ratio"
        )
    if config.entropy_target is not None and config.entropy_coef == 0:
        raise BadValue(
            f"{name}.entropy_target={config.entropy_target:g}: has no effect at {name}.entropy_coef=0; "
            "set a weight above 0"
        )


def _ppo(config: PpoConfig) -> None:
    if config.advantage == "gae" and config.ratio in ("sequence", "product"):
        raise BadValue(
            f"ppo.ratio={config.ratio}: one ratio a response cannot weigh GAE's advantages, which differ from token to "
            "token; set ppo.advantage to reward or reward_minus_value, or ppo.ratio=token"
        )
    if config.advantage == "reward" and config.critic is not None:
        raise BadValue(
            f"ppo.critic={config.critic}: ppo.advantage=reward has no critic; leave ppo.critic out, or set "
            "ppo.advantage=reward_minus_value"
        )
    if config.advantage != "gae" and config.whiten_rewards:
        raise BadValue(
            f"ppo.whiten_rewards: it scales rewards per token, ppo.advantage={config.advantage} has one a response; "
            "use ppo.whiten_advantages"
        )
    if config.target_kl is not None and config.epochs * config.minibatches == 1:
        raise BadValue(
            f"ppo.target_kl={config.target_kl:g}: with one update a rollout there is none to leave out; raise "
            "ppo.epochs or ppo.minibatches"
        )
    if config.kl_target is not None and config.kl_coef == 0:
        raise BadValue(
            f"ppo.kl_target={config.kl_target:g}: kl_coef adapts by factors and ppo.kl_coef=0 stays 0; start above 0"
        )


def _grpo(config: GrpoConfig) -> None:
    if config.num_generations < 2:
        raise BadValue(
            f"grpo.num_generations: given {config.num_generations}, expected at least 2: "
            f"grpo.advantage={config.advantage} compares the responses to one prompt"
        )
    if config.ratio in ("sequence", "product") and config.loss_type != "grpo":
        raise BadValue(
            f"grpo.loss_type={config.loss_type}: it weighs a response by its length, grpo.ratio={config.ratio} is one "
            "action a response, each of equal weight; set grpo.loss_type=grpo"
        )
    if config.ratio == "none" and config.cliprange_high is not None:
        raise BadValue(f"grpo.cliprange_high={config.cliprange_high:g}: grpo.ratio=none has no ratio to clip")
    if config.rank_decay is not None and config.advantage != "rank_exponential":
        raise BadValue(
            f"grpo.rank_decay={config.rank_decay:g}: only grpo.advantage=rank_exponential has it, "
            f"not {config.advantage}"
        )


def check_given(recipe: str, overrides: Sequence[str], stages: Collection[str]) -> None:
    """Raises BadValue for the first key given of `stages` that decides nothing: which, why, and what to do."""
    _check_alone(load_recipe(recipe, list(overrides)), flatten(overridden(overrides)), stages)
    try:
        alone = load_recipe(recipe)
    except UsageError:
        return  # a file that only the overrides make whole has no meaning of its own
    defaults = flatten(Recipe())
    _check_alone(
        alone, {k: v for k, v in flatten(read_yaml(recipe_path(recipe))).items() if v != defaults.get(k)}, stages
    )


def _check_alone(recipe: Recipe, given: Mapping[str, Any], stages: Collection[str]) -> None:
    for key, why in ignored_keys(recipe, stages):
        if key in given:
            raise BadValue(f"{key}: given {given[key]}, but it decides nothing: {why}; leave {key} out")


def ignored_keys(recipe: Recipe, stages: Collection[str]) -> Iterator[tuple[str, str]]:
    """Dotted key and the reason, of each key of `stages` that decides nothing beside the others."""
    for stage in stages:
        if stage == "base" and not isinstance(recipe.model, NewModel):
            for key in BaseConfig.model_fields:
                yield f"base.{key}", f"with model={recipe.model} base is a copy of it and trains nothing"
        elif getattr(recipe, stage).optimizer != "muon":
            yield f"{stage}.muon_lr", f"{stage}.optimizer={getattr(recipe, stage).optimizer}"
    for stage in stages:
        if getattr(recipe, stage).warmup_steps is not None:
            yield f"{stage}.warmup_ratio", f"{stage}.warmup_steps is given"
    for stage in {"ppo", "grpo"} & set(stages):
        if getattr(recipe, stage).ratio == "none":
            yield f"{stage}.cliprange", f"{stage}.ratio=none has no ratio to clip"
    if "grpo" in stages and recipe.grpo.beta == 0:
        yield "grpo.kl_in", "grpo.beta=0"
    if "ppo" in stages:
        yield from _ignored_by_ppo(recipe.ppo)


def _ignored_by_ppo(config: PpoConfig) -> Iterator[tuple[str, str]]:
    if config.advantage == "reward":
        for key in ("critic_lr", "vf_coef", "cliprange_value"):
            yield f"ppo.{key}", "ppo.advantage=reward has no critic"
    if config.advantage != "gae":
        for key in ("gamma", "lam"):
            yield f"ppo.{key}", f"ppo.advantage={config.advantage} is one a response, only gae discounts"
    if config.vf_coef == 0:
        yield "ppo.cliprange_value", "ppo.vf_coef=0"
    if config.kl_coef == 0:
        yield "ppo.kl_in", "ppo.kl_coef=0"
    if config.kl_target is None:
        yield "ppo.kl_horizon", "without ppo.kl_target nothing adapts kl_coef"
