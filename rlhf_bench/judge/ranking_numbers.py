"""Rankings as verdicts over pairs, mean ranks, and what the place in a line-up did to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from rlhf_bench.judge.permute import sign_flip_p
from rlhf_bench.judge.rates import bounded_mean
from rlhf_bench.judge.verdicts import blocks
from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.store import order_models
from rlhf_bench.types import Estimate

__all__ = ["measure_rankings", "pair_rows", "place_correlations"]

_LINEUP = ["prompt_id", "seed", "sample", "draw", "repeat"]


def pair_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """A verdict for every two responses of each line-up, as `verdicts.fold` takes them, from `sections.RANKINGS` rows.

    The baseline of a pair is the model that tables name first. A line-up and its reverse are the pair's two orders. All
    pairs of a call rest on one answer: they stay together in every resample, since what is resampled are prompts.
    """
    found = []
    for _, lineup in rows.groupby(_LINEUP, sort=True):
        of_model = {str(row["model"]): row for row in lineup.to_dict("records")}
        for baseline, model in combinations(order_models(of_model), 2):
            found.append(_pair(of_model[model], of_model[baseline]))
    return pd.DataFrame(found)


def _pair(model: dict[Any, Any], baseline: dict[Any, Any]) -> dict[str, Any]:
    model_first = model["place"] < baseline["place"]
    winner = None
    if model["status"] == "read":
        lead = np.sign(baseline["rank"] - model["rank"])  # +1: the model is ranked better
        winner = "tie" if lead == 0 else "first" if (lead > 0) == model_first else "second"
    same = ("judge", "base_url", "template", "prompt_id", "seed", "sample", "repeat", "status", "note", "key")
    return {
        **{name: model[name] for name in same},
        "model": model["model"],
        "baseline": baseline["model"],
        "order": "model_first" if model_first else "baseline_first",
        "winner": winner,
        "soft": np.nan,
        "model_length": model["length"],
        "baseline_length": baseline["length"],
    }


def measure_rankings(rows: pd.DataFrame, *, seed: int = 0) -> dict[str, Any]:
    """Of one judging's rows: mean ranks by model, and the judge's audit.

    models      mean rank (1 the best) and the share of line-ups in which the model is ranked first, ties shared
    places      mean score by place, 1 ranked best, 0 last: 0.5 at each place for a judge that the order leaves alone
    position    mean over line-ups of Spearman's correlation of place and rank: 1 where the order alone decides
    position_p  exact under the null that the order changes nothing: then a line-up and its reverse cancel on average
    audit       unreadable, refused and failed answers; repeatability: rankings asked again that stayed the same
    """
    first = rows[rows["repeat"] == 0]
    correlations = place_correlations(first)
    by_lineup = blocks(correlations, ["correlation"])[0]
    share = bounded_mean((by_lineup + 1) / 2, seed=seed)
    of_prompt = nanmean(nanmean(by_lineup, axis=2), axis=0)
    of_prompt = of_prompt[np.isfinite(of_prompt)]
    return {
        "models": list(_by_model(first)),
        "places": list(_by_place(first)),
        "position": _rescaled(share, -1, 1),
        "position_p": sign_flip_p(of_prompt, seed=seed) if len(of_prompt) else None,
        "audit": _audit(rows),
    }


def place_correlations(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a line-up with `correlation`, Spearman's of place and rank; NaN where it was not read, or all tie."""
    found = []
    for key, lineup in rows.groupby(_LINEUP, sort=True):
        x, y = rankdata(lineup["place"]), lineup["rank"].to_numpy(dtype=np.float64)
        value = np.nan
        if np.isfinite(y).all() and np.ptp(y) > 0:
            value = float(np.corrcoef(x, rankdata(y))[0, 1])
        found.append({**dict(zip(_LINEUP, key, strict=True)), "correlation": value})
    return pd.DataFrame(found)


def _by_model(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    k = int(rows["place"].max())
    best = rows["rank"] == 1
    sharing = best.groupby([rows[name] for name in _LINEUP]).transform("sum")
    tops = np.where(rows["rank"].isna(), np.nan, np.where(best, 1 / np.maximum(sharing, 1), 0.0))
    table = rows.assign(share=_scores(rows), top=tops)
    for model in order_models(rows["model"]):
        share, top = blocks(table[table["model"] == model], ["share", "top"])
        rank = _rescaled(bounded_mean(1 - share), 1, k)
        yield {"model": model, "rank": rank, "first": bounded_mean(top)}


def _by_place(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    table = rows.assign(share=_scores(rows))
    for place in sorted({int(place) for place in table["place"]}):
        (block,) = blocks(table[table["place"] == place], ["share"])
        yield {"place": place, "score": bounded_mean(block)}


def _scores(rows: pd.DataFrame) -> FloatArray:
    """(N,): 1 for the best of a line-up, 0 for the last, tied ranks averaged, NaN where nothing was read."""
    k = int(rows["place"].max())
    averaged = rows.groupby(_LINEUP)["rank"].rank(method="average").to_numpy(dtype=np.float64)
    scores: FloatArray = (k - averaged) / (k - 1)
    return scores


def _audit(rows: pd.DataFrame) -> dict[str, Estimate]:
    first = rows[(rows["repeat"] == 0) & (rows["place"] == 1)]
    asked = (first["status"] != "missing").to_numpy()
    columns = {name: np.where(asked, first["status"] == name, np.nan) for name in ("unreadable", "refused", "failed")}
    audit = {
        name: bounded_mean(block)
        for name, block in zip(columns, blocks(first.assign(**columns), list(columns)), strict=True)
    }
    again = rows[(rows["repeat"] > 0) & (rows["status"] == "read")]
    if len(again):
        key = ["model", "prompt_id", "seed", "sample", "draw"]
        read = rows[(rows["repeat"] == 0) & (rows["status"] == "read")]
        twice = again.merge(read[[*key, "rank"]], on=key, suffixes=("", "_before"))
        same = (twice["rank"] == twice["rank_before"]).groupby([twice[name] for name in _LINEUP]).all()
        lineups = same.astype(np.float64).rename("same").reset_index()
        audit["repeatability"] = bounded_mean(blocks(lineups, ["same"])[0])
    return audit


def _rescaled(share: Estimate, low: float, high: float) -> Estimate:
    """A mean of shares, on the scale from `low` (0) to `high` (1)."""
    return replace(share, **{name: low + (high - low) * getattr(share, name) for name in ("value", "low", "high")})
