"""Ratings by criterion and model with their intervals, paired differences, and what describes the judge that rated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from rlhf_bench.judge.rates import bounded_mean
from rlhf_bench.judge.verdicts import blocks
from rlhf_bench.stats import FloatArray, correlation_estimate, crossed_difference, holm
from rlhf_bench.store import order_models
from rlhf_bench.types import Estimate

__all__ = ["measure_ratings", "rating_audit", "rating_differences", "rating_means"]

_RESPONSE = ["model", "prompt_id", "seed", "sample"]


def measure_ratings(rows: pd.DataFrame, *, low: int, high: int) -> dict[str, Any]:
    """Of one judging's rows (`sections.RATINGS`), with `gold` where it is known: means, differences and audit."""
    first = rows[rows["repeat"] == 0]
    return {
        "means": list(rating_means(first, low=low, high=high)),
        "differences": list(rating_differences(first)),
        "audit": rating_audit(rows, high=high),
    }


def rating_means(rows: pd.DataFrame, *, low: int, high: int, level: float = 0.95) -> Iterator[dict[str, Any]]:
    """Each model's mean rating by criterion, over all seeds and within each.

    Samples are averaged first; prompts are crossed with training seeds. Where nearly all prompts have the same rating
    the interval is that of a share of the scale (`rates.bounded_mean`), so it has a width and stays on the scale.
    """

    def estimate(samples: FloatArray) -> Estimate:
        share = bounded_mean((samples - low) / (high - low), level=level)
        limits = {name: low + (high - low) * getattr(share, name) for name in ("value", "low", "high")}
        return replace(share, **limits)

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


def rating_differences(rows: pd.DataFrame, *, level: float = 0.95) -> Iterator[dict[str, Any]]:
    """a minus b on the same seeds and prompts, for every two models; Holm over the pairs of a criterion."""
    for criterion, group in rows.groupby("criterion", sort=False):
        cells = _cells(group)
        pairs = list(combinations(order_models(cells), 2))
        found = [crossed_difference(cells[b], cells[a], level=level) for a, b in pairs]
        adjusted = holm([one.p_paired for one in found])
        for (a, b), one, p in zip(pairs, found, adjusted, strict=True):
            yield {
                "criterion": str(criterion),
                "a": b,  # the later model, as a trained one comes after its base
                "b": a,
                "difference": one.estimate,
                "p_paired": one.p_paired,
                "p_wilcoxon": one.p_wilcoxon,
                "p_holm": p,
                "effect": one.effect,
                "detectable": one.detectable,
            }


def rating_audit(rows: pd.DataFrame, *, high: int) -> dict[str, Estimate]:
    """What describes a judge that rates; no fault in itself.

    unreadable, refused, failed   of the questions that were asked
    highest                       ratings that are the best of the scale: a judge that gives little else tells no
                                  models apart
    repeatability                 ratings that were the same when the question was asked again
    length, gold                  Spearman's correlation of a response's mean rating with its length, and with its gold
                                  reward where that is known
    """
    first = rows[rows["repeat"] == 0]
    criterion = first["criterion"].iloc[0]
    questions = first[first["criterion"] == criterion]
    asked = (questions["status"] != "missing").to_numpy()
    columns = {
        name: np.where(asked, questions["status"] == name, np.nan) for name in ("unreadable", "refused", "failed")
    }
    audit = {
        name: bounded_mean(block)
        for name, block in zip(columns, blocks(questions.assign(**columns), list(columns)), strict=True)
    }
    rating = first["rating"].to_numpy(dtype=np.float64)
    at_top = np.where(np.isfinite(rating), rating == high, np.nan)
    audit["highest"] = bounded_mean(blocks(first.assign(at_top=at_top), ["at_top"])[0])
    again = rows[(rows["repeat"] > 0) & rows["rating"].notna()]
    if len(again):
        key = [*_RESPONSE, "criterion"]
        twice = again.merge(first.loc[first["rating"].notna(), [*key, "rating"]], on=key, suffixes=("", "_before"))
        same = (twice["rating"] == twice["rating_before"]).astype(np.float64)
        audit["repeatability"] = bounded_mean(blocks(twice.assign(same=same), ["same"])[0])
    known = [name for name in ("length", "gold") if name in first.columns]
    of_response = first.groupby(_RESPONSE, sort=True)[["rating", *known]].mean().reset_index()
    for name in known:
        audit[name] = _spearman(of_response, name)
    return audit


def _spearman(responses: pd.DataFrame, column: str) -> Estimate:
    """Over all responses, prompts resampled with all of theirs; both columns as ranks, ties averaged."""
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
