"""Reward models: a scalar for a prompt and a response, read at the last real token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.errors import NotFinite
from rlhf_bench.modeling.checkpoints import prompt_form
from rlhf_bench.modeling.logprobs import at_least_float32, hidden_states
from rlhf_bench.modeling.models import load_reward_model, max_positions
from rlhf_bench.modeling.templates import Template
from rlhf_bench.modeling.tokens import Batch, Encoded, collate, encode
from rlhf_bench.modeling.trees import grouped_batches
from rlhf_bench.runtime.pool import workers_for
from rlhf_bench.runtime.processes import ALONE, Processes

__all__ = ["RewardModel", "ScoreModel"]

AT_ONCE = 16_384  # responses whose tokens are held together, and sorted by length


class ScoreModel(nn.Module):
    """A sequence classifier whose forward gives one score per sequence, (B,)."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """The score at the last real token, wherever the padding is."""
        head: Any = getattr(self.model, "score", None)
        if head is None:  # an encoder reads its score where it likes
            out: Any = self.model(input_ids=batch.ids, attention_mask=batch.attention_mask.long())
            return at_least_float32(out.logits.squeeze(-1))
        hidden = hidden_states(self.model, batch)
        last = torch.where(batch.attention_mask, batch.position_ids, -1).argmax(-1)
        scores = head(hidden[torch.arange(len(last), device=last.device), last]).squeeze(-1)
        return at_least_float32(scores).clone()  # FSDP's hooks want no view


class RewardModel:
    """A reward model with its own tokenizer and limits."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_prompt: int | None = None,
        max_response: int | None = None,
        template: str = "hh",
        name: str = "the reward model",
    ) -> None:
        limit = max_positions(model)
        self.model, self.tokenizer, self.name = ScoreModel(model), tokenizer, name
        self.template = Template.of(template, tokenizer, name=name)
        self.max_response = max_response or min(512, limit // 2)
        self.max_prompt = max_prompt or min(limit - self.max_response, 1536)

    @classmethod
    def load(
        cls, path: str | Path, *, device: torch.device | None = None, max_prompt: int | None = None,
        max_response: int | None = None,
    ) -> RewardModel:  # fmt: skip
        model, tokenizer = load_reward_model(path, device=device)
        return cls(
            model, tokenizer, max_prompt=max_prompt, max_response=max_response, template=prompt_form(path),
            name=str(path),
        )  # fmt: skip

    def encode(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool] | None = None
    ) -> list[Encoded]:
        """Prompts and responses of the data as tokens, in the form that the model was trained on."""
        return encode(
            self.tokenizer,
            [self.template.prompt(prompt) for prompt in prompts],
            [self.template.response(response) for response in responses],
            ended=ended, max_prompt=self.max_prompt, max_response=self.max_response,
        )  # fmt: skip

    def score(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        ended: Sequence[bool] | None = None,
        *,
        batch_size: int = 64,
        processes: Processes = ALONE,
    ) -> Tensor:
        """Raw reward of each response, (N,) float32 on the CPU. `ended[i]` False: response i was cut by its limit.

        Raises:
            NotFinite: a reward is NaN or infinite; the message names the first such response.
        """
        scores, pad = torch.empty(len(responses)), self.tokenizer.pad_token_id
        with workers_for(self.model.model, processes) as pool:
            for start in range(0, len(responses), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                rows = self.encode(prompts[part], responses[part], None if ended is None else ended[part])

                def work(group: Sequence[int], rows: list[Encoded] = rows) -> Tensor:
                    batch = collate([rows[i] for i in group], pad_id=pad).to(self.model.model.device)
                    with torch.no_grad():
                        values: Tensor = self.model(batch).cpu()
                    return values

                pool.fill(scores[part], work, grouped_batches(self.model.model, rows, batch_size))
        bad = (~scores.isfinite()).nonzero()
        if len(bad):
            i = int(bad[0])
            raise NotFinite(
                f"{self.name} gave {scores[i].item()} for response {i} of {len(scores)}; expected a finite number: "
                "train the reward model again or use another"
            )
        return scores
