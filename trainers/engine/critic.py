"""PPO's critic: a value before each response token, from a backbone of its own or from the policy's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.chunked_logps import at_least_float32
from rlhf_bench.modeling.heads import backbone_of
from rlhf_bench.modeling.logprobs import LogprobModel, TokenLogps, hidden_states, read_for, target_mask
from rlhf_bench.modeling.models import load_policy, load_reward_model, seeded
from rlhf_bench.modeling.tokenizers import load_tokenizer
from rlhf_bench.modeling.tokens import Batch
from trainers.config.recipe import PpoConfig
from trainers.config.rewards import MODEL, parse_sources
from trainers.engine.models import make_trainable
from trainers.engine.stage import Stage


class Critic(nn.Module):
    """A backbone with a scalar head on every position."""

    def __init__(self, backbone: PreTrainedModel, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, batch: Batch) -> Tensor:
        """Value before each response token is drawn, (B, T) like the batch. 0 elsewhere, and before a first token."""
        mask = target_mask(batch, whole_sequence=False)
        return self.values(hidden_states(self.backbone, batch, read_for(mask)), mask)

    def values(self, before: Tensor, mask: Tensor) -> Tensor:
        """The same from the hidden state before each of the tokens `mask`, (N, H)."""
        values = at_least_float32(self.head(before).squeeze(-1))
        return torch.zeros(mask.shape, dtype=values.dtype, device=mask.device).masked_scatter(mask, values)


class ActorCritic(nn.Module):
    """Policy and critic in one forward; where they share a backbone it runs once.

    Everything happens inside `forward`, so that wrappers that hook a module's forward (DDP, FSDP) see all of it.
    """

    def __init__(self, policy: LogprobModel, critic: Critic | None) -> None:
        super().__init__()
        self.policy, self.critic = policy, critic

    def forward(self, batch: Batch, temperature: float = 1.0) -> tuple[TokenLogps, Tensor | None]:
        """Log-probability, entropy and value (None without a critic) of each response token, each (B, T)."""
        if self.critic is None:
            return self.policy(batch, temperature), None
        if not self.shared:
            return self.policy(batch, temperature), self.critic(batch)
        mask = target_mask(batch, whole_sequence=False)
        before = hidden_states(self.policy.model, batch, read_for(mask))
        return self.policy.of_hidden(before, batch, mask, temperature), self.critic.values(before, mask)

    @property
    def shared(self) -> bool:
        return self.critic is not None and self.critic.backbone is backbone_of(self.policy.model)

    @property
    def own(self) -> nn.Module | None:
        """What the critic has and the policy has not: all of it, its head, or nothing."""
        return self.critic.head if self.critic is not None and self.shared else self.critic

    def own_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        return () if self.own is None else self.own.named_parameters()


def make_critic(stage: Stage, config: PpoConfig, policy: PreTrainedModel) -> Critic | None:
    """The critic, its head at 0: the first values are 0 and not noise. None where rewards are the advantages.

    Raises:
        ModelError: the reward model reads another vocabulary than the policy.
    """
    if config.advantage == "reward":
        return None
    backbone = _backbone(stage, config, policy)
    if backbone is not policy:
        make_trainable(stage, backbone, config, stage.start)
    with seeded(stage.seed):
        head = nn.Linear(backbone.config.hidden_size, 1).to(stage.machine.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return Critic(backbone_of(backbone), head)


def _backbone(stage: Stage, config: PpoConfig, policy: PreTrainedModel) -> PreTrainedModel:
    by_model = MODEL in parse_sources(stage.recipe.reward.function)
    start = config.critic or ("reward" if by_model else "policy")
    if start == "shared":
        return policy
    if start == "policy":
        return load_policy(stage.start, device=stage.machine.device, load_in_4bit=config.load_in_4bit)[0]
    backbone, tokenizer = load_reward_model(
        stage.reward_model, device=stage.machine.device, load_in_4bit=config.load_in_4bit
    )
    known = tokenizer.get_vocab()  # a new dictionary at each call: 64 ms for 49,152 tokens
    if any(known.get(token) != i for token, i in load_tokenizer(stage.start).get_vocab().items()):
        raise ModelError(
            "ppo.critic=reward needs a reward model with the policy's vocabulary; the two differ: "
            "use --set ppo.critic=policy"
        )
    return backbone
