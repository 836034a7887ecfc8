"""Optimisers and learning rates fit the model: a pretrained one is fine-tuned."""

from __future__ import annotations

from pathlib import Path

from trainers.config.loading import fine_tuned_instead, load_recipe


def test_a_pretrained_model_is_fine_tuned() -> None:
    """The numbers of gpt2-hh in place of mini's; what --set gives stays, and so does what is no optimiser's."""
    recipe = load_recipe("mini", ["model=somewhere", "dpo.lr=3e-5"])
    assert (recipe.sft.optimizer, recipe.sft.lr) == ("adamw", 2e-5)
    assert (recipe.reward.optimizer, recipe.reward.lr, recipe.reward.head_lr) == ("adamw", 2e-5, 1e-4)
    assert (recipe.ppo.lr, recipe.ppo.critic_lr, recipe.grpo.lr, recipe.dpo.lr) == (3e-6, 1e-5, 1e-6, 3e-5)
    plain = load_recipe("mini")
    assert recipe.ppo.kl_coef == plain.ppo.kl_coef == 0.4
    assert (plain.sft.optimizer, plain.sft.lr, plain.dpo.lr) == ("muon", 2e-3, 3e-4)
    assert load_recipe("mini", ["model=somewhere", "sft.optimizer=muon"]).sft.optimizer == "muon"


def test_a_file_for_a_pretrained_model_keeps_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: somewhere\nsft: {lr: 0.5}\ndpo: {beta: 0.3}\n", encoding="utf-8")
    recipe = load_recipe(str(file))
    assert (recipe.sft.lr, recipe.dpo.lr, recipe.dpo.beta) == (0.5, 1e-6, 0.3)


def test_the_replacement_is_logged() -> None:
    line = fine_tuned_instead("mini", ["model=somewhere"])
    assert line is not None
    assert "gpt2-hh" in line
    assert fine_tuned_instead("mini", []) is None
    assert fine_tuned_instead("gpt2-hh", ["model=somewhere"]) is None
