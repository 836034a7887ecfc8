"""PPO's critic: which state a value belongs to, what it starts from, and what it cannot start from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.tokens import Encoded, collate
from trainers.config.recipe import PpoConfig, Recipe
from trainers.engine.critic import Critic, make_critic
from trainers.engine.machine import Machine

from ..rlhf_bench.tiny import save_policy, save_reward


def a_stage(function: str = "model", **folders: Path) -> Any:
    """What `make_critic` reads of a stage."""
    recipe = Recipe.model_validate({"reward": {"function": function}})
    machine = Machine(torch.device("cpu"), "fp32")
    start, reward = folders.get("sft"), folders.get("reward")
    return SimpleNamespace(name="ppo", recipe=recipe, seed=0, machine=machine, start=start, reward_model=reward)


def test_a_value_is_that_of_the_state_before_its_token(policy: PreTrainedModel) -> None:
    """Two rows of two and of one response token. The head doubles the states before them: 1, 2 and 3."""
    head = nn.Linear(1, 1, bias=False)
    nn.init.constant_(head.weight, 2.0)
    before = torch.tensor([[1.0], [2.0], [3.0]])
    mask = torch.tensor([[False, True, True], [False, True, False]])
    assert Critic(policy.base_model, head).values(before, mask).tolist() == [[0.0, 2.0, 4.0], [0.0, 6.0, 0.0]]


@torch.no_grad()
def test_values_are_read_before_each_response_token(policy: PreTrainedModel) -> None:
    """Padding on the left and on the right, and a response with nothing before it, whose first value is 0."""
    torch.manual_seed(0)
    critic = Critic(policy.base_model, nn.Linear(policy.config.hidden_size, 1))
    rows = [Encoded([5, 6, 7], [8, 9]), Encoded([], [4, 3, 2])]
    for side in ("left", "right"):
        batch = collate(rows, pad_id=0, side=side)
        values = critic(batch)
        assert (values[~batch.response_mask] == 0).all()
        for row, mine, mask in zip(rows, values, batch.response_mask, strict=True):
            ids = torch.tensor([row.prompt + row.response])
            states = policy.base_model(input_ids=ids).last_hidden_state
            expected = critic.head(states)[0, :-1, 0][-len(row.response) :]
            found = mine[mask] if row.prompt else mine[mask][1:]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
            assert row.prompt or mine[mask][0] == 0


@pytest.mark.parametrize(
    ("function", "start", "is_reward"),
    [("model", None, True), ("gold", None, False), ("gold", "reward", True), ("model", "policy", False)],
)
def test_what_a_critic_starts_from(
    policy: PreTrainedModel, policy_folder: Path, reward_folder: Path, function: str, start: Any, is_reward: bool
) -> None:
    """The reward model where rewards are its own, else the policy; its backbone has one row more, for its pad token."""
    stage = a_stage(function, sft=policy_folder, reward=reward_folder)
    critic = make_critic(stage, PpoConfig(critic=start), policy)
    assert critic is not None
    rows = policy.get_input_embeddings().weight.shape[0]
    assert critic.backbone.get_input_embeddings().weight.shape[0] == rows + is_reward
    assert critic.backbone is not policy.base_model
    assert not any(parameter.any() for parameter in critic.head.parameters())  # the first values are 0


def test_a_shared_critic_and_none(policy: PreTrainedModel) -> None:
    shared = make_critic(a_stage(), PpoConfig(critic="shared"), policy)
    assert shared is not None
    assert shared.backbone is policy.base_model
    assert make_critic(a_stage(), PpoConfig(advantage="reward"), policy) is None


def test_a_reward_model_of_another_vocabulary_is_refused(
    policy: PreTrainedModel, policy_folder: Path, tmp_path: Path
) -> None:
    other = save_reward(tmp_path / "reward", save_policy(tmp_path / "other"))
    with pytest.raises(ModelError, match=r"^ppo\.critic=reward needs a reward model with the policy's vocabulary"):
        make_critic(a_stage(sft=policy_folder, reward=other), PpoConfig(), policy)
