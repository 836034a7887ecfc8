"""A reward model that scores several responses to a prompt: how high it ranks the right ones.

Ties count against the model everywhere: a response is above another only with a higher score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from rlhf_bench.errors import BadValue
from rlhf_bench.stats import FloatArray, mean_estimate, share_estimate
from rlhf_bench.types import Estimate


class ListScores(NamedTuple):
    """The scores of one prompt's responses and which of them are right."""

    prompt: str
    scores: FloatArray  # (R,)
    is_right: npt.NDArray[np.bool_]  # (R,); at least one is, and one is not
    category: str | None = None
    texts: tuple[str, ...] | None = None  # R responses, where they are known


@dataclass(frozen=True)
class Listwise:
    """Over prompts, with equal weight."""

    top1: Estimate  # the share of prompts where the best right response is above every wrong one
    separated: Estimate  # the share where every right response is: another number where several are right
    mrr: Estimate  # mean reciprocal rank of the best right response: 1 / (1 + wrong ones that score as high or higher)
    kendall: Estimate  # mean Kendall tau-b of scores and rightness; a prompt with all scores equal counts as 0
    pairs: Estimate  # the share of (right, wrong) pairs that are in order
    ties: int  # prompts where the best right response ties with the best wrong one


def listwise(rows: Sequence[ListScores]) -> Listwise:
    """Ranking metrics of a reward model. Raises BadValue for a prompt without a right and a wrong response."""
    if not rows:
        raise BadValue("no prompt with scores given; expected one or more")
    beaten, separated, best, ordered, tau = [], [], [], [], []
    ties = 0
    for row in rows:
        right, wrong = row.scores[row.is_right], row.scores[~row.is_right]
        if not len(right) or not len(wrong):
            raise BadValue(f"the prompt {row.prompt[:60]!r} has {len(right)} right and {len(wrong)} wrong responses; "
                           "expected one or more of each")  # fmt: skip
        above = int((wrong >= right.max()).sum())
        beaten.append(float(above == 0))
        separated.append(float(right.min() > wrong.max()))
        best.append(1 / (1 + above))
        ties += bool(right.max() == wrong.max())
        ordered.append(float((right[:, None] > wrong).mean()))
        is_flat = (row.scores == row.scores[0]).all()
        tau.append(0.0 if is_flat else float(stats.kendalltau(row.scores, row.is_right).statistic))
    return Listwise(
        share_estimate(beaten), share_estimate(separated), _bounded(best, 0.0), _bounded(tau, -1.0),
        _bounded(ordered, 0.0), ties,
    )  # fmt: skip


def _bounded(values: Sequence[float], least: float) -> Estimate:
    return mean_estimate(np.array(values)).clip((least, 1.0))
