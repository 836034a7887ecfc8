"""Numbers of the forms without a winner: ratings on a scale, and ranks of several responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from rlhf_bench.judge.analysis.pairs import blocks, repeated, status_rates
from rlhf_bench.judge.questions import RESPONSE
from rlhf_bench.stats import FloatArray, correlation_estimate, crossed_difference, holm
from rlhf_bench.stats.bounded import bounded_mean
from rlhf_bench.stats.permutation import sign_flip_p
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.store import order_models
from rlhf_bench.types import Estimate

COMPARISON = ["prompt_id", "seed", "sample", "draw", "repeat"]  # what identifies a listwise comparison


def measure_ratings(rows: pd.DataFrame, *, low: int, high: int) -> dict[str, Any]:
    """Means, differences and audit of one judge run's rows (RATINGS), with `gold` where it is known."""
    first = rows[rows["repeat"] == 0]
    return {
        "means": list(rating_means(first, low=low, high=high)),
        "differences": list(rating_differences(first)),
        "audit": rating_audit(rows, high=high),
    }


def rating_means(rows: pd.DataFrame, *, low: int, high: int) -> Iterator[dict[str, Any]]:
    """Each model's mean rating by criterion, over all seeds and within each.

    Samples are averaged first; prompts are crossed with training seeds. Where nearly all prompts have the same rating
    the interval is that of a share of the scale (`bounded_mean`), so it has a width and stays on the scale.
    """

    def estimate(samples: FloatArray) -> Estimate:
        return _rescaled(bounded_mean((samples - low) / (high - low)), low, high)

    for criterion, model, group in _groups(rows):
        (block,) = blocks(group, ["rating"])
        seeds = sorted({int(seed) for seed in group["seed"]})
        within = {str(seed): estimate(block[i : i + 1]) for i, seed in enumerate(seeds)}
        yield {
            "model": model,
            "criterion": criterion,
            "estimate": estimate(block),
            "per_seed": {name: found for name, found in within.items() if found.n},
            "unread": int(group["rating"].isna().sum()),
        }


def rating_differences(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """a minus b on the same seeds and prompts, for every two models; Holm over the pairs of a criterion."""
    for criterion, group in rows.groupby("criterion", sort=False):
        cells = _cells(group)
        pairs = list(combinations(order_models(cells), 2))
        found = [crossed_difference(cells[b], cells[a]) for a, b in pairs]
        adjusted = holm([one.p_paired for one in found])
        for (a, b), one, p in zip(pairs, found, adjusted, strict=True):
            yield {
                "criterion": str(criterion),
                "a": b,  # the later model, as a trained one comes after its base
                "b": a,
                "difference": one.estimate,
                "p_holm": p,
                **{name: getattr(one, name) for name in ("p_paired", "p_wilcoxon", "effect", "detectable")},
            }


def rating_audit(rows: pd.DataFrame, *, high: int) -> dict[str, Estimate]:
    """Numbers that describe a judge that rates; none is a fault in itself.

    unreadable, refused, failed   of the questions that were put
    highest                       ratings that are the best of the scale: a judge that gives little else does not
                                  separate models
    repeatability                 ratings that were the same when the question was repeated
    length, gold                  Spearman's correlation of a response's mean rating with its length, and with its gold
                                  reward where that is known
    """
    first = rows[rows["repeat"] == 0]
    audit = status_rates(first[first["criterion"] == first["criterion"].iloc[0]])
    rating = first["rating"].to_numpy(dtype=np.float64)
    at_top = np.where(np.isfinite(rating), rating == high, np.nan)
    audit["highest"] = bounded_mean(blocks(first.assign(at_top=at_top), ["at_top"])[0])
    twice = repeated(rows, [*RESPONSE, "criterion"], "rating")
    if len(twice):
        audit["repeatability"] = bounded_mean(blocks(twice, ["same"])[0])
    known = [name for name in ("length", "gold") if name in first.columns]
    of_response = first.groupby(list(RESPONSE), sort=True)[["rating", *known]].mean().reset_index()
    return audit | {name: _spearman(of_response, name) for name in known}


def _spearman(responses: pd.DataFrame, column: str) -> Estimate:
    """The correlation over all responses, prompts resampled with theirs; both columns as ranks, ties averaged."""
    both = responses[responses["rating"].notna() & responses[column].notna()]
    ranks = both.assign(x=rankdata(both["rating"]), y=rankdata(both[column]))
    x, y = (np.moveaxis(block, 1, 0).reshape(block.shape[1], -1) for block in blocks(ranks, ["x", "y"]))
    return correlation_estimate(x, y)


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(criterion, model, its rows), criteria in the order of their first rows, models in the order of tables."""
    for criterion, group in rows.groupby("criterion", sort=False):
        of_model: Mapping[str, pd.DataFrame] = {str(model): part for model, part in group.groupby("model")}
        for model in order_models(of_model):
            yield str(criterion), model, of_model[model]


def _cells(rows: pd.DataFrame) -> dict[str, FloatArray]:
    """Model -> (S, P) means over samples; the same seeds and prompts for all, NaN where there is no rating."""
    means = rows.pivot_table(index="seed", columns=["model", "prompt_id"], values="rating", dropna=False)
    seeds, prompts = sorted(set(rows["seed"])), sorted(set(rows["prompt_id"]))
    return {
        str(model): means.reindex(seeds)[model].reindex(columns=prompts).to_numpy(dtype=np.float64)
        for model in dict.fromkeys(rows["model"])
    }


def measure_rankings(rows: pd.DataFrame, *, seed: int = 0) -> dict[str, Any]:
    """Mean ranks by model and the judge's audit, from one judge run's rows.

    models      mean rank (1 the best), and how often the model is ranked first, ties shared
    places      mean score by place, 1 ranked best, 0 last: 0.5 at each place for a judge that ignores the order
    position    mean of Spearman's correlation of place and rank: 1 where the order alone decides
    position_p  exact under the null that the order changes nothing: then an order and its reverse cancel on average
    audit       unreadable, refused and failed answers; repeatability: repeated rankings that stayed the same
    """
    first = rows[rows["repeat"] == 0]
    correlations = place_correlations(first)
    by_comparison = blocks(correlations, ["correlation"])[0]
    share = bounded_mean((by_comparison + 1) / 2, seed=seed)
    of_prompt = nanmean(nanmean(by_comparison, axis=2), axis=0)
    of_prompt = of_prompt[np.isfinite(of_prompt)]
    return {
        "models": list(_by_model(first)),
        "places": list(_by_place(first)),
        "position": _rescaled(share, -1, 1),
        "position_p": sign_flip_p(of_prompt, seed=seed) if len(of_prompt) else None,
        "audit": _ranking_audit(rows),
    }


def place_correlations(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a listwise comparison: Spearman's `correlation` of place and rank; NaN if it was not read or all tie."""
    found = []
    for key, comparison in rows.groupby(COMPARISON, sort=True):
        x, y = rankdata(comparison["place"]), comparison["rank"].to_numpy(dtype=np.float64)
        value = np.nan
        if np.isfinite(y).all() and np.ptp(y) > 0:
            value = float(np.corrcoef(x, rankdata(y))[0, 1])
        found.append({**dict(zip(COMPARISON, key, strict=True)), "correlation": value})
    return pd.DataFrame(found)


def _by_model(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    k = int(rows["place"].max())
    best = rows["rank"] == 1
    sharing = best.groupby([rows[name] for name in COMPARISON]).transform("sum")
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
    """(N,): 1 for the best of a comparison, 0 for the last, tied ranks averaged, NaN where nothing was read."""
    k = int(rows["place"].max())
    averaged = rows.groupby(COMPARISON)["rank"].rank(method="average").to_numpy(dtype=np.float64)
    scores: FloatArray = (k - averaged) / (k - 1)
    return scores


def _ranking_audit(rows: pd.DataFrame) -> dict[str, Estimate]:
    audit = status_rates(rows[(rows["repeat"] == 0) & (rows["place"] == 1)])
    twice = repeated(rows, [*RESPONSE, "draw"], "rank")
    if len(twice):
        same = twice.groupby(COMPARISON)["same"].min().reset_index()
        audit["repeatability"] = bounded_mean(blocks(same, ["same"])[0])
    return audit


def _rescaled(share: Estimate, low: float, high: float) -> Estimate:
    """A mean of shares, on the scale from `low` (0) to `high` (1)."""
    return replace(share, **{name: low + (high - low) * getattr(share, name) for name in ("value", "low", "high")})
