"""The gold reward of data with a known true reward."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from rlhf_bench.scorers.base import AlarmRule, Columns, EvalContext, Metric, ResponseRow, Scorer
from rlhf_bench.types import HH_MINI

PREFIX = "gold_"


class GoldReward(NamedTuple):
    """Gold reward of each response and its components, each (N,) float64; the components sum to the reward."""

    total: np.ndarray
    components: dict[str, np.ndarray]


def gold_reward_for(
    source: str, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]
) -> GoldReward | None:
    """Gold reward of responses to prompts of `source`; None where the source has no known true reward."""
    if source != HH_MINI:
        return None
    from rlhf_bench.data import mini

    rows = [mini.gold_components(p, r, ended=e) for p, r, e in zip(prompts, responses, ended, strict=True)]
    components = {name: np.array([row[name] for row in rows], dtype=float) for name in mini.COMPONENTS}
    total = np.sum([*components.values()], axis=0) if rows else np.zeros(0)
    return GoldReward(total, components)


class GoldScorer(Scorer):
    order = 20
    metrics = (
        Metric(
            "gold", "Gold", "", True, 3, "the known true reward of data that have one",
            compared=True, alarm=AlarmRule(
                "reward against gold", -1, "the reward may no longer measure what it is for", with_reward=True
            ),
            tables={"summary": 40, "per_seed": 40, "gold": 0},
        ),
    )  # fmt: skip

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        prompts, texts = [row.prompt for row in rows], [row.response for row in rows]
        gold = gold_reward_for(context.source, prompts, texts, [row.ended for row in rows])
        if gold is None:
            return {}
        return {"gold": gold.total, **{f"{PREFIX}{name}": values for name, values in gold.components.items()}}

    def describe(self, name: str) -> Metric | None:
        component = name.removeprefix(PREFIX)
        if not component or component == name:
            return None
        title = component.replace("_", " ")
        description = f"the part of the gold reward that is for: {title}"
        return Metric(name, f"Gold: {title}", "", True, 3, description, tables={"gold": 1})

    def found(self, columns: Collection[str]) -> list[Metric]:
        return super().found(sorted(columns))


SCORER = GoldScorer()
