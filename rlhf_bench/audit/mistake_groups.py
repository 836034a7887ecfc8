"""Groups of mistakes by what distinguishes them from the pairs that are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_bench.scorers.features import tags
from rlhf_bench.stats import FloatArray, odds_ratio
from rlhf_bench.types import Estimate

MIN_MISTAKES = 10
_EXAMPLES = 3


@dataclass(frozen=True)
class MistakeGroup:
    tag: str  # of the rejected side against the chosen one, such as "more length"
    n: int  # mistakes with it
    share: float  # of all mistakes
    share_right: float  # of the pairs that are right
    odds: Estimate  # the odds ratio of the two
    examples: list[int]  # indices of the pairs with the largest wrong margins


def mistake_groups(differences: FloatArray, margins: FloatArray) -> list[MistakeGroup]:
    """The tags that are commoner among mistakes, surely (the interval of the odds ratio is above 1), strongest first.

    differences: of features, chosen minus rejected (N, K). A description of what went wrong here: a tag is made with
    the label, so that "the rejected side is longer" is common among the mistakes of every model that likes length as
    the labels do. Whether a model likes it too much is for the regression to say.
    """
    wrong = margins <= 0
    of_pair = [set(tags(row)) for row in differences]
    groups = []
    for tag in sorted(set().union(*of_pair)) if of_pair else []:
        has = np.array([tag in found for found in of_pair])
        n, right = int((has & wrong).sum()), int((has & ~wrong).sum())
        if n < MIN_MISTAKES:
            continue
        odds = odds_ratio([[n, int(wrong.sum()) - n], [right, int((~wrong).sum()) - right]])
        if odds.low > 1:
            shares = n / max(int(wrong.sum()), 1), right / max(int((~wrong).sum()), 1)
            worst_first = np.argsort(np.where(has & wrong, margins, np.inf), kind="stable")
            groups.append(MistakeGroup(tag, n, *shares, odds, worst_first[:_EXAMPLES].tolist()))
    return sorted(groups, key=lambda group: -group.odds.low)
