"""Texts of the data as tokens, and which rows make which optimiser step, by the seed and the step alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from rlhf_bench.errors import DataError
from rlhf_bench.modeling.templates import Template
from rlhf_bench.modeling.tokens import Encoded, count_truncated, length_batches
from rlhf_bench.types import PreferencePair
from trainers.config.recipe import Recipe
from trainers.engine.stage import Stage

Pair = tuple[Encoded, Encoded]  # chosen, rejected


class EncodedPairs(NamedTuple):
    """Preference pairs as tokens, without those that are equal after truncation."""

    pairs: list[Pair]
    margins: list[float | None]  # the data's own, one a pair; None where it has none
    counts: dict[str, int]  # of rows cut or dropped


def template_of(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Template:
    """The form of the prompts. Raises ModelError where the tokenizer does not have it."""
    name = recipe.model if isinstance(recipe.model, str) else "the model"
    return Template.of(recipe.data.prompt_template, tokenizer, name=name)


def encode_rows(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], responses: Sequence[str]
) -> list[Encoded]:
    """Prompts and responses of the data in the recipe's form, as tokens, within the recipe's limits."""
    data, template = recipe.data, template_of(recipe, tokenizer)
    return template.encode(prompts, responses, max_prompt=data.max_prompt_tokens, max_response=data.max_response_tokens)


def encode_pairs(stage: Stage, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]) -> EncodedPairs:
    """Chosen and rejected of each pair as tokens; what is equal after truncation is dropped and counted.

    Raises DataError where nothing is left.
    """
    prompts = [p.prompt for p in pairs]
    chosen, rejected = (
        encode_rows(stage.recipe, tokenizer, prompts, side)
        for side in ([p.chosen for p in pairs], [p.rejected for p in pairs])
    )
    kept = [i for i, (w, r) in enumerate(zip(chosen, rejected, strict=True)) if w.response != r.response]
    if pairs and not kept:
        raise DataError(
            f"{stage.name}: all {len(pairs):,} pairs of {stage.data('train').source} have equal responses once they "
            f"are cut to data.max_response_tokens={stage.recipe.data.max_response_tokens}, expected one that "
            "differs; raise it, or give other data"
        )
    counts = count_truncated([*chosen, *rejected]) | {"equal_after_truncation": len(pairs) - len(kept)}
    return EncodedPairs([(chosen[i], rejected[i]) for i in kept], [pairs[i].margin for i in kept], counts)


def report_cut(
    stage: Stage, *, prompts: int, responses: int, rows: int, prompt_limit: str | None = None
) -> dict[str, float]:
    """Log how many of `rows` prompts and responses are cut, and return the shares for the first row of the stage's log,
    where the alarms find them; nothing where none is cut. `prompt_limit`: key and value, where it is not that of data.
    """
    data, parts = stage.recipe.data, []
    if prompts:
        limit = prompt_limit or f"data.max_prompt_tokens={data.max_prompt_tokens}"
        parts.append(f"{prompts / rows:.0%} of the prompts from the left to {limit}")
    if responses:
        parts.append(
            f"{responses / rows:.0%} of the responses, which lose their end token, to "
            f"data.max_response_tokens={data.max_response_tokens}"
        )
    if not parts:
        return {}
    stage.log(f"of {rows:,} rows are cut: {'; '.join(parts)}")
    return {"data/prompts_cut": prompts / rows, "data/responses_cut": responses / rows}


def report_pairs_cut(stage: Stage, counts: Mapping[str, int], pairs: int) -> dict[str, float]:
    """`report_cut` of both sides of so many pairs and of those that were dropped; `counts` are of `encode_pairs`."""
    rows = 2 * (pairs + counts["equal_after_truncation"] + counts.get("left_over", 0))
    return report_cut(stage, prompts=counts["prompts_cut"], responses=counts["responses_cut"], rows=rows)


def count_steps(rows: int, batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Optimiser steps of `epochs` passes, or `max_steps` where it is given; at least 1. The last batch may be short.

    Both as in transformers' Trainer.
    """
    return max_steps or max(1, math.ceil(math.ceil(rows / batch_size) * epochs - 1e-9))


class Order:
    """Rows of each step: every epoch a new shuffle in batches of similar length.

    `order[step]` can be read in any sequence, so that a resumed stage sees what it would have seen.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.per_epoch = math.ceil(len(lengths) / batch_size)
        self._epoch = -1
        self._batches: list[list[int]] = []

    def __getitem__(self, step: int) -> list[int]:
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            rng = np.random.Generator(np.random.Philox(key=self.seed, counter=epoch))
            self._batches = list(length_batches(self.lengths, self.batch_size, rng=rng))
            self._epoch = epoch
        return self._batches[index]


def both_sides(pairs: Sequence[Pair]) -> list[Encoded]:
    """All chosen, then all rejected: one forward pass scores both."""
    return [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]


def pair_lengths(pairs: Sequence[Pair]) -> list[int]:
    """Tokens of each pair, both sides."""
    return [chosen.length + rejected.length for chosen, rejected in pairs]


def count_tokens(rows: Iterable[Encoded]) -> int:
    return sum(row.length for row in rows)
