"""Keys that the published pipelines needed: each by hand, as a pure function or from the recipe alone."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.config.ancestry import all_stages, configuration, parents_of
from trainers.config.optimizer import OptimizerConfig
from trainers.config.recipe import Recipe
from trainers.engine.rollout import nucleus_numbers
from trainers.losses.advantages import batch_advantages


def test_batch_advantages_worked_by_hand() -> None:
    """Rewards 1, 3 | 2, 6: means 2 and 4; all four have mean 3 and squares 4 + 0 + 1 + 9 = 14, std sqrt(14 / 3) =
    2.160247. -1, 1, -2, 2 over 2.160347."""
    found = batch_advantages(torch.tensor([[1.0, 3.0], [2.0, 6.0]]))
    assert found.flatten().tolist() == pytest.approx([-0.462889, 0.462889, -0.925777, 0.925777], abs=1e-5)


def test_batch_advantages_without_spread_are_0() -> None:
    assert batch_advantages(torch.full((2, 3), 0.1)).abs().max() == 0
    assert batch_advantages(torch.tensor([[0.1, 0.1], [0.0, 1.0]]))[0].tolist() == [0, 0]


def test_batch_advantages_are_trls() -> None:
    """`GRPOTrainer` with scale_rewards="batch": less the group's mean, over the std of all rewards plus 1e-4."""
    rewards = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    trl = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std() + 1e-4)
    assert torch.allclose(batch_advantages(rewards), trl, atol=1e-6)


def test_nucleus_numbers_worked_by_hand() -> None:
    """Tokens of .4 and .1 drawn from nuclei of mass .8 and .5 with probability .5 and .2; the other response's one
    token from all of them. Mass (.8 + .5 + 1) / 3; KL (log 1.25 + log 2) / 2 responses."""
    logps = torch.log(torch.tensor([[0.4, 0.1], [0.3, 1.0]]))
    drawn = torch.log(torch.tensor([[0.5, 0.2], [0.3, 7.0]]))
    mask = torch.tensor([[True, True], [True, False]])
    found = nucleus_numbers(drawn, logps, mask)
    assert found["sampling/nucleus_mass"] == pytest.approx(2.3 / 3)
    assert found["sampling/nucleus_kl"] == pytest.approx((math.log(1.25) + math.log(2)) / 2)


def test_warmup_in_steps_or_as_a_share() -> None:
    assert OptimizerConfig(warmup_ratio=0.1).warmup_share(50) == 0.1
    assert OptimizerConfig(warmup_steps=5).warmup_share(50) == 0.1
    assert OptimizerConfig(warmup_steps=0).warmup_share(50) == 0.0


def test_stages_of_a_recipe_that_starts_from_base() -> None:
    backbone = {"reward": {"backbone": "base"}}
    recipe = Recipe.model_validate({"start": "base", **backbone})
    assert all_stages(recipe) == ["base", "reward", "ppo", "grpo", "dpo"]
    assert parents_of("ppo", recipe) == ("base", "reward")
    assert parents_of("dpo", recipe) == ("base",)
    assert "sft" in all_stages(Recipe.model_validate({"start": "base"}))  # the reward model starts from it
    assert all_stages(Recipe.model_validate({"stages": ["grpo"]})) == ["base", "sft", "reward", "grpo"]
    assert configuration(recipe, "dpo")["start"] == "base"
    assert "start" not in configuration(recipe, "reward")
