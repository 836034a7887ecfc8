"""Rows of responses -> every number of each: the scorers, one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlhf_bench.scorers import SCORERS
from rlhf_bench.scorers.base import CUT, Columns, EvalContext, Missing, ResponseRow, Scorer

POOL_COLUMNS = ("model", "seed", "prompt_id", "sample", "reward", "gold", "logprob", "first")  # and style's


class Scored(NamedTuple):
    rows: pd.DataFrame  # one row per response: who wrote it, its texts and its numbers
    missing: dict[str, str]  # column -> why it is not there


def scored(rows: Sequence[ResponseRow], context: EvalContext, scorers: Sequence[Scorer] = SCORERS) -> Scored:
    columns, missing, nothing = _row_columns(rows), dict[str, str](), np.full(len(rows), math.nan)
    for scorer in scorers:
        if why := scorer.needs(context):
            found: Columns = dict.fromkeys((c for metric in scorer.metrics for c in metric.sources), why)
        else:
            found = scorer.score(rows, context)
        missing |= {name: values.reason for name, values in found.items() if isinstance(values, Missing)}
        # NaN in place of what is missing, so that the columns of a part are those of each of its shards
        columns |= {name: nothing if isinstance(values, Missing) else values for name, values in found.items()}
    return Scored(pd.DataFrame(columns), missing)


def pool_of(rows: Sequence[ResponseRow], context: EvalContext) -> Scored:
    """The responses that best-of-n chooses from: reward, gold where it is known, style, what they can be summed over.

    The last is logprob, NaN where it is not known at temperature 1, and `first`, the first sample of the prompt with
    the same tokens.
    """
    assert context.sampling is not None
    from rlhf_bench.scorers import gold, reward, style

    table = scored(rows, context, [reward.SCORER, gold.SCORER, style.SCORER]).rows
    first: dict[tuple[str, bytes], int] = {}
    table["first"] = [first.setdefault((row.prompt_id, bytes(row.token_ids)), row.sample) for row in rows]
    table["logprob"] = [row.logprob if context.sampling.exact else math.nan for row in rows]
    kept = [name for name in table.columns if name in POOL_COLUMNS or name.startswith(style.PREFIX)]
    return Scored(table[kept], {})


def _row_columns(rows: Sequence[ResponseRow]) -> dict[str, object]:
    def texts(name: str) -> pd.Series[str]:
        return pd.Series([getattr(row, name) for row in rows], dtype=object)

    tokens = np.empty(len(rows), dtype=object)
    tokens[:] = [np.array(row.token_ids, dtype=np.int32) for row in rows]
    drawn = {"token_ids": tokens} if any(map(len, tokens)) else {}
    return {
        "model": [row.model for row in rows],
        "seed": [row.seed for row in rows],
        "prompt_id": [row.prompt_id for row in rows],
        "sample": [row.sample for row in rows],
        "category": texts("category"),
        "prompt": [row.prompt for row in rows],
        "response": [row.response for row in rows],
        "reference": texts("reference"),
        "finish_reason": texts("finish_reason"),
        f"{CUT}prompt": [math.nan if row.prompt_cut is None else float(row.prompt_cut) for row in rows],
        "n_prompt_tokens": [float(len(row.prompt_ids)) if len(row.prompt_ids) else math.nan for row in rows],
        "n_tokens": [row.n_tokens for row in rows],
        **drawn,
    }
