"""Every per-response number of one model: sample, score, compare with the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.errors import ModelError, NotFinite
from rlhf_bench.evaluate.measure_text import Answered, Texts, anchor_rows, answered, pool_rows, text_rows
from rlhf_bench.logprobs import LogprobModel, token_kl
from rlhf_bench.models import load_policy
from rlhf_bench.parallel import workers_for
from rlhf_bench.processes import ALONE, Processes
from rlhf_bench.sampling import SamplingConfig, sample
from rlhf_bench.scoring import RewardModel
from rlhf_bench.templates import Template
from rlhf_bench.text import Encoded, collate, encode, encode_prompts, length_batches
from rlhf_bench.types import Completion, Item, Prompt

__all__ = ["Measure", "Scorer", "Source", "measure_anchors", "measure_model", "measure_pool", "measure_texts"]

KL_COLUMNS = ("kl_k1", "kl_k3", "kl_exact", "kl_k1_token", "kl_k3_token", "kl_exact_token")
POOL_COLUMNS = ("model", "seed", "prompt_id", "sample", "reward", "gold")
BATCH = 64


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


@dataclass(frozen=True)
class Measure:
    """What is asked of every model alike under one seed. Reference and reward models are loaded once, when needed.

    Of several processes each computes its share of the batches that one process would compute, and has all rows.
    """

    items: Sequence[Item]
    source: str
    sampling: SamplingConfig
    samples: int
    seed: int
    reference: Source | None  # None: KL has no meaning
    scorers: Sequence[Scorer]
    max_response: int | None  # longest response that is scored, in tokens; None: what the reward model can read
    device: torch.device
    metrics: Sequence[str] = ()  # the suite's own, of its own prompts
    processes: Processes = ALONE

    @cached_property
    def reference_model(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
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

    def of(self, items: Sequence[Item]) -> Measure:
        """The same of other prompts, with the models that are loaded."""
        other, loaded = replace(self, items=items), {"reward_models": self.reward_models}
        vars(other).update(loaded if self.reference is None else loaded | {"reference_model": self.reference_model})
        return other


def measure_model(measure: Measure, source: Source, *, on_batch: Callable[[int], None]) -> pd.DataFrame:
    """A row a (prompt, sample): the response and every number of it. `attrs["reasons"]` says what is missing and why.

    Raises:
        ModelError: the model answers nothing at all.
        NotFinite: its probabilities are NaN.
    """
    same = measure.reference is not None and source.path == measure.reference.path
    is_reference = same and measure.reference is not None and source.template == measure.reference.template
    model, tokenizer = measure.reference_model if same else load_policy(source.path, device=measure.device)
    template = Template.of(source.template, tokenizer, name=source.name)
    prompts = [Prompt(item.id, template.prompt(item.prompt)) for item in measure.items]
    groups = _groups(measure, source, model, tokenizer, prompts, template, measure.samples, on_batch)
    completions = [completion for group in groups for completion in group]
    if not any(completion.text.strip() for completion in completions):
        raise ModelError(
            f"{source.name} ({source.path}): all {len(completions)} responses are empty; expected text: check that "
            "its tokenizer belongs to it and that it was trained on prompts of this form (--prompt-template)"
        )
    rows = _answers(measure, template, groups)
    texts = text_rows(source.name, source.seed, rows, source=measure.source, metrics=measure.metrics)
    table = add_rewards(measure, texts)
    kl, why = _kl(measure, source, model, tokenizer, prompts, groups)
    table = table.assign(**kl, **_chosen(measure, model, tokenizer, template))
    if is_reference and not (table["kl_exact"] == 0).all():
        raise ModelError(f"{source.name}: KL of the reference to itself is not 0; expected 0: report this as a bug")
    table.attrs["reasons"] = dict.fromkeys(KL_COLUMNS, why) if why else {}
    return table


def measure_pool(measure: Measure, n: int, *, on_batch: Callable[[int], None]) -> pd.DataFrame:
    """`n` responses of the reference to each prompt: model, seed, prompt_id, sample, reward, and gold where known.

    Sample k is that of `measure_model`, which draws from the same stream, so a pool goes on where the table stops.
    """
    source = measure.reference
    assert source is not None
    model, tokenizer = measure.reference_model
    template = Template.of(source.template, tokenizer, name=source.name)
    prompts = [Prompt(item.id, template.prompt(item.prompt)) for item in measure.items]
    groups = _groups(measure, source, model, tokenizer, prompts, template, n, on_batch)
    rows = pool_rows(source.name, source.seed, _answers(measure, template, groups), source=measure.source)
    table = add_rewards(measure, rows, measure.reward_models[:1])  # the one that chooses
    return table[[column for column in POOL_COLUMNS if column in table.columns]]


def _groups(
    measure: Measure,
    source: Source,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    template: Template,
    samples: int,
    on_batch: Callable[[int], None],
) -> list[list[Completion]]:
    """`samples` responses to each prompt. Raises NotFinite, with the model's name."""
    sampling = measure.sampling.model_copy(update={"stop": (*measure.sampling.stop, *template.stop)})
    try:
        return sample(
            model, tokenizer, prompts, sampling,
            samples=samples, seed=measure.seed, batch_size=128, on_batch=on_batch, processes=measure.processes,
        )  # fmt: skip
    except NotFinite as error:
        raise NotFinite(f"{source.name} ({source.path}): {error}") from error


def _answers(measure: Measure, template: Template, groups: Sequence[Sequence[Completion]]) -> list[Answered]:
    return [
        Answered(item, c.sample, template.read(c.text), c.finish_reason, float(len(c.ids)))
        for item, group in zip(measure.items, groups, strict=True)
        for c in group
    ]


def measure_texts(measure: Measure, texts: Texts) -> pd.DataFrame:
    """The responses of a file, by everything that needs no model of theirs."""
    rows = answered(texts, measure.items)
    table = text_rows(texts.name, texts.seed, rows, source=measure.source, metrics=measure.metrics)
    if table["n_tokens"].isna().any():
        table["n_tokens"] = table["n_tokens"].fillna(_token_counts(measure, table["response"]))
    return add_rewards(measure, table)


def measure_anchors(measure: Measure, seed: int) -> pd.DataFrame:
    """The data's own chosen and rejected responses, by every measure that needs no sampling; none: no row."""
    frames = []
    for name, rows in anchor_rows(measure.items).items():
        table = text_rows(name, seed, rows, source=measure.source)
        frames.append(add_rewards(measure, table.assign(n_tokens=_token_counts(measure, table["response"]))))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


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


def _kl(
    measure: Measure,
    source: Source,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    groups: Sequence[Sequence[Completion]],
) -> tuple[dict[str, Any], str | None]:
    """KL of each response to the reference, both models scored by the same forward on the same batch; or why not.

    The tokens of a stop string count: where they were left out, each model's chance to draw them would be in the exact
    terms but never among those that were drawn, and k1 would be biased.
    """
    heads = encode_prompts(tokenizer, [p.text for p in prompts], max_prompt=measure.sampling.max_prompt_tokens)
    rows = [  # a prompt's ids are held once for all of its samples
        Encoded(head or [tokenizer.eos_token_id], c.drawn)
        for (head, _), group in zip(heads, groups, strict=True)
        for c in group
    ]
    columns: dict[str, Any] = {"n_prompt_tokens": [float(len(row.prompt)) for row in rows]}
    if measure.reference is None:
        return columns | dict.fromkeys(KL_COLUMNS, np.nan), "the reference is a response file"
    if measure.reference.template != source.template:
        return columns | dict.fromkeys(KL_COLUMNS, np.nan), "another prompt template than the reference's"
    reference, reference_tokenizer = measure.reference_model
    if reference_tokenizer.get_vocab() != tokenizer.get_vocab():
        return columns | dict.fromkeys(KL_COLUMNS, np.nan), "another tokenizer than the reference's"
    # Allocated once: thousands of small results that outlive their batch would keep the allocator from using the room
    # of the batch's large ones again, and the process would grow by it with every shard.
    ends = np.cumsum([len(row.response) for row in rows])
    per_token, numbers = np.zeros(ends[-1]), np.zeros((len(rows), 3))

    def work(group: list[int]) -> None:
        """k1, k3 and exact of each response into `numbers`, the exact terms of its tokens into `per_token`."""
        batch = collate([rows[i] for i in group], pad_id=tokenizer.pad_token_id).to(measure.device)
        terms = token_kl(model, reference, batch)
        difference = (terms.policy_logps - terms.reference_logps).double()
        k3 = torch.expm1(-difference) + difference
        numbers[group] = torch.stack([difference.sum(1), k3.sum(1), terms.exact.double().sum(1)], dim=1).cpu().numpy()
        for i, exact, mask in zip(group, terms.exact.cpu(), batch.response_mask.cpu(), strict=True):
            per_token[ends[i] - len(rows[i].response) : ends[i]] = exact[mask].double().numpy()

    with workers_for(model, measure.processes) as pool:
        pool.map(work, length_batches([row.length for row in rows], BATCH))
    measure.processes.add_up([torch.from_numpy(numbers), torch.from_numpy(per_token)])  # 0 where another computed it
    lengths = np.array([max(1, len(row.response)) for row in rows])
    for i, name in enumerate(("kl_k1", "kl_k3", "kl_exact")):
        columns[name] = numbers[:, i]
        columns[f"{name}_token"] = numbers[:, i] / lengths
    return columns | {"token_kl": np.split(per_token, ends[:-1])}, None


def _chosen(
    measure: Measure, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, template: Template
) -> dict[str, np.ndarray]:
    """Log-probability, tokens and bytes of the data's chosen responses, on the rows of sample 0, for perplexity."""
    there = [i for i, item in enumerate(measure.items) if item.chosen is not None]
    items = [measure.items[i] for i in there]
    rows = encode(
        tokenizer,
        [template.prompt(item.prompt) for item in items],
        [template.response(item.chosen or "") for item in items],
        max_prompt=measure.sampling.max_prompt_tokens,
        max_response=measure.sampling.max_new_tokens,
    )
    policy, total = LogprobModel(model), np.zeros(len(rows))

    def work(group: list[int]) -> np.ndarray:
        batch = collate([rows[i] for i in group], pad_id=tokenizer.pad_token_id).to(measure.device)
        with torch.no_grad():
            sums: np.ndarray = policy(batch).logps.double().sum(1).cpu().numpy()
        return sums

    groups = list(length_batches([row.length for row in rows], BATCH))
    for group, sums in zip(groups, measure.processes.map(work, groups), strict=True):
        total[group] = sums
    columns = {
        "chosen_logprob": total,
        "chosen_tokens": np.array([float(len(row.response)) for row in rows]),
        "chosen_bytes": np.array([float(len((item.chosen or "").encode())) for item in items]),
    }
    spread = {}
    for name, values in columns.items():
        wide = np.full((len(measure.items), measure.samples), np.nan)
        wide[there, 0] = values
        spread[name] = wide.reshape(-1)
    return spread


def _token_counts(measure: Measure, texts: pd.Series[str]) -> pd.Series[float]:
    """Tokens of responses as the reference's tokenizer counts them, end-of-text included; NaN without a reference."""
    if measure.reference is None or texts.empty:
        return pd.Series(np.nan, index=texts.index)
    _, tokenizer = measure.reference_model
    rows: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return pd.Series([float(len(row) + 1) for row in rows], index=texts.index)
