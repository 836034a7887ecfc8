"""Numbers made from a table of counts: the exact test of changes, the odds ratio, the agreement of two raters."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats.resample import LEVEL
from rlhf_bench.types import Estimate


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's (1947) test: of the prompts that changed, each kind is equally likely.

    `gained` prompts went from 0 to 1 and `lost` from 1 to 0. 1 where none changed.
    """
    if min(gained, lost) < 0:
        raise BadValue(f"{gained} and {lost} changed prompts given; expected counts of 0 or more")
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def odds_ratio(table: npt.ArrayLike) -> Estimate:
    """The odds ratio a d / (b c) of independent counts [[a, b], [c, d]], with Woolf's (1955) interval.

    Normal on the log, se = sqrt(1/a + 1/b + 1/c + 1/d); where a count is 0, 0.5 is added to each (Haldane 1956;
    Anscombe 1956). NaN where a row or a column is empty. `n` is the sum of the counts.
    """
    counts = np.asarray(table, dtype=np.float64)
    if counts.shape != (2, 2) or (counts < 0).any():
        raise BadValue(f"counts of shape {counts.shape} given; expected two rows and two columns, none below 0")
    n = int(counts.sum())
    if not (counts.sum(axis=0) > 0).all() or not (counts.sum(axis=1) > 0).all():
        return Estimate(math.nan, math.nan, math.nan, n, LEVEL, "none")
    if (counts == 0).any():
        counts = counts + 0.5
    log = math.log(counts[0, 0] * counts[1, 1] / (counts[0, 1] * counts[1, 0]))
    half = float(stats.norm.ppf(0.5 + LEVEL / 2)) * math.sqrt((1 / counts).sum())
    return Estimate(math.exp(log), math.exp(log - half), math.exp(log + half), n, LEVEL, "woolf")


def kappa_estimate(table: npt.ArrayLike) -> Estimate:
    """Cohen's kappa of independent items from counts (C, C), rows one rater's categories, columns the other's.

    kappa = (p_o - p_e) / (1 - p_e), its variance by Fleiss, Cohen & Everitt (1969), equation 13. NaN where only one
    category occurs.
    """
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or (counts < 0).any() or not counts.sum():
        raise BadValue(
            f"counts of shape {counts.shape} given; expected as many rows as columns, none below 0, one above"
        )
    n = float(counts.sum())
    p = counts / n
    rows, columns, agreed = p.sum(axis=1), p.sum(axis=0), np.diag(p)
    expected, observed = float(rows @ columns), float(agreed.sum())
    if expected > 1 - 1e-12:
        return Estimate(math.nan, math.nan, math.nan, int(n), LEVEL, "none")
    kappa = (observed - expected) / (1 - expected)
    margins = rows[None, :] + columns[:, None]  # of cell i, j: the row total of j and the column total of i
    a = float((agreed * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    off = p * margins**2
    b = (1 - kappa) ** 2 * float(off.sum() - np.diag(off).sum())
    c = (kappa - expected * (1 - kappa)) ** 2
    se = math.sqrt(max(a + b - c, 0.0) / n) / (1 - expected)
    half = float(stats.norm.ppf(0.5 + LEVEL / 2)) * se
    return Estimate(kappa, kappa - half, min(kappa + half, 1.0), int(n), LEVEL, "normal")
