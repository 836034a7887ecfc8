"""Every per-response number of one model: sample, score, compare with the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.errors import ModelError, NotFinite
from rlhf_bench.logprobs import LogprobModel, token_kl
from rlhf_bench.metrics.rouge import rouge_all
from rlhf_bench.metrics.text import copied_share, distinct_n, n_words, repetition
from rlhf_bench.models import load_policy, load_tokenizer
from rlhf_bench.sampling import SamplingConfig, sample
from rlhf_bench.scoring import RewardModel, gold_reward_for
from rlhf_bench.text import Encoded, collate, encode, encode_prompts, length_batches
from rlhf_bench.types import Completion, PreferencePair, Prompt, prompt_id

__all__ = ["Measure", "Source", "measure_anchors", "measure_model"]

KL_COLUMNS = ("kl_k1", "kl_k3", "kl_exact", "kl_k1_token", "kl_k3_token", "kl_exact_token")
BATCH = 64


@dataclass(frozen=True)
class Source:
    """A model under a seed."""

    name: str
    seed: int
    path: Path
    hash: str
    training: dict[str, Any] | None


@dataclass(frozen=True)
class Measure:
    """What is asked of every model alike."""

    pairs: Sequence[PreferencePair]  # one a prompt
    source: str
    sampling: SamplingConfig
    samples: int
    seed: int
    reference: Source
    reward_model: Path | None
    device: torch.device

    @property
    def prompts(self) -> list[Prompt]:
        return [Prompt(prompt_id(pair.prompt), pair.prompt) for pair in self.pairs]


def measure_model(measure: Measure, source: Source, *, on_batch: Callable[[int], None]) -> pd.DataFrame:
    """A row a (prompt, sample): the response and every number of it. `attrs["reasons"]` says what is missing and why.

    Raises:
        ModelError: the model answers nothing at all.
        NotFinite: its probabilities are NaN.
    """
    model, tokenizer = load_policy(source.path, device=measure.device)
    try:
        groups = sample(
            model, tokenizer, measure.prompts, measure.sampling,
            samples=measure.samples, seed=measure.seed, batch_size=128, on_batch=on_batch,
        )  # fmt: skip
    except NotFinite as error:
        raise NotFinite(f"{source.name} ({source.path}): {error}") from error
    completions = [completion for group in groups for completion in group]
    if not any(completion.text.strip() for completion in completions):
        raise ModelError(
            f"{source.name} ({source.path}): all {len(completions)} responses are empty; expected text: check that "
            "its tokenizer belongs to it and that it was trained on dialogues of this form"
        )
    pairs = [pair for pair in measure.pairs for _ in range(measure.samples)]
    rows = _text_rows(measure, source.name, source.seed, pairs, completions)
    rows = rows.assign(**_kl(measure, source, model, tokenizer, pairs, completions))
    rows = rows.assign(**_chosen(measure, model, tokenizer))
    if source.path == measure.reference.path and not (rows["kl_exact"] == 0).all():
        raise ModelError(f"{source.name}: KL of the reference to itself is not 0; expected 0: report this as a bug")
    rows.attrs["reasons"] = {
        column: "another tokenizer than the reference's" for column in KL_COLUMNS if rows[column].isna().all()
    }
    return rows


def measure_anchors(measure: Measure, seed: int) -> pd.DataFrame:
    """The data's own chosen and rejected responses, by every measure that needs no sampling."""
    frames = []
    for name in ("chosen", "rejected"):
        responses = [
            Completion(prompt_id(pair.prompt), 0, getattr(pair, name), (), (), "eos") for pair in measure.pairs
        ]
        rows = _text_rows(measure, name, seed, list(measure.pairs), responses)
        frames.append(rows.assign(n_tokens=_token_counts(measure, responses)))
    return pd.concat(frames, ignore_index=True)


def _text_rows(
    measure: Measure, name: str, seed: int, pairs: Sequence[PreferencePair], completions: Sequence[Completion]
) -> pd.DataFrame:
    """What can be said of a response from its text alone, by rules or by a reward model."""
    prompts, texts = [pair.prompt for pair in pairs], [c.text for c in completions]
    ended = [c.finish_reason != "length" for c in completions]
    rows = pd.DataFrame(
        {
            "model": name,
            "seed": seed,
            "prompt_id": [c.prompt_id for c in completions],
            "sample": [c.sample for c in completions],
            "category": [pair.category for pair in pairs],
            "prompt": prompts,
            "response": texts,
            "reference": [pair.chosen for pair in pairs],
            "finish_reason": [c.finish_reason for c in completions],
            "n_prompt_tokens": np.nan,
            "n_tokens": [float(len(c.ids)) for c in completions],
            "n_words": [n_words(text) for text in texts],
            "ended": [float(e) for e in ended],
            "distinct1": [distinct_n(text, 1) for text in texts],
            "distinct2": [distinct_n(text, 2) for text in texts],
            "repetition": [repetition(text) for text in texts],
            "copied": [copied_share(text, prompt) for text, prompt in zip(texts, prompts, strict=True)],
        }
    )
    if name != "chosen":  # the chosen response is what ROUGE compares with
        scores = rouge_all(rows["reference"], texts)
        for column in ("rouge1", "rouge2", "rougeL"):
            rows[column] = [getattr(score, column) for score in scores]
    if measure.reward_model is not None:
        reward = RewardModel.load(
            measure.reward_model, device=measure.device,
            max_prompt=measure.sampling.max_prompt_tokens, max_response=measure.sampling.max_new_tokens,
        )  # fmt: skip
        rows["reward"] = reward.score(prompts, texts, ended).double().numpy()
    gold = gold_reward_for(measure.source, prompts, texts, ended)
    if gold is not None:
        rows["gold"] = gold.total
        for component, values in gold.components.items():
            rows[f"gold_{component}"] = values
    return rows


def _kl(
    measure: Measure,
    source: Source,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    completions: Sequence[Completion],
) -> dict[str, Any]:
    """KL of each response to the reference, both models scored by the same forward on the same batch."""
    heads = encode_prompts(tokenizer, [p.prompt for p in pairs], max_prompt=measure.sampling.max_prompt_tokens)
    rows = [
        Encoded(head or [tokenizer.eos_token_id], list(c.ids))
        for (head, _), c in zip(heads, completions, strict=True)
    ]  # fmt: skip
    columns: dict[str, Any] = {"n_prompt_tokens": [float(len(row.prompt)) for row in rows]}
    reference, reference_tokenizer = load_policy(measure.reference.path, device=measure.device)
    if reference_tokenizer.get_vocab() != tokenizer.get_vocab():
        return columns | dict.fromkeys(KL_COLUMNS, np.nan)
    if source.path == measure.reference.path:
        reference = model
    per_token: list[list[float]] = [[] for _ in rows]
    numbers = np.zeros((len(rows), 3))
    for group in length_batches([row.length for row in rows], BATCH):
        batch = collate([rows[i] for i in group], pad_id=tokenizer.pad_token_id).to(measure.device)
        terms = token_kl(model, reference, batch)
        difference = (terms.policy_logps - terms.reference_logps).double()
        k3 = torch.expm1(-difference) + difference
        sums = torch.stack([difference.sum(1), k3.sum(1), terms.exact.double().sum(1)], dim=1)
        numbers[group] = sums.cpu().numpy()
        for i, exact, mask in zip(group, terms.exact.cpu(), batch.response_mask.cpu(), strict=True):
            per_token[i] = exact[mask].tolist()
    lengths = np.array([max(1, len(row.response)) for row in rows])
    for i, name in enumerate(("kl_k1", "kl_k3", "kl_exact")):
        columns[name] = numbers[:, i]
        columns[f"{name}_token"] = numbers[:, i] / lengths
    return columns | {"token_kl": per_token}


def _chosen(measure: Measure, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """Log-probability, tokens and bytes of the data's chosen responses, on the rows of sample 0, for perplexity."""
    rows = encode(
        tokenizer, [p.prompt for p in measure.pairs], [p.chosen for p in measure.pairs],
        max_prompt=measure.sampling.max_prompt_tokens, max_response=measure.sampling.max_new_tokens,
    )  # fmt: skip
    policy, total = LogprobModel(model), np.zeros(len(rows))
    with torch.no_grad():
        for group in length_batches([row.length for row in rows], BATCH):
            batch = collate([rows[i] for i in group], pad_id=tokenizer.pad_token_id).to(measure.device)
            total[group] = policy(batch).logps.double().sum(1).cpu().numpy()
    columns = {
        "chosen_logprob": total,
        "chosen_tokens": np.array([float(len(row.response)) for row in rows]),
        "chosen_bytes": np.array([float(len(pair.chosen.encode())) for pair in measure.pairs]),
    }
    spread = {}
    for name, values in columns.items():
        wide = np.full((len(rows), measure.samples), np.nan)
        wide[:, 0] = values
        spread[name] = wide.reshape(-1)
    return spread


def _token_counts(measure: Measure, responses: Sequence[Completion]) -> list[float]:
    """Tokens of the data's responses as the reference's tokenizer counts them, end-of-text included."""
    tokenizer = load_tokenizer(measure.reference.path)
    rows: list[list[int]] = tokenizer([c.text for c in responses], add_special_tokens=False)["input_ids"]
    return [float(len(row) + 1) for row in rows]
