"""What can be said of a response from its text alone: no model, and no torch but for the gold reward's data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlhf_bench.data.responses import Answer
from rlhf_bench.metrics.probes import Response, probe_columns
from rlhf_bench.scorers.rouge import rouge_parts
from rlhf_bench.scorers.text import copied_share, distinct_n, n_words, repetition
from rlhf_bench.types import FinishReason, Item

__all__ = ["Answered", "Texts", "anchor_rows", "answered", "pool_rows", "text_rows"]


NO_ROUGE = dict.fromkeys(rouge_parts("", ""), math.nan)


@dataclass(frozen=True)
class Texts:
    """A model that is known by its responses alone, under a seed."""

    name: str
    seed: int
    path: Path
    hash: str
    by_prompt: Mapping[str, Sequence[Answer]]


class Answered(NamedTuple):
    item: Item
    sample: int
    text: str
    finish_reason: FinishReason | None
    n_tokens: float  # end-of-text included; NaN if nobody counted


def answered(texts: Texts, items: Sequence[Item]) -> list[Answered]:
    """The responses of a file to `items`, in their order."""
    return [
        Answered(item, sample, answer.text, answer.finish_reason, answer.n_tokens)
        for item in items
        for sample, answer in enumerate(texts.by_prompt.get(item.prompt, ()))
    ]


def anchor_rows(items: Sequence[Item]) -> dict[str, list[Answered]]:
    """The data's own responses under "chosen" and "rejected"; a name without any is left out.

    Those of pairs end by definition; of a file's reference text alone nothing is known.
    """
    sides = {
        "chosen": [
            Answered(item, 0, item.chosen, None if item.rejected is None else "eos", math.nan)
            for item in items
            if item.chosen is not None
        ],
        "rejected": [Answered(item, 0, item.rejected, "eos", math.nan) for item in items if item.rejected is not None],
    }
    return {name: rows for name, rows in sides.items() if rows}


def text_rows(
    name: str, seed: int, rows: Sequence[Answered], *, source: str, metrics: Sequence[str] = ()
) -> pd.DataFrame:  # fmt: skip
    """A row a response. `source` is the data's name: the gold reward is known for some. `metrics` are the suite's own.

    ROUGE is NaN where there is no text to compare with, and left out for the chosen responses, which are that text;
    `ended` is NaN where nobody said how a response ended.
    """
    texts, prompts = [row.text for row in rows], [row.item.prompt for row in rows]
    table = pd.DataFrame(
        {
            "model": name,
            "seed": seed,
            "prompt_id": [row.item.id for row in rows],
            "sample": [row.sample for row in rows],
            "category": pd.Series([row.item.category for row in rows], dtype=object),
            "prompt": prompts,
            "response": texts,
            "reference": pd.Series([row.item.chosen for row in rows], dtype=object),
            "finish_reason": pd.Series([row.finish_reason for row in rows], dtype=object),
            "n_prompt_tokens": np.full(len(rows), np.nan),
            "n_tokens": [row.n_tokens for row in rows],
            "n_words": [n_words(text) for text in texts],
            "ended": [math.nan if row.finish_reason is None else float(row.finish_reason != "length") for row in rows],
            "distinct1": [distinct_n(text, 1) for text in texts],
            "distinct2": [distinct_n(text, 2) for text in texts],
            "repetition": [repetition(text) for text in texts],
            "copied": [copied_share(text, prompt) for text, prompt in zip(texts, prompts, strict=True)],
            **probe_columns(["refused", *metrics], [Response(row.item, row.sample, row.text) for row in rows]),
        }
    )
    if name != "chosen":
        scores = [NO_ROUGE if row.item.chosen is None else rouge_parts(row.item.chosen, row.text) for row in rows]
        for column in NO_ROUGE:
            table[column] = [score[column] for score in scores]
    return table if source != "hh-mini" else _with_gold(table, source)


def pool_rows(name: str, seed: int, rows: Sequence[Answered], *, source: str) -> pd.DataFrame:
    """As `text_rows`, but with no metric except the gold reward: a pool is large, and only chosen from."""
    table = pd.DataFrame(
        {
            "model": name,
            "seed": seed,
            "prompt_id": [row.item.id for row in rows],
            "sample": [row.sample for row in rows],
            "prompt": [row.item.prompt for row in rows],
            "response": [row.text for row in rows],
            "finish_reason": pd.Series([row.finish_reason for row in rows], dtype=object),
        }
    )
    return table if source != "hh-mini" else _with_gold(table, source)


def _with_gold(table: pd.DataFrame, source: str) -> pd.DataFrame:
    from rlhf_bench.scorers.gold import gold_reward_for

    ended = [reason != "length" for reason in table["finish_reason"]]
    gold = gold_reward_for(source, list(table["prompt"]), list(table["response"]), ended)
    if gold is None:
        return table
    return table.assign(gold=gold.total, **{f"gold_{name}": values for name, values in gold.components.items()})
