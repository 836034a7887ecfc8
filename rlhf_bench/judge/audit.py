"""The judge's own audit: rates that describe it, which are no faults in themselves. Faults are `biases`'."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from rlhf_bench.errors import DataError
from rlhf_bench.judge.rates import bounded_mean
from rlhf_bench.judge.types import Comparison
from rlhf_bench.judge.verdicts import PAIR_KEYS, blocks, fold, model_scores
from rlhf_bench.types import Estimate

__all__ = ["judge_rates", "lengths", "repeatability"]


def lengths(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """PAIR_KEYS, `model_length` and `baseline_length` (characters, white space around left out), to merge with rows."""
    columns = [*PAIR_KEYS, "model_length", "baseline_length"]
    rows = [
        (
            c.model,
            c.baseline,
            c.seed,
            c.prompt_id,
            c.sample,
            len(c.model_response.strip()),
            len(c.baseline_response.strip()),
        )
        for c in comparisons
    ]
    return pd.DataFrame(rows, columns=columns)


def judge_rates(rows: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> dict[str, Estimate]:
    """What describes a judge, from a row a question (as `verdicts.fold` takes them); no fault in itself.

    consistency      pairs read in both orders that name the same side, or a tie, twice
    first_position   verdicts for a side that name the first
    longer           verdicts for a side that name the longer response (rows with model_length and baseline_length)
    tie              verdicts that are a tie
    unreadable, refused, failed   of the questions that were asked
    """
    pairs = fold(rows)
    if "repeat" in rows.columns:
        rows = rows[rows["repeat"] == 0]
    read, winner = (rows["status"] == "read").to_numpy(), rows["winner"].to_numpy(dtype=object)
    sided = read & (winner != "tie")
    asked = (rows["status"] != "missing").to_numpy()
    columns = {
        "first_position": np.where(sided, winner == "first", np.nan),
        "tie": np.where(read, winner == "tie", np.nan),
        **{name: np.where(asked, rows["status"] == name, np.nan) for name in ("unreadable", "refused", "failed")},
    }
    if {"model_length", "baseline_length"} <= set(rows.columns):
        lead = np.sign((rows["model_length"] - rows["baseline_length"]).to_numpy(dtype=np.float64, na_value=0.0))
        of_longer = np.where(lead > 0, model_scores(rows), 1 - model_scores(rows))
        columns["longer"] = np.where(sided & (lead != 0), of_longer, np.nan)
    same = (pairs["when_first"] == pairs["when_second"]).where(pairs["outcome"].notna())
    consistency = blocks(pairs.assign(same=same.astype(np.float64)), ["same"])[0]
    rates = dict(zip(columns, blocks(rows.assign(**columns), list(columns)), strict=True))
    ordered = {"consistency": consistency} | rates
    return {name: bounded_mean(block, level=level, seed=seed) for name, block in ordered.items()}


def repeatability(rows: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Share of questions asked again (`repeat` above 0) with the same verdict as the first time, of those read twice.

    Raises DataError without the column `repeat`.
    """
    if "repeat" not in rows.columns:
        raise DataError("verdicts without the column 'repeat' given; expected 0 for the first answer, 1 for the next")
    key = [*PAIR_KEYS, "order"]
    read = rows[rows["status"] == "read"]
    first = read.loc[read["repeat"] == 0, [*key, "winner"]]
    twice = read.loc[read["repeat"] > 0, [*key, "winner"]].merge(first, on=key, suffixes=("", "_before"))
    twice = twice.assign(same=(twice["winner"] == twice["winner_before"]).astype(np.float64))
    return bounded_mean(blocks(twice, ["same"])[0], level=level, seed=seed)
