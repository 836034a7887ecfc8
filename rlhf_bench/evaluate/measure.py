"""Every per-response number of one model: sample, score, compare with the reference."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.errors import ModelError, NotFinite
from rlhf_bench.evaluate.measure_kl import AGAINST_REFERENCE, chosen_columns, comparable_reference, drawn_columns
from rlhf_bench.evaluate.measure_text import Answered, Texts, answered, pool_rows, text_rows
from rlhf_bench.metrics.registry import reader_columns
from rlhf_bench.models import load_policy
from rlhf_bench.processes import ALONE, Processes
from rlhf_bench.sampling import SamplingConfig, sample_as
from rlhf_bench.scoring import LanguageModel, RewardModel
from rlhf_bench.templates import Template
from rlhf_bench.types import Completion, FinishReason, Item, Prompt

__all__ = ["Measure", "Reader", "Scorer", "Source", "measure_anchors", "measure_model", "measure_pool", "measure_texts"]

POOL_COLUMNS = ("model", "seed", "prompt_id", "sample", "reward", "gold")

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass(frozen=True)
class Source:
    """A model under a seed."""

    name: str
    seed: int
    path: Path
    hash: str
    training: dict[str, Any] | None
    template: str = "hh"  # the form that its prompts are given in


class Scorer(NamedTuple):
    """A reward model and the column of the scores that it fills."""

    column: str
    path: Path
    hash: str


class Reader(NamedTuple):
    """A causal language model that every response is read by: its name in `perplexity:NAME`."""

    name: str
    path: Path
    hash: str
    template: str  # the form that its prompts are given in


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


class Drawn(NamedTuple):
    """Of a sampled response what is counted: many are held together."""

    sample: int
    text: str
    finish_reason: FinishReason
    n_tokens: int
    tokens: array[int]  # every one that was drawn, the stop string's too; none where they are not asked for


def _with_tokens(completion: Completion) -> Drawn:
    return _without_tokens(completion)._replace(tokens=array("i", completion.drawn))


def _without_tokens(completion: Completion) -> Drawn:
    return Drawn(completion.sample, completion.text, completion.finish_reason, len(completion.ids), array("i"))


def measure_model(measure: Measure, source: Source, *, on_batch: Callable[[int], None]) -> pd.DataFrame:
    """A row a (prompt, sample): the response and every number of it. `attrs["reasons"]` says what is missing and why.

    Raises:
        ModelError: the model answers nothing at all.
        NotFinite: its probabilities are NaN.
    """
    reference = measure.reference
    is_reference = reference is not None and (source.path, source.template) == (reference.path, reference.template)
    _, tokenizer = measure.model(source)
    template = Template.of(source.template, tokenizer, name=source.name)
    prompts = [Prompt(item.id, template.prompt(item.prompt)) for item in measure.items]
    groups = _groups(measure, source, prompts, template, measure.samples, _with_tokens, on_batch)
    if not any(drawn.text.strip() for group in groups for drawn in group):
        raise ModelError(
            f"{source.name} ({source.path}): all {sum(map(len, groups))} responses are empty; expected text: check "
            "that its tokenizer belongs to it and that it was trained on prompts of this form (--prompt-template)"
        )
    rows = _answers(measure, template, groups)
    texts = text_rows(source.name, source.seed, rows, source=measure.source, metrics=measure.metrics)
    table = add_scores(measure, texts)
    held_against, why = comparable_reference(measure, source)
    drawn = drawn_columns(measure, source, prompts, [[d.tokens for d in group] for group in groups], held_against)
    table = table.assign(**drawn, **chosen_columns(measure, source, template, held_against))
    if is_reference and not (table["kl_exact"] == 0).all():
        raise ModelError(f"{source.name}: KL of the reference to itself is not 0; expected 0: report this as a bug")
    table.attrs["reasons"] = dict.fromkeys(AGAINST_REFERENCE, why) if why else {}
    return table


def measure_pool(measure: Measure, n: int, *, on_batch: Callable[[int], None]) -> pd.DataFrame:
    """`n` responses of the reference to each prompt: model, seed, prompt_id, sample, reward, and gold where known.

    Sample k is that of `measure_model`, which draws from the same stream, so a pool goes on where the table stops.
    """
    source = measure.reference
    assert source is not None
    _, tokenizer = measure.reference_model
    template = Template.of(source.template, tokenizer, name=source.name)
    prompts = [Prompt(item.id, template.prompt(item.prompt)) for item in measure.items]
    groups = _groups(measure, source, prompts, template, n, _without_tokens, on_batch)
    rows = pool_rows(source.name, source.seed, _answers(measure, template, groups), source=measure.source)
    table = add_rewards(measure, rows, measure.reward_models[:1])  # the one that chooses
    return table[[column for column in POOL_COLUMNS if column in table.columns]]


def _groups(
    measure: Measure,
    source: Source,
    prompts: Sequence[Prompt],
    template: Template,
    samples: int,
    make: Callable[[Completion], Drawn],
    on_batch: Callable[[int], None],
) -> list[list[Drawn]]:
    """`samples` responses to each prompt. Raises NotFinite, with the model's name."""
    sampling = measure.sampling.model_copy(update={"stop": (*measure.sampling.stop, *template.stop)})
    try:
        return sample_as(
            make, *measure.model(source), prompts, sampling,
            samples=samples, seed=measure.seed, batch_size=128, on_batch=on_batch, processes=measure.processes,
        )  # fmt: skip
    except NotFinite as error:
        raise NotFinite(f"{source.name} ({source.path}): {error}") from error


def _answers(measure: Measure, template: Template, groups: Sequence[Sequence[Drawn]]) -> list[Answered]:
    return [
        Answered(item, d.sample, template.read(d.text), d.finish_reason, float(d.n_tokens))
        for item, group in zip(measure.items, groups, strict=True)
        for d in group
    ]


def measure_texts(measure: Measure, texts: Texts) -> pd.DataFrame:
    """The responses of a file, by everything that needs no model of theirs."""
    rows = answered(texts, measure.items)
    table = text_rows(texts.name, texts.seed, rows, source=measure.source, metrics=measure.metrics)
    if table["n_tokens"].isna().any():
        table["n_tokens"] = table["n_tokens"].fillna(_token_counts(measure, table["response"]))
    return add_scores(measure, table)


def measure_anchors(measure: Measure, name: str, seed: int, rows: Sequence[Answered]) -> pd.DataFrame:
    """The data's own responses of one name, by every measure that needs no sampling."""
    table = text_rows(name, seed, rows, source=measure.source)
    return add_scores(measure, table.assign(n_tokens=_token_counts(measure, table["response"])))


def add_scores(measure: Measure, table: pd.DataFrame) -> pd.DataFrame:
    """The table with what reward models and language models think of each response.

    A response of unknown end is scored as one that ended.
    """
    table = add_rewards(measure, table)
    if not measure.language_models:
        return table
    prompts, texts = list(table["prompt"]), list(table["response"])
    ended = [reason != "length" for reason in table["finish_reason"]]
    sizes = np.array([float(len(text.encode())) for text in texts])
    columns: dict[str, np.ndarray] = {}
    for name, model in measure.language_models:
        logprob, tokens = (part.numpy() for part in model.score(prompts, texts, ended, processes=measure.processes))
        values = (logprob, tokens, np.where(np.isnan(tokens), np.nan, sizes))
        columns |= dict(zip(reader_columns(name), values, strict=True))
    return table.assign(**columns)


def add_rewards(
    measure: Measure, table: pd.DataFrame, models: Sequence[tuple[str, RewardModel]] | None = None
) -> pd.DataFrame:
    """The table with a column for each reward model, or for `models` of them alone.

    A response of unknown end is scored as one that ended.
    """
    models = measure.reward_models if models is None else models
    prompts, texts = list(table["prompt"]), list(table["response"])
    ended = [reason != "length" for reason in table["finish_reason"]]
    columns = {
        column: reward.score(prompts, texts, ended, processes=measure.processes).double().numpy()
        for column, reward in models
    }
    return table.assign(**columns)


def _token_counts(measure: Measure, texts: pd.Series[str]) -> pd.Series[float]:
    """Tokens of responses as the reference's tokenizer counts them, end-of-text included; NaN without a reference."""
    if measure.reference is None or texts.empty:
        return pd.Series(np.nan, index=texts.index)
    _, tokenizer = measure.reference_model
    rows: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return pd.Series([float(len(row) + 1) for row in rows], index=texts.index)
