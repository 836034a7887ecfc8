"""The log-probability of responses, given as text, under a causal language model, for perplexity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.errors import NotFinite
from rlhf_bench.modeling.heads import max_positions
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.templates import Template
from rlhf_bench.modeling.tokens import Encoded, collate, length_batches
from rlhf_bench.runtime.pool import workers_for
from rlhf_bench.runtime.processes import ALONE, Processes

AT_ONCE = 16_384  # responses with tokens in memory together, sorted by length
BATCH = 64
ATTENTION = BATCH * 512**2  # rows x length^2 of a batch: what its attention weights take grows with it
WINDOW = 4096  # tokens of prompt and response that a model is given, however many it could read


class Likelihoods(NamedTuple):
    """NaN in both for a response that is longer than the model can read."""

    logprob: Tensor  # (N,) nats, float64: summed over the tokens
    tokens: Tensor  # (N,) float64, end-of-text included


def sequence_logprobs(
    model: PreTrainedModel, rows: Sequence[Encoded], *, pad_id: int, processes: Processes = ALONE
) -> Tensor:
    """Log-probability of each row's response under `model`, end-of-text included where the row has it; (N,) float64.

    Nats, summed over the tokens, at temperature 1. The result is on the CPU.
    """
    policy = LogprobModel(model)

    def work(group: Sequence[int]) -> Tensor:
        batch = collate([rows[i] for i in group], pad_id=pad_id).to(model.device)
        with torch.no_grad():
            sums: Tensor = policy(batch).logps.double().sum(1).cpu()
        return sums

    with workers_for(model, processes) as pool:
        return pool.fill(torch.empty(len(rows), dtype=torch.float64), work, _batches([row.length for row in rows]))


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Batches of similar length, the longest first; smaller ones where they are long."""
    for group in length_batches(lengths, BATCH):
        size = max(1, ATTENTION // lengths[group[0]] ** 2)
        yield from (group[i : i + size] for i in range(0, len(group), size))


class LanguageModel:
    """A causal language model that reads responses of others, with its own tokenizer, template and limit."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str = "hh",
        name: str = "the language model",
    ) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.template = Template.of(template, tokenizer, name=name)
        self.limit = min(max_positions(model), WINDOW)

    @classmethod
    def load(cls, path: str | Path, *, device: torch.device | None = None, template: str = "hh") -> LanguageModel:
        """Raises CheckpointError and ModelError, as `load_policy` does."""
        return cls(*load_policy(path, device=device), template=template, name=str(path))

    def encode(self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> list[Encoded]:
        """Prompts and responses of the data as tokens; a prompt is cut to what its response leaves.

        Of a response that leaves no room `response_cut` is True.
        """
        rows = self.template.encode(prompts, responses, ended=ended, max_prompt=self.limit, max_response=self.limit - 1)
        return [
            row if row.length <= self.limit else row._replace(prompt=self._cut(prompt, self.limit - len(row.response)))
            for prompt, row in zip(prompts, rows, strict=True)
        ]

    def _cut(self, prompt: str, room: int) -> list[int]:
        return self.template.encode_prompts([prompt], max_prompt=room)[0][0]

    def score(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        ended: Sequence[bool],
        *,
        processes: Processes = ALONE,
    ) -> Likelihoods:
        """Each response given its prompt, (N,). `ended[i]` False: response i was cut, so no end-of-text is scored.

        Raises:
            NotFinite: a log-probability is NaN or infinite; the message names the first such response.
        """
        found = torch.full((2, len(responses)), torch.nan, dtype=torch.float64)
        for start in range(0, len(responses), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            rows = self.encode(prompts[part], responses[part], ended[part])
            whole = [i for i, row in enumerate(rows) if not row.response_cut]
            read = [rows[i] for i in whole]
            at = [start + i for i in whole]
            pad = self.tokenizer.pad_token_id
            found[0, at] = sequence_logprobs(self.model, read, pad_id=pad, processes=processes)
            found[1, at] = torch.tensor([float(len(row.response)) for row in read], dtype=torch.float64)
        bad = (~found[0].isfinite() & found[1].isfinite()).nonzero()
        if len(bad):
            i = int(bad[0])
            raise NotFinite(
                f"{self.name} gave response {i} of {len(responses)} the log-probability {found[0, i].item()}; expected "
                "a finite number: use another language model"
            )
        return Likelihoods(*found)
