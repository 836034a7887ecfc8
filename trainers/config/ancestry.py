"""Which stage starts from which, and which keys decide what a stage becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhf_bench.types import STAGES
from trainers.config.recipe import Recipe
from trainers.config.rewards import MODEL, parse_sources

__all__ = ["PARENTS", "configuration", "later_stages", "parents_of", "with_ancestors"]

PARENTS: dict[str, tuple[str, ...]] = {
    "base": (),
    "sft": ("base",),
    "reward": ("sft",),
    "ppo": ("sft", "reward"),
    "grpo": ("sft", "reward"),
    "dpo": ("sft",),
}
REWARD_SOURCE = {"function", "weights", "ensemble"}  # keys of the reward section that only ppo and grpo obey


def with_ancestors(stages: Sequence[str], recipe: Recipe) -> list[str]:
    """The stages and those that they start from, in the order of training."""
    wanted = set(stages)
    while more := {p for stage in wanted for p in parents_of(stage, recipe)} - wanted:
        wanted |= more
    return [stage for stage in STAGES if stage in wanted]


def parents_of(stage: str, recipe: Recipe) -> tuple[str, ...]:
    """What the stage starts from; ppo and grpo need the reward model only where something of it is used."""
    if stage == "reward":
        return (recipe.reward.backbone,) if recipe.reward.backbone in STAGES else ()
    uses_model = MODEL in parse_sources(recipe.reward.function)
    if (stage == "grpo" and not uses_model) or (stage == "ppo" and not uses_model and recipe.ppo.critic != "reward"):
        return ("sft",)
    return PARENTS[stage]


def later_stages(stage: str, recipe: Recipe) -> list[str]:
    """What is trained from the stage, directly or not, in the order of training."""
    return [name for name in STAGES if name != stage and stage in with_ancestors([name], recipe)]


def configuration(recipe: Recipe, name: str) -> dict[str, Any]:
    """The keys that decide what a stage becomes: its own section and what all stages share.

    The source of rewards is a key of the reward section, but decides what ppo and grpo become.
    """
    shared = recipe.model_dump(mode="json", include={"model", "data", "stop", "precision"})
    own = recipe.model_dump(mode="json", include={name}, exclude={"reward": REWARD_SOURCE})[name]
    if name in ("ppo", "grpo"):
        shared |= recipe.model_dump(mode="json", include={"reward": REWARD_SOURCE})
    return {**shared, name: own}
