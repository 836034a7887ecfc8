"""Two reward models on the same pairs: which is right more often, and do they err on the same pairs?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rlhf_bench.audit.pairs import accuracy, right
from rlhf_bench.errors import BadValue
from rlhf_bench.stats import FloatArray, mean_estimate
from rlhf_bench.stats.mcnemar import McNemar, mcnemar
from rlhf_bench.types import Estimate

__all__ = ["Versus", "versus"]


class Versus(NamedTuple):
    first: Estimate  # accuracy, ties half
    second: Estimate
    difference: Estimate  # of accuracies on the same pairs, over prompts
    test: McNemar  # exact; of pairs, a tie wrong
    kappa: float  # Cohen's kappa of their mistakes: 0 as by chance, 1 the same pairs; NaN where one never errs
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
    groups: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(i)
    differences = np.array([float((a - b)[index].mean()) for index in groups.values()])
    together = _standard(first) + _standard(second)
    return Versus(
        accuracy(a[None], prompts), accuracy(b[None], prompts), mean_estimate(differences), mcnemar(a, b),
        _kappa(a == 1, b == 1), _correlation(first, second), accuracy(right(together)[None], prompts),
    )  # fmt: skip


def _standard(margins: FloatArray) -> FloatArray:
    """Margins over their root mean square: a scale, and no shift, so that a sign stays what it is."""
    scale = float(np.sqrt(np.mean(margins**2)))
    return margins / scale if scale > 0 else margins


def _kappa(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    p, q = float(first.mean()), float(second.mean())
    expected = p * q + (1 - p) * (1 - q)
    return (float((first == second).mean()) - expected) / (1 - expected) if expected < 1 else float("nan")


def _correlation(first: FloatArray, second: FloatArray) -> float:
    constant = first.std() == 0 or second.std() == 0
    return float("nan") if constant else float(np.corrcoef(first, second)[0, 1])
