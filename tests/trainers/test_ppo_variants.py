"""PPO's other forms: one advantage a response, a shared critic, the early stop."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.files import read_jsonl
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.tokens import Batch, Encoded, collate
from trainers import ppo
from trainers.config.recipe import PpoConfig
from trainers.engine.alarms import first_ratio
from trainers.engine.critic import ActorCritic, Critic
from trainers.engine.policy_update import policy_step
from trainers.engine.rollout import RolloutMaker

from . import test_invariance
from .test_policy_gradient import masked, near

folder, make_stage, one_step = test_invariance.folder, test_invariance.make_stage, test_invariance.one_step

MASK = masked(".xx", "xxx")
SCORES = torch.tensor([4.0, 1.0])
LOGPS = torch.tensor([[9.0, -1.0, -2.0], [-1.0, -1.0, -1.0]])
REFERENCE = torch.tensor([[9.0, -2.0, -3.0], [-1.0, -1.0, -3.0]])  # KL 2 and 2
VALUES = torch.tensor([[9.0, 1.0, 2.0], [3.0, 0.0, 0.0]])  # means 1.5 and 1


def targets(kl_coef: float = 0.0, **section: Any) -> tuple[torch.Tensor, torch.Tensor]:
    config = PpoConfig.model_validate(section)
    return ppo.response_targets(config, SCORES, LOGPS, REFERENCE, VALUES, MASK, kl_coef)


def test_one_advantage_a_response_worked_by_hand() -> None:
    advantages, returns = targets(advantage="reward", whiten_advantages=False)
    near(advantages, [[0, 4, 4], [1, 1, 1]])
    near(returns, [[0, 4, 4], [1, 1, 1]])
    advantages, returns = targets(0.25, advantage="reward_minus_value", whiten_advantages=False)
    near(advantages, [[0, 2, 2], [-0.5, -0.5, -0.5]])  # 4 - .5 - 1.5 and 1 - .5 - 1
    near(returns, [[0, 3.5, 3.5], [0.5, 0.5, 0.5]])


def test_responses_are_whitened_and_not_their_tokens() -> None:
    """4 and 1 have mean 2.5 and std 1.5: 1 and -1. Over tokens, two of 4 and three of 1, they had not."""
    near(targets(advantage="reward")[0], [[0, 1, 1], [-1, -1, -1]])


def test_one_forward_of_a_shared_backbone_is_that_of_each_alone(policy: PreTrainedModel) -> None:
    head = nn.Linear(policy.config.n_embd, 1)
    critic = Critic(policy.base_model, head)
    both = ActorCritic(LogprobModel(policy), critic)
    assert both.shared
    assert dict(both.own_parameters()).keys() == {"weight", "bias"}  # the backbone is the policy's
    batch = collate([Encoded([11, 12], [13, 14, 0]), Encoded([15], [16, 0])], pad_id=0)
    both(batch, 0.7)  # tries once what the model can do, by passes of its own
    calls: list[int] = []
    policy.base_model.register_forward_hook(lambda *_: calls.append(1))
    out, values = both(batch, 0.7)
    assert len(calls) == 1
    assert torch.equal(out.logps, both.policy(batch, 0.7).logps)
    assert values is not None
    assert torch.equal(values, critic(batch))
    assert values[batch.response_mask].abs().min() > 0


@pytest.mark.parametrize(("critic", "trained"), [("policy", True), ("shared", True), (None, False)])
def test_the_value_loss_reaches_the_critic(make_stage: Any, one_step: Any, critic: Any, trained: bool) -> None:
    """The head's gradient comes last, its bias at the very end; without a critic there is none."""
    advantage = "gae" if trained else "reward"
    step = one_step(make_stage("ppo", critic=critic, advantage=advantage))
    assert ("loss/value_avg" in step.row) == trained
    policy_size = sum(p.numel() for p in step.result.trained.model.parameters())
    if critic == "shared":
        assert len(step.gradient) == policy_size + 33  # width 32 and a bias
    elif trained:
        assert len(step.gradient) > 1.5 * policy_size
    else:
        assert len(step.gradient) == policy_size
    if trained:
        assert step.gradient[-1].abs().item() > 1e-4


@pytest.mark.parametrize(("limit", "updates"), [(1e-9, 1), (1e9, 6)])
def test_updates_stop_at_the_approximate_kl(make_stage: Any, limit: float, updates: int) -> None:
    """The first update starts at 0; after it, this learning rate is far beyond a limit of 1e-9."""
    stage = make_stage("ppo", epochs=3, minibatches=2, lr=0.01, target_kl=limit)
    model = ppo.train(stage).trained.model
    row = read_jsonl(stage.folders.work / "log.jsonl")[0]
    assert row["policy/updates"] == updates
    # the minibatch that was too far is in the log: after one sound update, whose KL is 0, the mean is half of its own
    assert row["policy/approxkl_avg"] > 0.5 * limit if updates == 1 else row["policy/approxkl_avg"] < limit
    assert row["val/ratio_first"] == pytest.approx(1.0, abs=1e-5)
    assert all(p.grad is None for p in model.parameters())  # what was computed beyond the limit is forgotten


def test_another_forward_than_the_rollouts_raises_the_alarm_of_the_first_ratio(
    make_stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old log-probabilities a little off, as dropout makes them: the mean ratio hardly moves, the tokens' do."""

    def row() -> dict[str, Any]:
        stage = make_stage("ppo")
        ppo.train(stage)
        found: dict[str, Any] = read_jsonl(stage.folders.work / "log.jsonl")[0]
        shutil.rmtree(stage.folders.work)
        return found

    assert first_ratio([row()]) is None
    own = RolloutMaker.logps

    def shaken(self: RolloutMaker, model: LogprobModel, batch: Batch) -> Tensor:
        logps = own(self, model, batch)
        if model is not self.policy:
            return logps
        noise = 0.3 * torch.randn(logps.shape, generator=torch.Generator().manual_seed(0))
        return logps + (noise - noise.mean()) * batch.response_mask

    monkeypatch.setattr(RolloutMaker, "logps", shaken)
    assert "old and new log-probabilities come from different forwards" in str(first_ratio([row()]))


@pytest.mark.parametrize("kl_in", ["reward", "loss"])
def test_kl_is_in_the_reward_or_in_the_loss(
    make_stage: Any, policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kl_in: str
) -> None:
    """A reference half a nat below the policy at each token: k1 is .5 a token, k3 e^-.5 - 1 + .5 = 0.106531."""
    stage = make_stage("ppo", advantage="reward", whiten_advantages=False, kl_in=kl_in)
    config, model = stage.recipe.ppo, LogprobModel(policy)
    maker = RolloutMaker(stage, config, model, model, tokenizer)
    rollout = maker.make(0, samples=1)
    mask = rollout.batch.response_mask
    rollout = rollout._replace(reference_logps=rollout.reference_logps - 0.5 * mask)
    targets, log = ppo.prepare(config, maker, None, rollout, 0.2)
    assert log["objective/kl"] == pytest.approx(0.5 * mask.sum().item() / len(mask), rel=1e-5)
    expected = rollout.scores - (0.2 * 0.5 * mask.sum(1) if kl_in == "reward" else 0.0)
    torch.testing.assert_close(targets.advantages, expected[:, None] * mask, atol=1e-4, rtol=1e-4)
    parameters, rows = list(policy.parameters()), torch.arange(len(mask))
    step = policy_step(maker, ActorCritic(model, None), config, rollout, targets, rows)
    numbers = stage.machine.pool.accumulate(partial(ppo.ppo_loss, step), step.pieces, parameters)
    assert numbers.get("loss/kl_avg") == (pytest.approx(0.106531, abs=1e-4) if kl_in == "loss" else None)
