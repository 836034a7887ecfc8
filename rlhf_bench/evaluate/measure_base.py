"""What every measure of a seed is given: the prompts, how to sample, and the models, each loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.evaluate.sources import Reader, Scorer, Source
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.perplexity_model import LanguageModel
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.sampling import SamplingConfig
from rlhf_bench.runtime.processes import ALONE, Processes
from rlhf_bench.types import Item

__all__ = ["Loaded", "Measure"]

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass(frozen=True)
class Measure:
    """What is asked of every model alike under one seed. Each model is loaded once, when needed.

    Of several processes each computes its share of the batches that one process would compute, and has all rows.
    """

    items: Sequence[Item]
    source: str
    sampling: SamplingConfig
    samples: int
    seed: int
    reference: Source | None  # None: KL has no meaning
    scorers: Sequence[Scorer]
    readers: Sequence[Reader]
    max_response: int | None  # longest response that is scored, in tokens; None: what the reward model can read
    device: torch.device
    metrics: Sequence[str] = ()  # the suite's own, of its own prompts
    processes: Processes = ALONE
    loaded: dict[Path, Loaded] = field(default_factory=dict, repr=False)  # the model that was measured last

    @cached_property
    def reference_model(self) -> Loaded:
        assert self.reference is not None
        return load_policy(self.reference.path, device=self.device)

    @cached_property
    def reward_models(self) -> list[tuple[str, RewardModel]]:
        return [
            (
                scorer.column,
                RewardModel.load(
                    scorer.path, device=self.device,
                    max_prompt=self.sampling.max_prompt_tokens, max_response=self.max_response,
                ),
            )
            for scorer in self.scorers
        ]  # fmt: skip

    @cached_property
    def language_models(self) -> list[tuple[str, LanguageModel]]:
        return [(reader.name, self._language_model(reader)) for reader in self.readers]

    def _language_model(self, reader: Reader) -> LanguageModel:
        if self.reference is not None and reader.path == self.reference.path:
            return LanguageModel(*self.reference_model, template=reader.template, name=str(reader.path))
        return LanguageModel.load(reader.path, device=self.device, template=reader.template)

    def model(self, source: Source) -> Loaded:
        """The model and its tokenizer: loaded once for all of its shards, and let go when the next one is."""
        if self.reference is not None and source.path == self.reference.path:
            return self.reference_model
        if source.path not in self.loaded:
            self.loaded.clear()
            self.loaded[source.path] = load_policy(source.path, device=self.device)
        return self.loaded[source.path]

    def of(self, items: Sequence[Item]) -> Measure:
        """The same of other prompts, with the models that are loaded."""
        other = replace(self, items=items)
        loaded = {"reward_models": self.reward_models, "language_models": self.language_models}
        vars(other).update(loaded if self.reference is None else loaded | {"reference_model": self.reference_model})
        return other
