"""Keys that another value of the recipe leaves without effect: refused where they were given, before anything runs.

What a recipe's file gives is held against the file, what an override gives against the whole: `--set
ppo.advantage=reward` is no fault of a file that sets the critic's learning rate for its own `gae`. A default that a
file repeats is no fault either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rlhf_bench.config import flatten, overridden, read_yaml
from rlhf_bench.errors import BadValue, UsageError
from trainers.recipe import BaseConfig, NewModel, PpoConfig, Recipe
from trainers.recipe_files import load_recipe, recipe_path

__all__ = ["check_given", "ignored_keys"]


def check_given(recipe: str, overrides: Sequence[str], stages: Collection[str]) -> None:
    """Raises BadValue for the first key given of `stages` that decides nothing: which, why, and what to do."""
    _check(load_recipe(recipe, list(overrides)), flatten(overridden(overrides)), stages)
    try:
        alone = load_recipe(recipe)
    except UsageError:
        return  # a file that only the overrides make whole has no meaning of its own
    defaults = flatten(Recipe())
    _check(alone, {k: v for k, v in flatten(read_yaml(recipe_path(recipe))).items() if v != defaults.get(k)}, stages)


def _check(recipe: Recipe, given: Mapping[str, Any], stages: Collection[str]) -> None:
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
    for stage in {"ppo", "grpo"} & set(stages):
        if getattr(recipe, stage).ratio == "none":
            yield f"{stage}.cliprange", f"{stage}.ratio=none has no ratio to clip"
    if "grpo" in stages and recipe.grpo.beta == 0:
        yield "grpo.kl_in", "grpo.beta=0"
    if "ppo" in stages:
        yield from _of_ppo(recipe.ppo)


def _of_ppo(config: PpoConfig) -> Iterator[tuple[str, str]]:
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
