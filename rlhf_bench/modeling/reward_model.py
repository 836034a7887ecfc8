"""Reward models: a scalar for a prompt and a response, read at the last real token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.errors import ModelError, NotFinite
from rlhf_bench.modeling.checkpoints import read_training
from rlhf_bench.modeling.chunked_logps import at_least_float32
from rlhf_bench.modeling.heads import max_positions
from rlhf_bench.modeling.logprobs import hidden_states, takes
from rlhf_bench.modeling.models import load_reward_model
from rlhf_bench.modeling.reward_form import Separate, make_form, reward_form
from rlhf_bench.modeling.tokens import Batch, Encoded, collate
from rlhf_bench.modeling.trees import grouped_batches
from rlhf_bench.runtime.pool import workers_for
from rlhf_bench.runtime.processes import ALONE, Processes

AT_ONCE = 16_384  # responses with tokens in memory together, sorted by length
LONGEST = 2048  # tokens of a prompt, and of a response, that are read however many the model could read


class Rewards(NamedTuple):
    values: Tensor  # (N,) float32 on the CPU
    cut: Tensor  # (N,) bool: prompt or response was too long, and was read in part


class ScoreModel(nn.Module):
    """A sequence classifier: its forward gives one score per sequence, (B,)."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """The score where transformers' own forward reads it: at the last token that is not the configured pad token.

        What `attention_mask` leaves out is never read, wherever the padding is.
        """
        head: Any = getattr(self.model, "score", None)
        if head is None:  # an encoder reads its score where it likes
            return self._own_forward(batch)
        pad = self.model.config.get_text_config().pad_token_id
        real = batch.attention_mask if pad is None else batch.attention_mask & (batch.ids != pad)
        last = torch.where(real, batch.position_ids, -1).argmax(-1)
        read = F.one_hot(last, batch.ids.shape[1]).bool()
        scores = head(hidden_states(self.model, batch, read)).squeeze(-1)
        return at_least_float32(scores).clone()  # FSDP's hooks want no view

    def _own_forward(self, batch: Batch) -> Tensor:
        """The forward of an encoder; for those with types of tokens the response is the second text of a pair."""
        segments = {}
        if takes(self.model, "token_type_ids") and getattr(self.model.config, "type_vocab_size", 0) > 1:
            segments = {"token_type_ids": batch.response_mask.long()}
        out: Any = self.model(input_ids=batch.ids, attention_mask=batch.attention_mask.long(), **segments)
        return at_least_float32(out.logits.squeeze(-1))


class RewardModel:
    """A reward model with its own tokenizer, form and limits."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_prompt: int | None = None,
        max_response: int | None = None,
        template: str = "hh",
        trained_here: bool = True,
        name: str = "the reward model",
    ) -> None:
        self.model, self.tokenizer, self.name = ScoreModel(model), tokenizer, name
        self.form = make_form(template, tokenizer, trained_here=trained_here, name=name)
        self._limit(max_prompt, max_response)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: torch.device | None = None,
        max_prompt: int | None = None,
        max_response: int | None = None,
        template: str | None = None,
    ) -> RewardModel:
        """The reward model of a folder or hub name, checked against plain transformers on a few texts.

        It reads the form that it was trained on, as its training.json says; without one its own: the tokenizer's chat
        template, or the pair of an encoder. `template` sets another.

        Raises CheckpointError and ModelError as `load_reward_model`, and ModelError where transformers' own forward
        gives other rewards.
        """
        model, tokenizer = load_reward_model(path, device=device)
        trained_here = template is None and read_training(Path(path)) is not None
        reward = cls(
            model, tokenizer, max_prompt=max_prompt, max_response=max_response,
            template=template or reward_form(path, tokenizer), trained_here=trained_here, name=str(path),
        )  # fmt: skip
        check_rewards(reward)
        return reward

    def within(self, *, max_prompt: int | None, max_response: int | None) -> RewardModel:
        """The same, with other limits of what it reads. A model from elsewhere keeps its own."""
        if isinstance(self.form, Separate):
            self._limit(max_prompt, max_response)
        return self

    def _limit(self, max_prompt: int | None, max_response: int | None) -> None:
        room = self.room = min(max_positions(self.model.model), 2 * LONGEST)
        if isinstance(self.form, Separate):
            self.max_response = min(max_response or LONGEST, room // 2)
            self.max_prompt = min(max_prompt or LONGEST, room - self.max_response)
        else:  # prompt and response share the room
            self.max_prompt, self.max_response = min(max_prompt or room, room), min(max_response or room, room)

    def encode(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool] | None = None
    ) -> list[Encoded]:
        """Prompts and responses of the data as tokens, in the form that the model reads.

        Of what is longer together than the model can read the response keeps at least half of the room.
        """
        whole = ended or [True] * len(prompts)
        rows = self.form.encode(
            prompts, responses, whole, max_prompt=self.max_prompt, max_response=self.max_response
        )  # fmt: skip
        for i, row in enumerate(rows):
            if row.length > self.room:
                response = min(len(row.response), max(self.room // 2, self.room - len(row.prompt)))
                (rows[i],) = self.form.encode(
                    [prompts[i]], [responses[i]], [whole[i]], max_prompt=self.room - response, max_response=response
                )  # fmt: skip
        return rows

    def score(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        ended: Sequence[bool] | None = None,
        *,
        batch_size: int = 64,
        processes: Processes = ALONE,
    ) -> Tensor:
        """Raw reward of each response, (N,) float32 on the CPU; see `rewards`."""
        return self.rewards(prompts, responses, ended, batch_size=batch_size, processes=processes).values

    def rewards(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        ended: Sequence[bool] | None = None,
        *,
        batch_size: int = 64,
        processes: Processes = ALONE,
    ) -> Rewards:
        """Raw reward of each response. `ended[i]` False: response i was cut by the limit of its sampling.

        Raises:
            NotFinite: a reward is NaN or infinite; the message names the first such response.
        """
        scores, pad = torch.empty(len(responses)), self.tokenizer.pad_token_id
        cut: list[bool] = []
        with workers_for(self.model.model, processes) as pool:
            for start in range(0, len(responses), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                rows = self.encode(prompts[part], responses[part], None if ended is None else ended[part])
                cut += [row.prompt_cut or row.response_cut for row in rows]

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
        return Rewards(scores, torch.tensor(cut, dtype=torch.bool))


CHECKED = ("Blue?", "How do I boil an egg?"), (" Blue.", " Put it in boiling water for eight minutes.")
TOLERANCE = 1e-3  # relative to the largest reward where that is above 1


@torch.no_grad()
def check_rewards(reward: RewardModel) -> None:
    """Compare the rewards of two short texts with those of transformers' own forward, the texts tokenised by plain
    calls of the tokenizer.

    Raises ModelError where they differ by more than rounding.
    """
    prompts = [f"\n\nHuman: {question}\n\nAssistant:" for question in CHECKED[0]]
    rows = reward.encode(prompts, CHECKED[1])
    model, pad = reward.model.model, reward.tokenizer.pad_token_id
    plain = reward.form.plain_ids(prompts, CHECKED[1])
    for row, ids in zip(rows, plain or [row.prompt + row.response for row in rows], strict=True):
        if row.prompt + row.response != ids and not (row.prompt_cut or row.response_cut):
            raise ModelError(
                f"{reward.name}: in the form {reward.form.name} a text has other tokens here than its tokenizer gives; "
                "choose another with --prompt-template NAME=..."
            )
    batches = [collate([row], pad_id=pad, multiple_of=1).to(model.device) for row in rows]
    scores = torch.cat([reward.model(batch) for batch in batches])
    padded = reward.model(collate(rows, pad_id=pad).to(model.device))
    own = torch.cat([_plain_scores(model, batch) for batch in batches])
    worst = max(float((found - own).abs().max()) for found in (scores, padded))
    if not worst <= TOLERANCE * max(1.0, float(own.abs().max())) and bool(own.isfinite().all()):
        raise ModelError(
            f"{reward.name}: rewards computed here differ from those of transformers' own forward by {worst:.2g}; "
            "expected equal ones: this class of reward model is not supported"
        )


def _plain_scores(model: PreTrainedModel, batch: Batch) -> Tensor:
    options = {"token_type_ids": batch.response_mask.long()} if getattr(model.config, "type_vocab_size", 0) > 1 else {}
    if not takes(model, "token_type_ids") or getattr(model, "score", None) is not None:
        options = {}
    out: Any = model(input_ids=batch.ids, attention_mask=batch.attention_mask.long(), **options)
    return at_least_float32(out.logits[:, 0])
