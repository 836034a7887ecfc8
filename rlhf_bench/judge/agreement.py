"""How far judges agree with one another or with labels, beyond what chance would give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from rlhf_bench.errors import BadValue, DataError
from rlhf_bench.judge.rates import bounded_mean
from rlhf_bench.judge.verdicts import PAIR_KEYS, blocks
from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.pigeonhole import crossed_sums, percentile
from rlhf_bench.types import Estimate

__all__ = ["agreement", "cohen_kappa", "fleiss_kappa", "judges_agreement", "krippendorff_alpha"]

OUTCOMES = (0.0, 0.5, 1.0)


def cohen_kappa(table: npt.ArrayLike) -> float:
    """Cohen (1960) from a table of counts (C, C): rows one rater's categories, columns the other's.

    kappa = (p_o - p_e) / (1 - p_e) with p_o the share on the diagonal and p_e the sum of products of the margins; NaN
    where both raters always give the same single category (p_e = 1), or the table is empty.
    """
    counts = np.asarray(table, dtype=np.float64)
    return float(_kappas(counts[None])[0])


def _kappas(tables: FloatArray) -> FloatArray:
    """(B, C, C) -> (B,)"""
    total = tables.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = tables / total[:, None, None]
        observed = np.trace(shares, axis1=1, axis2=2)
        expected = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
        kappas: FloatArray = np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)
    return kappas


def fleiss_kappa(counts: npt.ArrayLike) -> float:
    """Fleiss (1971) from counts (N, C): how many of the same number of raters put item i in category c.

    P_i = (sum_c n_ic^2 - n) / (n (n - 1)); kappa = (mean P_i - p_e) / (1 - p_e), p_e the sum of squared shares of the
    categories; NaN where only one category occurs. Raises BadValue unless every item has the same number of raters, 2
    or more.
    """
    table = np.asarray(counts, dtype=np.float64)
    raters = table.sum(axis=1) if table.ndim == 2 and len(table) else np.zeros(0)
    if not len(raters) or raters.min() != raters.max() or raters[0] < 2:
        raise BadValue("counts (items, categories) with the same number of raters, 2 or more, expected for each item")
    n = raters[0]
    observed = float((((table**2).sum(axis=1) - n) / (n * (n - 1))).mean())
    expected = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def krippendorff_alpha(
    ratings: npt.ArrayLike, *, scale: Literal["nominal", "ordinal", "interval"] = "nominal"
) -> float:
    """Krippendorff's alpha (2011, "Computing Krippendorff's Alpha-Reliability") of ratings (raters, units).

    1 - D_o / D_e over the coincidences of values within units; units with fewer than two ratings do not count, a
    missing rating is NaN. NaN where nothing can be paired or only one value occurs.
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise BadValue(f"ratings of shape {table.shape} given; expected (raters, units)")
    values = np.unique(table[np.isfinite(table)])
    if len(values) < 2:
        return math.nan
    counts = (table[:, :, None] == values).sum(axis=0).astype(np.float64)  # (N, V)
    of_unit = counts.sum(axis=1)
    counts, of_unit = counts[of_unit > 1], of_unit[of_unit > 1]
    within = (counts / (of_unit - 1)[:, None]).T @ counts - np.diag((counts / (of_unit - 1)[:, None]).sum(axis=0))
    margins = within.sum(axis=0)
    distance = _distances(values, margins, scale)
    expected = float((np.outer(margins, margins) * distance).sum())
    if expected == 0:
        return math.nan
    return 1 - float(margins.sum() - 1) * float((within * distance).sum()) / expected


def _distances(values: FloatArray, margins: FloatArray, scale: str) -> FloatArray:
    """(V, V) squared differences of two values on the scale."""
    if scale == "nominal":
        return 1.0 - np.eye(len(values))
    if scale == "interval":
        return np.asarray((values[:, None] - values) ** 2)
    middles = np.cumsum(margins) - margins / 2  # sum of margins from c to k, less half of both ends
    return np.asarray((middles[:, None] - middles) ** 2)


def agreement(pairs: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> dict[str, Estimate]:
    """Of folded pairs with the column `gold` (1, 0.5 or 0 for the model): "accuracy" and "cohen_kappa".

    Accuracy is the share of pairs whose outcome (win, tie, loss) is the label's; kappa is over the same three
    categories. Pairs without an outcome or a label are left out. Raises DataError without labels or for other values.
    """
    if "gold" not in pairs.columns:
        raise DataError("pairs without the column 'gold' given; expected a label of 1, 0.5 or 0 for the model a pair")
    gold = pairs["gold"].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = gold[np.isfinite(gold) & ~np.isin(gold, OUTCOMES)]
    if len(wrong):
        raise DataError(f"a label of {wrong[0]:g} given; expected 1 (the model's is better), 0.5 or 0")
    both = pairs[np.isfinite(gold) & pairs["outcome"].notna().to_numpy()]
    if both.empty:
        nothing = Estimate(math.nan, math.nan, math.nan, 0, level, "none", 1, pairs["prompt_id"].nunique())
        return {"accuracy": nothing, "cohen_kappa": nothing}
    same = both.assign(same=(both["outcome"] == both["gold"]).astype(np.float64))
    (block,) = blocks(same, ["same"])
    accuracy = bounded_mean(block, level=level, seed=seed)
    return {"accuracy": accuracy, "cohen_kappa": _kappa_estimate(both, accuracy, level=level, seed=seed)}


def _kappa_estimate(both: pd.DataFrame, accuracy: Estimate, *, level: float, seed: int) -> Estimate:
    """Bootstrapped over prompts and seeds; where all agree, the exact interval of the accuracy at the same margins."""
    columns = {
        f"{row}{column}": ((both["outcome"] == a) & (both["gold"] == b)).astype(np.float64)
        for row, a in enumerate(OUTCOMES)
        for column, b in enumerate(OUTCOMES)
    }
    found = blocks(both.assign(**columns), list(columns))
    features = np.stack([np.nansum(block, axis=2) for block in found], axis=2)  # (S, P, 9)
    table = features.sum(axis=(0, 1)).reshape(3, 3)
    value = cohen_kappa(table)
    n, n_seeds = features.shape[1], features.shape[0]
    if accuracy.value in (0.0, 1.0) and math.isfinite(value):
        shares = table / table.sum()
        expected = float(shares.sum(axis=0) @ shares.sum(axis=1))
        low, high = ((limit - expected) / (1 - expected) for limit in (accuracy.low, accuracy.high))
        return Estimate(value, low, high, n, level, accuracy.method, n_seeds)
    kappas = _kappas(crossed_sums(features, seed=seed).reshape(-1, 3, 3))
    return percentile(value, kappas, n=n, level=level, n_seeds=n_seeds)


def judges_agreement(
    judges: Mapping[str, pd.DataFrame], *, level: float = 0.95, seed: int = 0
) -> dict[tuple[str, str], dict[str, Estimate]]:
    """(a, b) -> accuracy and kappa of judge a against judge b, over the pairs that both decided.

    `judges` maps a name to folded pairs; people are judges too.
    """
    names = list(judges)
    found = {}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            other = judges[b][[*PAIR_KEYS, "outcome"]].rename(columns={"outcome": "gold"})
            joined = judges[a].drop(columns="gold", errors="ignore").merge(other, on=list(PAIR_KEYS))
            found[a, b] = agreement(joined, level=level, seed=seed)
    return found
