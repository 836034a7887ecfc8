"""What models think of tokens: KL of sampled responses to the reference, log-probability of the data's chosen ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rlhf_bench.logprobs import LogprobModel, token_kl
from rlhf_bench.parallel import workers_for
from rlhf_bench.templates import Template
from rlhf_bench.text import Encoded, collate, encode, encode_prompts, length_batches
from rlhf_bench.types import Prompt

if TYPE_CHECKING:
    from rlhf_bench.evaluate.measure import Measure, Source

__all__ = ["KL_COLUMNS", "chosen_columns", "kl_columns"]

KL_COLUMNS = ("kl_k1", "kl_k3", "kl_exact", "kl_k1_token", "kl_k3_token", "kl_exact_token")
BATCH = 64


def kl_columns(
    measure: Measure,
    source: Source,
    prompts: Sequence[Prompt],
    drawn: Sequence[Sequence[Sequence[int]]],
) -> tuple[dict[str, Any], str | None]:
    """KL of each response to the reference, both models scored by the same forward on the same batch; or why not.

    `drawn`: every token of each response of each prompt.

    The tokens of a stop string count: where they were left out, each model's chance to draw them would be in the exact
    terms but never among those that were drawn, and k1 would be biased.
    """
    model, tokenizer = measure.model(source)
    heads = encode_prompts(tokenizer, [p.text for p in prompts], max_prompt=measure.sampling.max_prompt_tokens)
    prefixes = [head or [tokenizer.eos_token_id] for (head, _), group in zip(heads, drawn, strict=True) for _ in group]
    tokens = list(chain.from_iterable(drawn))
    columns: dict[str, Any] = {"n_prompt_tokens": [float(len(prefix)) for prefix in prefixes]}
    if measure.reference is None:
        return columns | dict.fromkeys(KL_COLUMNS, np.nan), "the reference is a response file"
    if measure.reference.template != source.template:
        return columns | dict.fromkeys(KL_COLUMNS, np.nan), "another prompt template than the reference's"
    reference, reference_tokenizer = measure.reference_model
    if reference_tokenizer.get_vocab() != tokenizer.get_vocab():
        return columns | dict.fromkeys(KL_COLUMNS, np.nan), "another tokenizer than the reference's"
    # Allocated once: thousands of small results that outlive their batch would keep the allocator from using the room
    # of the batch's large ones again, and the process would grow by it with every shard.
    ends = np.cumsum([len(response) for response in tokens])
    per_token, numbers = np.zeros(ends[-1]), np.zeros((len(tokens), 3))

    def work(group: list[int]) -> None:
        """k1, k3 and exact of each response into `numbers`, the exact terms of its tokens into `per_token`."""
        rows = [Encoded(prefixes[i], list(tokens[i])) for i in group]
        batch = collate(rows, pad_id=tokenizer.pad_token_id).to(measure.device)
        terms = token_kl(model, reference, batch)
        difference = (terms.policy_logps - terms.reference_logps).double()
        k3 = torch.expm1(-difference) + difference
        numbers[group] = torch.stack([difference.sum(1), k3.sum(1), terms.exact.double().sum(1)], dim=1).cpu().numpy()
        for i, exact, mask in zip(group, terms.exact.cpu(), batch.response_mask.cpu(), strict=True):
            per_token[ends[i] - len(tokens[i]) : ends[i]] = exact[mask].double().numpy()

    sizes = [len(prefix) + len(response) for prefix, response in zip(prefixes, tokens, strict=True)]
    with workers_for(model, measure.processes) as pool:
        pool.map(work, length_batches(sizes, BATCH))
    measure.processes.add_up([torch.from_numpy(numbers), torch.from_numpy(per_token)])  # 0 where another computed it
    lengths = np.array([max(1, len(response)) for response in tokens])
    for i, name in enumerate(("kl_k1", "kl_k3", "kl_exact")):
        columns[name] = numbers[:, i]
        columns[f"{name}_token"] = numbers[:, i] / lengths
    return columns | {"token_kl": np.split(per_token, ends[:-1])}, None


def chosen_columns(measure: Measure, source: Source, template: Template) -> dict[str, np.ndarray]:
    """Log-probability, tokens and bytes of the data's chosen responses, on the rows of sample 0, for perplexity."""
    model, tokenizer = measure.model(source)
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
