"""Perplexity and bits per byte: of the chosen responses under each model, and of all responses under given models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rlhf_bench.scorers.base import CUT, Columns, EvalContext, LoadedModel, Metric, Missing, ResponseRow, Scorer, Values

if TYPE_CHECKING:
    from rlhf_bench.modeling.tokens import Encoded

PERPLEXITY_PREFIXES = ("perplexity:", "bits_per_byte:")  # of every response, under a language model of that name


def language_model_columns(model: str) -> tuple[str, str, str]:
    """The columns of the scores that a language model fills: log-probability, tokens and bytes of each response."""
    return f"logprob:{model}", f"tokens:{model}", f"bytes:{model}"


def needs_the_model(context: EvalContext) -> Missing | None:
    """Why a number of a model's own cannot be computed for responses that were not sampled here."""
    if context.origin == "data":
        return Missing("the data's own responses, not sampled from a model")
    if context.origin == "server" and context.model is None:
        return Missing("a model behind a server: this needs its weights; give NAME=server:MODEL,weights=PATH")
    return Missing("a response file: this needs the model itself") if context.origin == "file" else None


@dataclass(frozen=True)
class EncodedChosen:
    """The data's chosen responses as a model's tokens, one a prompt."""

    at: list[int]  # the rows of sample 0 that have a chosen response
    encoded: list[Encoded]
    n_rows: int

    def spread(self, values: Values) -> Values:
        """A value a chosen response -> one a row, NaN for the others."""
        wide = np.full(self.n_rows, np.nan)
        wide[self.at] = values
        return wide


def encode_chosen(rows: Sequence[ResponseRow], policy: LoadedModel, context: EvalContext) -> EncodedChosen:
    assert context.sampling is not None
    at = [i for i, row in enumerate(rows) if row.sample == 0 and row.reference is not None]
    encoded = policy.template.encode(
        [rows[i].prompt for i in at],
        [rows[i].reference or "" for i in at],
        max_prompt=context.sampling.max_prompt_tokens,
        max_response=context.sampling.max_new_tokens,
    )
    return EncodedChosen(at, encoded, len(rows))


class PerplexityScorer(Scorer):
    order = 80
    metrics = (
        Metric(
            "perplexity", "Perplexity", "", False, 2, "of the chosen responses, by token, end-of-text included",
            kind="perplexity", columns=("chosen_logprob", "chosen_tokens"), needs_model=True,
            tables={"summary": 90, "per_seed": 90}, expected=True,
        ),
        Metric(
            "bits_per_byte", "Bits/byte", "bits/byte", False, 3,
            "of the chosen responses; comparable between tokenizers",
            kind="bits_per_byte", columns=("chosen_logprob", "chosen_bytes"), needs_model=True,
        ),
    )  # fmt: skip

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        return {**_of_chosen(rows, context), **_under_language_models(rows, context)}

    def describe(self, name: str) -> Metric | None:
        kind, colon, model = name.partition(":")
        if not model or f"{kind}{colon}" not in PERPLEXITY_PREFIXES:
            return None
        metric = next(metric for metric in self.metrics if metric.name == kind)
        logprob, tokens, n_bytes = language_model_columns(model)
        by_token = kind == "perplexity"
        end = ", by token, end-of-text included" if by_token else "; comparable between tokenizers"
        return replace(
            metric, name=name, title=f"{metric.title}: {model}", higher_is_better=None, needs_model=False,
            description=f"of the responses under the language model {model}{end}", expected=False,
            columns=(logprob, tokens if by_token else n_bytes), tables={"summary": 110},
        )  # fmt: skip

    def found(self, columns: Collection[str]) -> list[Metric]:
        first = language_model_columns("")[0]
        models = [name.removeprefix(first) for name in columns if name.startswith(first)]
        made = [self.describe(f"{prefix}{model}") for model in models for prefix in PERPLEXITY_PREFIXES]
        return [*super().found(columns), *(metric for metric in made if metric)]


SCORER = PerplexityScorer()


def _of_chosen(rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
    """Log-probability, tokens and bytes of the data's chosen responses, on the rows of sample 0."""
    names = ("chosen_logprob", "chosen_tokens", "chosen_bytes", f"{CUT}chosen")
    if why := needs_the_model(context):
        return dict.fromkeys(names, why)
    policy = context.model
    assert policy is not None
    chosen = encode_chosen(rows, policy, context)
    if not chosen.at:
        return dict.fromkeys(names, Missing("no reference texts to score"))
    from rlhf_bench.modeling.perplexity_model import sequence_logprobs
    from rlhf_bench.modeling.special import continued_text

    pad = policy.tokenizer.pad_token_id
    logprobs = sequence_logprobs(policy.model, chosen.encoded, pad_id=pad, processes=context.processes)
    sizes = []
    for i, row in zip(chosen.at, chosen.encoded, strict=True):
        # of a response that was cut: the bytes of what was scored
        text = continued_text(policy.tokenizer, row.response) if row.response_cut else rows[i].reference or ""
        sizes.append(float(len(text.encode())))
    tokens = np.array([float(len(row.response)) for row in chosen.encoded])
    cut = np.array([float(row.response_cut) for row in chosen.encoded])
    values = (logprobs.numpy(), tokens, np.array(sizes), cut)
    return {name: chosen.spread(found) for name, found in zip(names, values, strict=True)}


def _under_language_models(rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
    prompts, texts = [row.prompt for row in rows], [row.response for row in rows]
    ended = [row.ended for row in rows]
    sizes = np.array([float(len(text.encode())) for text in texts])
    columns: dict[str, Values | Missing] = {}
    for name, model in context.language_models:
        logprob, tokens = (part.numpy() for part in model.score(prompts, texts, ended, processes=context.processes))
        found: tuple[Values | Missing, ...] = (logprob, tokens, np.where(np.isnan(tokens), np.nan, sizes))
        if np.isnan(tokens).all():
            found = (Missing(f"each response is longer than {name} can read"),) * len(found)
        columns |= dict(zip(language_model_columns(name), found, strict=True))
    return columns
