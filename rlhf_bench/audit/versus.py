"""Two reward models on the same pairs: which is right more often, and do they err on the same pairs?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from rlhf_bench.audit.pairs import accuracy, mean_over_prompts, right
from rlhf_bench.audit.regression import Mask
from rlhf_bench.audit.regression_fit import Index, groups_of
from rlhf_bench.audit.slices import MIN_SLICE, category_slices, feature_slices, pair_slices
from rlhf_bench.errors import BadValue
from rlhf_bench.scorers.features import FEATURES, feature_differences
from rlhf_bench.stats import FloatArray, benjamini_hochberg, kappa_estimate, mcnemar_p
from rlhf_bench.types import Estimate, PreferencePair

_ALL_PAIRS = 4  # models of which every two are compared


@dataclass(frozen=True)
class Versus:
    first: Estimate  # accuracy, ties half
    second: Estimate
    difference: Estimate  # of accuracies on the same pairs, over prompts
    only_first: int  # prompts where the first is right on more pairs; a tie counts as wrong
    only_second: int
    p: float  # McNemar's exact test of these two counts
    kappa: Estimate  # Cohen's kappa of their mistakes: 0 as by chance, 1 the same pairs; NaN where one never errs
    correlation: float  # of their margins, Pearson
    ensemble: Estimate  # accuracy of the mean of both margins, each in standard deviations


def versus(first: FloatArray, second: FloatArray, prompts: Sequence[str]) -> Versus:
    """Compare two reward models by their margins, chosen minus rejected, (N,) each.

    Raises BadValue for lengths that differ.
    """
    if not len(first) == len(second) == len(prompts):
        raise BadValue(
            f"{len(first)} and {len(second)} margins of {len(prompts)} pairs given; expected as many of each"
        )
    a, b, groups = right(first), right(second), groups_of(prompts)
    together = _standard(first) + _standard(second)
    both = np.array([[((a == 1) == x) & ((b == 1) == y) for y in (True, False)] for x in (True, False)]).sum(axis=2)
    ahead = np.bincount(groups, weights=(first > 0).astype(np.float64) - (second > 0))  # by prompt
    gained, lost = int((ahead > 0).sum()), int((ahead < 0).sum())
    constant = first.std() == 0 or second.std() == 0
    return Versus(
        accuracy(a[None], prompts), accuracy(b[None], prompts), mean_over_prompts(a - b, groups), gained, lost,
        mcnemar_p(gained, lost), kappa_estimate(both),
        float("nan") if constant else float(np.corrcoef(first, second)[0, 1]),
        accuracy(right(together)[None], prompts),
    )  # fmt: skip


@dataclass(frozen=True)
class SliceDifference:
    name: str
    n: int  # pairs
    difference: Estimate  # of accuracies, first minus second, over prompts
    p: float
    q: float  # Benjamini and Hochberg's over the slices of one comparison


def versus_by_slice(
    first: FloatArray, second: FloatArray, prompts: Sequence[str], masks: Mapping[str, Mask]
) -> list[SliceDifference]:
    """The difference of accuracies on each slice (masks of (N,)) with enough pairs, smallest q first.

    A slice may be made with the label ("length: more on the chosen side"), since both models are read on the same
    pairs: the model that is better there and worse on the opposite slice pays more for the feature.
    """
    gap, groups = right(first) - right(second), groups_of(prompts)
    rows = []
    for name, mask in masks.items():
        if int(mask.sum()) >= MIN_SLICE:
            difference, p = _tested(gap[mask], groups[mask])
            rows.append((name, int(mask.sum()), difference, p))
    qs = benjamini_hochberg([row[3] for row in rows])
    return sorted((SliceDifference(*row, q) for row, q in zip(rows, qs, strict=True)), key=lambda row: (row.q, row.p))


def versus_rows(
    models: Sequence[tuple[str, FloatArray]], prompts: Sequence[str], masks: Mapping[str, Mask]
) -> list[dict[str, Any]]:
    """As audit.json stores them: every two of the named models, or each with the last where there are more than four,
    such as a training's checkpoints."""
    pairs = combinations(models, 2) if len(models) <= _ALL_PAIRS else ((model, models[-1]) for model in models[:-1])
    return [versus_row(a, b, prompts, masks) for a, b in pairs]


def label_slices(pairs: Sequence[PreferencePair]) -> dict[str, Mask]:
    """Masks (N,) by name: the chosen side has more or less of a feature; what both sides share; categories."""
    prompts, chosen, rejected = ([getattr(pair, side) for pair in pairs] for side in ("prompt", "chosen", "rejected"))
    by_feature = feature_slices(feature_differences(chosen, rejected), list(FEATURES), "chosen")
    return by_feature | pair_slices(prompts, chosen, rejected) | category_slices([pair.category for pair in pairs])


def versus_row(
    a: tuple[str, FloatArray], b: tuple[str, FloatArray], prompts: Sequence[str], masks: Mapping[str, Mask]
) -> dict[str, Any]:
    """The comparison of two named models as audit.json stores it."""
    slices = [asdict(row) for row in versus_by_slice(a[1], b[1], prompts, masks)]
    return {"a": a[0], "b": b[0], **asdict(versus(a[1], b[1], prompts)), "slices": slices}


def _tested(gap: FloatArray, groups: Index) -> tuple[Estimate, float]:
    """The mean over prompts with a t interval, and the p of a t test against 0."""
    n = np.bincount(groups)
    means = np.bincount(groups, weights=gap)[n > 0] / n[n > 0]
    mean, se = float(means.mean()), float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.inf
    if se == 0:
        return Estimate(mean, mean, mean, len(means), method="constant"), 1.0
    half = float(stats.t.ppf(0.975, max(len(means) - 1, 1))) * se
    p = float(2 * stats.t.sf(abs(mean) / se, max(len(means) - 1, 1)))
    return Estimate(mean, mean - half, mean + half, len(means), method="t").clip((-1.0, 1.0)), p


def _standard(margins: FloatArray) -> FloatArray:
    """Margins over their root mean square: a scale, and no shift, so that a sign stays what it is."""
    scale = float(np.sqrt(np.mean(margins**2)))
    return margins / scale if scale > 0 else margins
