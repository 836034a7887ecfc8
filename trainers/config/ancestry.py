"""Which stage starts from which, and which keys decide what a stage becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhf_bench.types import STAGES
from trainers.config.recipe import Recipe
from trainers.config.rewards import MODEL, parse_sources

REWARD_SOURCE = {"function", "weights", "checkpoint", "ensemble"}  # of the reward section, but for ppo and grpo alone


def all_stages(recipe: Recipe) -> list[str]:
    """What `train all` trains: the recipe's stages with what they start from; null: every stage but sft where nothing
    starts from it."""
    named = recipe.stages or [stage for stage in STAGES if stage != "sft" or recipe.start == "sft"]
    return with_ancestors(named, recipe)


def with_ancestors(stages: Sequence[str], recipe: Recipe) -> list[str]:
    """The stages and those that they start from, in the order of training."""
    wanted = set(stages)
    while more := {p for stage in wanted for p in parents_of(stage, recipe)} - wanted:
        wanted |= more
    return [stage for stage in STAGES if stage in wanted]


def parents_of(stage: str, recipe: Recipe) -> tuple[str, ...]:
    """What the stage starts from; ppo and grpo need the reward model only where something of it is used."""
    if stage == "base":
        return ()
    if stage == "sft":
        return ("base",)
    if stage == "reward":
        return (recipe.reward.backbone,) if recipe.reward.backbone in STAGES else ()
    rewarded = stage in ("ppo", "grpo") and MODEL in parse_sources(recipe.reward.function)
    needs_reward = rewarded or (stage == "ppo" and recipe.ppo.critic == "reward")
    return (recipe.start, "reward") if needs_reward else (recipe.start,)


def later_stages(stage: str, recipe: Recipe) -> list[str]:
    """What is trained from the stage, directly or not, in the order of training."""
    return [name for name in STAGES if name != stage and stage in with_ancestors([name], recipe)]


def configuration(recipe: Recipe, name: str) -> dict[str, Any]:
    """The keys that decide what a stage becomes: its own section and what all stages share.

    The source of rewards is a key of the reward section, but decides what ppo and grpo become.
    """
    shared = recipe.model_dump(mode="json", include={"model", "data", "stop", "precision"})
    own = recipe.model_dump(mode="json", include={name}, exclude={"reward": REWARD_SOURCE})[name]
    if name in ("ppo", "grpo", "dpo"):
        shared["start"] = recipe.start
    if name in ("ppo", "grpo"):
        shared |= recipe.model_dump(mode="json", include={"reward": REWARD_SOURCE})
    return {**shared, name: own}
