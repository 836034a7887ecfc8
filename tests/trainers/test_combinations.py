"""Values that make no sense together are an error that says why; those that do are not."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.types import STAGES
from trainers.config.checks import check_combinations, check_given, ignored_keys
from trainers.config.loading import explain, list_recipes, load_recipe
from trainers.config.recipe import Recipe
from trainers.pipeline import train

from .conftest import TOY


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"grpo": {"ratio": "sequence", "loss_type": "dapo"}},
            "grpo.loss_type=dapo: it weighs a response by its length, grpo.ratio=sequence is one action a response, "
            "each of equal weight; set grpo.loss_type=grpo",
        ),
        (
            {"reward": {"ensemble": "min"}},
            "reward.ensemble=min: given with the one reward model, expected two or more rewards in reward.function",
        ),
        (
            {"reward": {"ensemble": "mean", "function": ["model", "m:f"], "weights": [1.0, 2.0]}},
            "reward.ensemble=mean: given with reward.weights, expected two or more rewards",
        ),
        (
            {"sft": {"save_total_limit": 2}},
            "sft.save_total_limit=2: at sft.save_steps=0 no checkpoint is saved on the way; set sft.save_steps",
        ),
        ({"grpo": {"ratio": "product", "loss_type": "dr_grpo"}}, "grpo.loss_type=dr_grpo: it weighs a response by "),
        (
            {"grpo": {"num_generations": 1}},
            "grpo.num_generations: given 1, expected at least 2: grpo.advantage=group compares the responses to one "
            "prompt",
        ),
        (
            {"grpo": {"ratio": "none", "epochs": 2}},
            "grpo.ratio=none: given grpo.epochs=2 and grpo.minibatches=1; REINFORCE is right only for the policy that "
            "drew the samples, so set both to 1 or choose a ratio",
        ),
        (
            {"sft": {"lora": {"r": 4}}, "dpo": {"lora": {"load_in_4bit": True}}},
            "dpo.lora.load_in_4bit: dpo starts from sft, an adapter, which cannot be merged into 4 bits without "
            "rounding it; leave out dpo.lora.load_in_4bit, or train sft without lora",
        ),
        (
            {"reward": {"lora": {"r": 4}}, "ppo": {"lora": {"load_in_4bit": True}}},
            "ppo.lora.load_in_4bit: ppo starts from reward, an adapter, which cannot be merged into 4 bits",
        ),
        ({"grpo": {"ratio": "none", "cliprange_high": 0.3}}, "grpo.cliprange_high=0.3: grpo.ratio=none has no ratio"),
        ({"grpo": {"rank_decay": 0.5}}, "grpo.rank_decay=0.5: only grpo.advantage=rank_exponential has it, not group"),
        ({"grpo": {"entropy_target": 2.0}}, "grpo.entropy_target=2: has no effect at grpo.entropy_coef=0"),
        ({"ppo": {"ratio": "sequence"}}, "ppo.ratio=sequence: one ratio a response cannot weigh GAE's advantages"),
        ({"ppo": {"ratio": "product"}}, "ppo.ratio=product: one ratio a response cannot weigh GAE's advantages"),
        ({"ppo": {"ratio": "none", "minibatches": 2}}, "ppo.ratio=none: given ppo.epochs=1 and ppo.minibatches=2; "),
        ({"ppo": {"advantage": "reward", "critic": "shared"}}, "ppo.critic=shared: ppo.advantage=reward has no critic"),
        (
            {"ppo": {"advantage": "reward_minus_value", "whiten_rewards": True}},
            "ppo.whiten_rewards: it scales rewards per token, ppo.advantage=reward_minus_value has one a response",
        ),
        ({"ppo": {"target_kl": 0.1, "epochs": 1}}, "ppo.target_kl=0.1: with one update a rollout there is none to "),
        ({"ppo": {"kl_target": 6.0, "kl_coef": 0.0}}, "ppo.kl_target=6: kl_coef adapts by factors and ppo.kl_coef=0 "),
        (
            {"reward": {"function": ["model", "gold"], "weights": [1.0]}},
            "reward.weights: given 1 for 2 rewards (model, gold), expected one for each in reward.function",
        ),
        ({"reward": {"function": "model", "weights": [1.0, 2.0]}}, "reward.weights: given 2 for 1 rewards (model), "),
        (
            {"reward": {"function": "gold"}, "data": {"source": "pairs.jsonl"}},
            "reward.function=gold: data.source=pairs.jsonl has no known gold reward, only hh-mini has",
        ),
        (
            {"reward": {"checkpoint": 3}},
            "reward.checkpoint=3: at reward.save_steps=0 no checkpoint is saved on the way; set reward.save_steps",
        ),
        (
            {"reward": {"checkpoint": 3, "save_steps": 2}},
            "reward.checkpoint=3: reward.save_steps=2 does not save after",
        ),
        (
            {"reward": {"checkpoint": 2, "save_steps": 2, "save_total_limit": 1}},
            "reward.checkpoint=2: reward.save_total_limit=1 may remove it",
        ),
        (
            {"reward": {"checkpoint": 2, "save_steps": 2, "function": "gold"}},
            "reward.checkpoint=2: reward.function=gold does not use this run's reward model",
        ),
        ({"sft": {"warmup_steps": 5, "max_steps": 5}}, "sft.warmup_steps=5: of 5 steps all would warm up"),
        ({"grpo": {"warmup_steps": 9, "steps": 8}}, "grpo.warmup_steps=9: of 8 steps all would warm up"),
        ({"ppo": {"max_prompt_tokens": 129}}, "ppo.max_prompt_tokens=129: above data.max_prompt_tokens=128"),
        ({"grpo": {"max_response_tokens": 65}}, "grpo.max_response_tokens=65: above data.max_response_tokens=64"),
        (
            {
                "start": "base",
                "base": {},
                "sft": {"lora": {"r": 4}},
                "reward": {"lora": {"r": 4}},
                "ppo": {"lora": {"load_in_4bit": True}},
            },
            "ppo.lora.load_in_4bit: ppo starts from reward, an adapter, which cannot be merged into 4 bits",
        ),
        ({"reward": {"function": []}}, "reward.function: given an empty list, expected model, gold, a reward"),
        ({"reward": {"function": "golden"}}, "reward.function: given 'golden', expected model, gold, a reward "),
        ({"reward": {"function": "a.b:c d"}}, "reward.function: given 'a.b:c d', expected model, gold, a "),
        (
            {"reward": {"function": ["gold", "gold"]}},
            "reward.function: 'gold' is given twice; name it once and set its ",
        ),
    ],
)
def test_what_makes_no_sense(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(BadValue) as error:
        check_combinations(Recipe.model_validate(sections))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_it_is_an_error_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"^ppo\.ratio=sequence: "):
        train(["base"], recipe=str(TOY), overrides=["ppo.ratio=sequence"], root=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["ppo.advantage=reward", "ppo.critic_lr=1e-3"],
            "ppo.critic_lr: given 0.001, but it decides nothing: ppo.advantage=reward has no critic; leave "
            "ppo.critic_lr out",
        ),
        (["ppo.advantage=reward", "ppo.vf_coef=0.5"], "ppo.vf_coef: given 0.5, but it decides nothing: "),
        (["ppo={advantage: reward, cliprange_value: 0.3}"], "ppo.cliprange_value: given 0.3, but it decides nothing: "),
        (["ppo.advantage=reward_minus_value", "ppo.lam=0.9"], "ppo.lam: given 0.9, but it decides nothing: "),
        (["ppo.advantage=reward", "ppo.gamma=0.9"], "ppo.gamma: given 0.9, but it decides nothing: ppo.advantage=rew"),
        (["ppo.kl_target=null", "ppo.kl_horizon=9"], "ppo.kl_horizon: given 9, but it decides nothing: without "),
        (
            ["sft.warmup_steps=2", "sft.warmup_ratio=0.1"],
            "sft.warmup_ratio: given 0.1, but it decides nothing: sft.war",
        ),
        (["grpo.ratio=none", "grpo.cliprange=0.1"], "grpo.cliprange: given 0.1, but it decides nothing: grpo.ratio=n"),
        (
            ["ppo.vf_coef=0", "ppo.cliprange_value=0.3"],
            "ppo.cliprange_value: given 0.3, but it decides nothing: ppo.vf",
        ),
        (["ppo.kl_target=null", "ppo.kl_coef=0", "ppo.kl_in=loss"], "ppo.kl_in: given loss, but it decides nothing: "),
        (["grpo.beta=0", "grpo.kl_in=reward"], "grpo.kl_in: given reward, but it decides nothing: grpo.beta=0; leave "),
        (["sft.muon_lr=0.1"], "sft.muon_lr: given 0.1, but it decides nothing: sft.optimizer=adamw; leave "),
        (["model=gpt2", "base.compile=true"], "base.compile: given True, but it decides nothing: with model=gpt2 base"),
    ],
)
def test_a_key_that_decides_nothing(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadValue) as error:
        train(recipe=str(TOY), overrides=overrides, root=tmp_path)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_file_is_held_against_itself(tmp_path: Path) -> None:
    """The critic's learning rate is a file's own fault only where the file has no critic and it is no default."""
    recipe = tmp_path / "own.yaml"
    recipe.write_text("ppo: {critic_lr: 1.0e-3}")
    check_given(str(recipe), ["ppo.advantage=reward"], STAGES)
    recipe.write_text("ppo: {advantage: reward, critic_lr: 5.0e-4}")
    check_given(str(recipe), [], STAGES)
    recipe.write_text("ppo: {advantage: reward, critic_lr: 1.0e-3}")
    check_given(str(recipe), [], ["base", "dpo"])
    with pytest.raises(BadValue, match=r"^ppo\.critic_lr: given 0\.001, .* ppo\.advantage=reward "):
        check_given(str(recipe), [], STAGES)


def test_a_file_that_only_overrides_make_whole(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text("dpo: {loss: cdpo}")
    check_given(str(recipe), ["dpo.label_smoothing=0.1"], STAGES)
    with pytest.raises(BadValue, match=r"^ppo\.lam: given 0\.9, but it decides nothing: "):
        check_given(str(recipe), ["dpo.label_smoothing=0.1", "ppo.advantage=reward", "ppo.lam=0.9"], STAGES)


def test_every_ignored_key_is_a_key() -> None:
    plain = {"ppo": {"advantage": "reward", "ratio": "none"}, "grpo": {"ratio": "none"}, "model": "gpt2"}
    keys = [key for key, _ in ignored_keys(Recipe.model_validate(plain), STAGES)]
    assert len(keys) > 10
    assert set(keys) <= {row.key for row in explain()}


def test_what_makes_sense_is_allowed() -> None:
    for name in list_recipes():
        check_combinations(load_recipe(name))
        check_given(name, [], STAGES)
    for advantage, ratio, kl_in in itertools.product(
        ("group", "mean", "rloo", "rank_linear", "rank_exponential", "rank_tournament"),
        ("token", "sequence", "product", "none"),
        ("loss", "reward"),
    ):
        check_combinations(Recipe.model_validate({"grpo": {"advantage": advantage, "ratio": ratio, "kl_in": kl_in}}))
    for critic, advantage in itertools.product(("reward", "policy", "shared", None), ("gae", "reward_minus_value")):
        check_combinations(Recipe.model_validate({"ppo": {"critic": critic, "advantage": advantage}}))


@pytest.mark.parametrize(
    "sections",
    [
        {"ppo": {"target_kl": 0.1, "epochs": 1, "minibatches": 2}},  # there is a second update to leave out
        {"ppo": {"target_kl": 0.1, "epochs": 2, "minibatches": 1}},
        {"grpo": {"num_generations": 2}},
        {"grpo": {"entropy_target": 2.0, "entropy_coef": 0.1}},
        {"reward": {"function": ["model", "gold"], "weights": [1.0, 0.5]}},
        {"reward": {"function": "model"}, "data": {"source": "pairs.jsonl"}},
        {"base": {"gradient_checkpointing": True}},
        {"sft": {"gradient_checkpointing": True, "compile": True}, "model": "gpt2"},
    ],
)
def test_at_the_limit_it_still_makes_sense(sections: dict[str, Any]) -> None:
    check_combinations(Recipe.model_validate(sections))


def test_the_defaults_are_those_of_mini() -> None:
    """The recipe that ships names none of the new keys, so that it trains as it always has."""
    mini = load_recipe("mini")
    assert (mini.ppo.advantage, mini.ppo.ratio, mini.ppo.kl_in, mini.ppo.critic) == ("gae", "token", "reward", None)
    assert (mini.ppo.whiten_advantages, mini.ppo.entropy_coef, mini.ppo.target_kl) == (True, 0.0, None)
    assert (mini.grpo.advantage, mini.grpo.ratio, mini.grpo.kl_in) == ("group", "token", "loss")
    assert (mini.grpo.loss_type, mini.grpo.entropy_coef, mini.reward.function) == ("grpo", 0.0, "model")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ppo.max_steps", "ppo.steps"),  # and not dpo.max_steps
        ("base.steps", "base.max_steps"),
        ("reward.lr_head", "reward.head_lr"),
        ("dpo.epoch", "dpo.epochs"),
        ("sft.kl_coef", "ppo.kl_coef"),  # nothing like it in sft
        ("ppo.lora.rank", "ppo.lora.r"),
    ],
)
def test_an_unknown_key_is_looked_for_in_its_own_section_first(given: str, meant: str) -> None:
    with pytest.raises(UnknownName, match=rf"^unknown key '{given}'; did you mean '{meant}'\?$"):
        load_recipe("mini", [f"{given}=1"])
