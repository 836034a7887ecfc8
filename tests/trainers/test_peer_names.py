"""Names in other projects: each key is ours, and each TRL name is a field of the installed TRL."""

from __future__ import annotations

import dataclasses
import warnings

import pytest

from rlhf_bench.config.keys import dotted_keys
from trainers.config.loading import explain
from trainers.config.peer_names import OPENRLHF, TRL, peer_names
from trainers.config.recipe import Recipe

from .conftest import call

PPO_CONFIG = ("batch_size", "total_episodes", "num_ppo_epochs", "num_mini_batches", "temperature",
              "missing_eos_penalty", "whiten_rewards", "kl_coef", "cliprange", "vf_coef", "cliprange_value", "gamma",
              "lam", "response_length")  # fmt: skip
"""Fields of the class that TRL had for PPO, as of commit 496cb7f."""


def test_every_key_that_has_a_name_elsewhere_is_one_of_ours() -> None:
    assert set(TRL) | set(OPENRLHF) <= set(dotted_keys(Recipe))


@pytest.mark.filterwarnings("ignore")
def test_every_trl_name_is_a_field_of_the_installed_trl() -> None:
    trl = pytest.importorskip("trl")
    with warnings.catch_warnings(action="ignore"):
        fields = {
            f"{name}.{field.name}"
            for name in (
                "SFTConfig",
                "RewardConfig",
                "GRPOConfig",
                "DPOConfig",
                "KTOConfig",
                "ModelConfig",
                "ScriptArguments",
            )
            for field in dataclasses.fields(getattr(trl, name))
        }
    gone = {f"PPOConfig.{name}" for name in PPO_CONFIG} | {  # which was one of TrainingArguments' own
        name.replace("SFTConfig", "PPOConfig") for name in fields if name.startswith("SFTConfig.")
    }
    unknown = {key: name for key, name in TRL.items() if name.partition(" (")[0] not in fields | gone}
    assert unknown == {}


def test_explain_prints_the_names_below_the_meaning() -> None:
    lines = call("train", "dpo", "--explain").stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("dpo.beta "))
    assert lines[at + 2] == "    TRL: DPOConfig.beta; OpenRLHF: --beta"
    assert lines[lines.index("dpo  (section)") + 2].startswith("dpo.")  # a section has no name of its own
    assert peer_names("ppo.gamma") == "TRL: PPOConfig.gamma; OpenRLHF: --gamma"
    assert peer_names("base.max_steps") == "TRL: SFTConfig.max_steps; OpenRLHF: none"
    assert peer_names("save_seconds") == "TRL: none; OpenRLHF: none"


def test_most_keys_have_a_name_elsewhere() -> None:
    """Those without one are this project's own, or nothing that the two have: named here, so that none is forgotten."""
    own = {"muon_lr", "eval_size", "head_lr", "ensemble", "rank_decay", "target_kl", "description", "stop", "filters",
           "save_seconds", "n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "data.seed",
           "grpo.missing_eos_penalty", "ppo.entropy_target", "start", "stages", "reward.checkpoint",
           "data.validation", "data.skip_bad", "toy"}  # fmt: skip
    sections = {row.key for row in explain() if row.type == "section"}
    without = set(dotted_keys(Recipe)) - set(TRL) - set(OPENRLHF) - sections
    assert {key for key in without if key.rpartition(".")[2] not in own and key not in own} == set()
