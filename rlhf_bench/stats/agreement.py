"""How far raters agree, beyond what chance would give."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rlhf_bench.errors import BadValue
from rlhf_bench.stats import FloatArray


def cohen_kappa(table: npt.ArrayLike) -> float:
    """Cohen (1960) from a table of counts (C, C): rows one rater's categories, columns the other's.

    kappa = (p_o - p_e) / (1 - p_e) with p_o the share on the diagonal and p_e the sum of products of the margins; NaN
    where both raters always give the same single category (p_e = 1), or the table is empty.
    """
    counts = np.asarray(table, dtype=np.float64)
    return float(cohen_kappas(counts[None])[0])


def cohen_kappas(tables: FloatArray) -> FloatArray:
    """`cohen_kappa` of several tables, (B, C, C) -> (B,)."""
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


def krippendorff_alpha(ratings: npt.ArrayLike) -> float:
    """Krippendorff's nominal alpha (2011, "Computing Krippendorff's Alpha-Reliability") of ratings (raters, units).

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
    distance = 1.0 - np.eye(len(values))  # (V, V): two values agree or not
    expected = float((np.outer(margins, margins) * distance).sum())
    if expected == 0:
        return math.nan
    return 1 - float(margins.sum() - 1) * float((within * distance).sum()) / expected
