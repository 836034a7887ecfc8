"""Two reward models on the same pairs: which is right more often, and do they err on the same pairs?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlhf_bench.audit.pairs import accuracy, right
from rlhf_bench.errors import BadValue
from rlhf_bench.stats import FloatArray, kappa_estimate, mcnemar_p, mean_estimate
from rlhf_bench.types import Estimate

__all__ = ["Versus", "versus", "versus_by_category", "versus_row"]


class Versus(NamedTuple):
    first: Estimate  # accuracy, ties half
    second: Estimate
    difference: Estimate  # of accuracies on the same pairs, over prompts
    only_first: int  # pairs on which the first is right and the second wrong; a tie counts as wrong
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
    a, b = right(first), right(second)
    together = _standard(first) + _standard(second)
    both = np.array([[((a == 1) == x) & ((b == 1) == y) for y in (True, False)] for x in (True, False)]).sum(axis=2)
    gained, lost = int(both[0, 1]), int(both[1, 0])
    return Versus(
        accuracy(a[None], prompts), accuracy(b[None], prompts), _difference(a - b, prompts), gained, lost,
        mcnemar_p(gained, lost), kappa_estimate(both), _correlation(first, second),
        accuracy(right(together)[None], prompts),
    )  # fmt: skip


def versus_by_category(
    first: FloatArray, second: FloatArray, prompts: Sequence[str], categories: Sequence[str | None]
) -> dict[str, Estimate]:
    """The difference of accuracies within each category, by name."""
    gap = right(first) - right(second)
    found = {}
    for category in sorted({c for c in categories if c is not None}):
        index = [i for i, c in enumerate(categories) if c == category]
        found[category] = _difference(gap[index], [prompts[i] for i in index])
    return found


def versus_row(
    a: tuple[str, FloatArray], b: tuple[str, FloatArray], prompts: Sequence[str], categories: Sequence[str | None]
) -> dict[str, Any]:
    """The comparison of two named models as audit.json stores it."""
    found = versus(a[1], b[1], prompts)
    numbers = {key: v.to_dict() if isinstance(v, Estimate) else v for key, v in found._asdict().items()}
    parts = versus_by_category(a[1], b[1], prompts, categories)
    return {"a": a[0], "b": b[0], **numbers, "by_category": {name: part.to_dict() for name, part in parts.items()}}


def _difference(gap: FloatArray, prompts: Sequence[str]) -> Estimate:
    """The mean over prompts of each prompt's mean."""
    groups: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(i)
    return mean_estimate(np.array([float(gap[index].mean()) for index in groups.values()]))


def _standard(margins: FloatArray) -> FloatArray:
    """Margins over their root mean square: a scale, and no shift, so that a sign stays what it is."""
    scale = float(np.sqrt(np.mean(margins**2)))
    return margins / scale if scale > 0 else margins


def _correlation(first: FloatArray, second: FloatArray) -> float:
    constant = first.std() == 0 or second.std() == 0
    return float("nan") if constant else float(np.corrcoef(first, second)[0, 1])
