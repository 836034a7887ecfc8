"""What models think of tokens: of those that they drew, against the reference, and of the data's chosen responses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.evaluate.measure_base import Measure
from rlhf_bench.evaluate.sources import Source
from rlhf_bench.metrics.registry import KL_COLUMNS
from rlhf_bench.modeling.logprobs import kl_k1, kl_k3, token_kl
from rlhf_bench.modeling.perplexity_model import sequence_logprobs
from rlhf_bench.modeling.templates import Template
from rlhf_bench.modeling.tokens import Encoded, collate, encode, encode_prompts, length_batches
from rlhf_bench.runtime.pool import workers_for
from rlhf_bench.types import Prompt

__all__ = ["AGAINST_REFERENCE", "chosen_columns", "comparable_reference", "drawn_columns"]

AGAINST_REFERENCE = (*KL_COLUMNS, "kl_forward", "perplexity_reference")  # the metrics that need one
BATCH = 64


def comparable_reference(measure: Measure, source: Source) -> tuple[PreTrainedModel | None, str]:
    """The reference, where it can be held against `source` token by token; or None, and why not."""
    if measure.reference is None:
        return None, "the reference is a response file"
    if measure.reference.template != source.template:
        return None, "another prompt template than the reference's"
    reference, tokenizer = measure.reference_model
    if tokenizer.get_vocab() != measure.model(source)[1].get_vocab():
        return None, "another tokenizer than the reference's"
    return reference, ""


def drawn_columns(
    measure: Measure,
    source: Source,
    prompts: Sequence[Prompt],
    drawn: Sequence[Sequence[Sequence[int]]],
    reference: PreTrainedModel | None,
) -> dict[str, Any]:
    """KL of each response to the reference, and its log-probability under it, by the same forward on the same batch.

    `drawn`: every token of each response of each prompt. Without a reference the columns are NaN.

    The tokens of a stop string count: where they were left out, each model's chance to draw them would be in the exact
    terms but never among those that were drawn, and k1 would be biased.
    """
    model, tokenizer = measure.model(source)
    heads = encode_prompts(tokenizer, [p.text for p in prompts], max_prompt=measure.sampling.max_prompt_tokens)
    prefixes = [head or [tokenizer.eos_token_id] for (head, _), group in zip(heads, drawn, strict=True) for _ in group]
    tokens = list(chain.from_iterable(drawn))
    lengths = np.array([len(response) for response in tokens])
    columns: dict[str, Any] = {"n_prompt_tokens": [float(len(prefix)) for prefix in prefixes]}
    columns["n_drawn"] = lengths.astype(float)
    if reference is None:
        return columns | dict.fromkeys((*KL_COLUMNS, "reference_logprob"), np.nan)
    # Allocated once: thousands of small results that outlive their batch would keep the allocator from using the room
    # of the batch's large ones again, and the process would grow by it with every shard.
    ends = np.cumsum(lengths)
    per_token, numbers = np.zeros(ends[-1]), np.zeros((len(tokens), 4))

    def work(group: list[int]) -> None:
        """The sums of each response into `numbers`, the exact terms of its tokens into `per_token`."""
        rows = [Encoded(prefixes[i], list(tokens[i])) for i in group]
        batch = collate(rows, pad_id=tokenizer.pad_token_id).to(measure.device)
        terms = token_kl(model, reference, batch)
        log_ratio = (terms.policy_logps - terms.reference_logps).double()
        terms_of = (kl_k1(log_ratio), kl_k3(log_ratio), terms.exact.double(), terms.reference_logps.double())
        numbers[group] = torch.stack([term.sum(1) for term in terms_of], dim=1).cpu().numpy()
        for i, exact, mask in zip(group, terms.exact.cpu(), batch.response_mask.cpu(), strict=True):
            per_token[ends[i] - len(tokens[i]) : ends[i]] = exact[mask].double().numpy()

    sizes = [len(prefix) + len(response) for prefix, response in zip(prefixes, tokens, strict=True)]
    with workers_for(model, measure.processes) as pool:
        pool.map(work, length_batches(sizes, BATCH))
    measure.processes.add_up([torch.from_numpy(numbers), torch.from_numpy(per_token)])  # 0 where another computed it
    for i, name in enumerate(("kl_k1", "kl_k3", "kl_exact")):
        columns[name] = numbers[:, i]
        columns[f"{name}_token"] = numbers[:, i] / lengths.clip(min=1)
    return columns | {"reference_logprob": numbers[:, 3], "token_kl": np.split(per_token, ends[:-1])}


def chosen_columns(
    measure: Measure, source: Source, template: Template, reference: PreTrainedModel | None
) -> dict[str, np.ndarray]:
    """Of the data's chosen responses, on the rows of sample 0: log-probability, tokens and bytes, for perplexity, and
    KL(reference || model) along them, NaN without a reference."""
    model, tokenizer = measure.model(source)
    there = [i for i, item in enumerate(measure.items) if item.chosen is not None]
    items = [measure.items[i] for i in there]
    chosen = [item.chosen or "" for item in items]
    rows = encode(
        tokenizer,
        [template.prompt(item.prompt) for item in items],
        [template.response(text) for text in chosen],
        max_prompt=measure.sampling.max_prompt_tokens,
        max_response=measure.sampling.max_new_tokens,
    )
    logprobs = sequence_logprobs(model, rows, pad_id=tokenizer.pad_token_id, processes=measure.processes)
    columns = {
        "chosen_logprob": logprobs.numpy(),
        "kl_forward": _forward_kl(measure, model, rows, tokenizer.pad_token_id, reference),
        "chosen_tokens": np.array([float(len(row.response)) for row in rows]),
        "chosen_bytes": np.array([float(_bytes(row, text, tokenizer)) for row, text in zip(rows, chosen, strict=True)]),
    }
    spread = {}
    for name, values in columns.items():
        wide = np.full((len(measure.items), measure.samples), np.nan)
        wide[there, 0] = values
        spread[name] = wide.reshape(-1)
    return spread


def _bytes(row: Encoded, chosen: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """UTF-8 bytes of the chosen response, or of what was left of it where it was cut: of what was scored."""
    text = tokenizer.decode(row.response) if row.response_cut else chosen
    return len(text.encode())


def _forward_kl(
    measure: Measure,
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    pad_id: int,
    reference: PreTrainedModel | None,
) -> np.ndarray:
    """KL(reference || model) along each row, summed, (N,) nats; NaN without a reference."""
    total = np.full(len(rows), np.nan)
    if reference is None:
        return total

    def work(group: list[int]) -> np.ndarray:
        batch = collate([rows[i] for i in group], pad_id=pad_id).to(measure.device)
        sums: np.ndarray = token_kl(reference, model, batch).exact.double().sum(1).cpu().numpy()
        return sums

    groups = list(length_batches([row.length for row in rows], BATCH))
    for group, sums in zip(groups, measure.processes.map(work, groups), strict=True):
        total[group] = sums
    return total
