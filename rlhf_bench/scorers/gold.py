"""The gold reward of data whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlhf_bench.types import HH_MINI

__all__ = ["GoldReward", "gold_reward_for"]


class GoldReward(NamedTuple):
    """Gold reward of each response and its components, each (N,) float64; the components sum to the reward."""

    total: np.ndarray
    components: dict[str, np.ndarray]


def gold_reward_for(
    source: str, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]
) -> GoldReward | None:
    """Gold reward of responses to prompts of `source`; None where the source has no known truth."""
    if source != HH_MINI:
        return None
    from rlhf_bench.data import mini

    rows = [mini.gold_components(p, r, ended=e) for p, r, e in zip(prompts, responses, ended, strict=True)]
    components = {name: np.array([row[name] for row in rows], dtype=float) for name in mini.COMPONENTS}
    total = np.sum([*components.values()], axis=0) if rows else np.zeros(0)
    return GoldReward(total, components)
